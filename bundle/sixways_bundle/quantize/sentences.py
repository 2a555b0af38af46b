"""The sentences that encoders are calibrated with and measured on.

They are files of this package rather than text found on the machine, so that a figure means the
same on every machine and the two sets never share a sentence.
"""

from __future__ import annotations

from importlib import resources
from typing import Literal

from sixways_bundle.errors import BundleError


def load(name: Literal["calibration", "evaluation"]) -> list[str]:
    """The sentences of one set, in the file's order.

    Raises:
        BundleError: the file is missing or empty: the package was not installed whole.
    """
    file = resources.files("sixways_bundle.quantize").joinpath("data", f"{name}.txt")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    sentences = [line.strip() for line in lines if line.strip()]
    if not sentences:
        raise BundleError(
            f"the {name} sentences of sixways are missing. Fix: install sixways again"
        )
    return sentences
