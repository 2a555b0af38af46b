"""Quantities as Kubernetes writes them: `500m`, `2`, `1.5Gi`.

Grammar: Kubernetes API, "Quantity" (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/).
Signs and the tiny suffixes `n` and `u` are left out: no pod can ask for them.
"""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?", re.ASCII)
_DECIMAL = {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)}
_BINARY = {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)}
_SCALES = {"": Decimal(1), "m": Decimal("0.001"), **_DECIMAL, **_BINARY}


def parse_quantity(text: str) -> Decimal | None:
    """The number it stands for; None where it is no quantity."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return None
    number, suffix = found[1], found[2] or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix != "Ei":
        return Decimal(f"{number}{suffix}")
    return Decimal(number) * _SCALES[suffix]
