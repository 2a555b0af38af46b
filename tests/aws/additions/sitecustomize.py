"""Python loads a module of this name when it starts: what the server has to know beyond moto."""

import over_tls  # noqa: F401
import scaling_groups  # noqa: F401
