"""Loaded by the Python that runs the AWS server when it starts: what moto lacks or gets wrong."""

import contextlib

# Without moto it is not the interpreter that the server runs in.
with contextlib.suppress(ImportError):
    import api_gateway  # noqa: F401
    import budget_tags  # noqa: F401
    import over_tls  # noqa: F401
    import sagemaker_types  # noqa: F401
    import scaling_groups  # noqa: F401
