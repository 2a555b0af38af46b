"""Keeps libraries quiet while a variant is made: standard output belongs to the build."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from sixways_bundle.runtime import telemetry


@contextmanager
def quiet() -> Iterator[None]:
    """No telemetry, no output of libraries on stdout, no notes in the log below an error.

    What a library prints (progress bars) is dropped; what goes wrong is an exception. Changes the
    process's logging and output while it lasts: a build has its process for itself.
    """
    root, disabled = logging.getLogger(), logging.root.manager.disable
    handlers, level = list(root.handlers), root.level
    telemetry.switch_off()
    logging.disable(logging.WARNING)  # errors still come through
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            warnings.catch_warnings(),
        ):
            # Python says this of torchao's source whenever it compiles it.
            warnings.filterwarnings("ignore", "invalid escape sequence", DeprecationWarning)
            yield
    finally:
        logging.disable(disabled)
        # ONNX Runtime's quantizer sets up logging for the whole process when it is imported.
        root.handlers[:], root.level = handlers, level
