"""Keeps libraries quiet while a variant is made: standard output belongs to the build."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from sixways_bundle.runtime import telemetry

# Message, category and module of each: a warning that is none of these is shown.
_EXPECTED: tuple[tuple[str, type[Warning], str], ...] = (
    # Our own names of the two dynamic axes: the exporter keeps one of each.
    (r"# The axis name: .* will not be used", UserWarning, r"torch\.onnx\."),
    # Between these libraries; nothing that a caller of theirs can change.
    (r".*is deprecated", FutureWarning, r"torch\."),
    (r".*is deprecated", DeprecationWarning, r"torch\."),
    (r".*is deprecated", FutureWarning, r"(transformers|torchao|onnxscript|nncf|openvino)\."),
    (r".*is deprecated", DeprecationWarning, r"(torchao|onnxscript|nncf|openvino|onnx)\."),
)


@contextmanager
def quiet() -> Iterator[None]:
    """No telemetry, no output of libraries on stdout, none of the expected warnings.

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
            for message, category, module in _EXPECTED:
                warnings.filterwarnings("ignore", message, category, module)
            yield
    finally:
        logging.disable(disabled)
        # ONNX Runtime's quantizer sets up logging for the whole process when it is imported.
        root.handlers[:], root.level = handlers, level
