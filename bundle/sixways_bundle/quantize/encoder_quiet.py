"""Keeps libraries quiet while a variant is made: standard output belongs to the build."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

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
# The first makes OpenVINO's converter and NNCF send nothing, the second NNCF alone, the third ONNX
# Runtime; none has another switch that leaves the user's home as it is.
_NO_TELEMETRY = {"CI": "true", "NNCF_CI": "1", "ORT_DISABLE_TELEMETRY": "1"}


@contextmanager
def quiet() -> Iterator[None]:
    """No telemetry, no output of libraries on stdout, none of the expected warnings.

    What a library prints (progress bars) is dropped; what goes wrong is an exception. Changes the
    process's environment and logging while it lasts: a build has its process for itself.
    """
    environment = {name: os.environ.get(name) for name in _NO_TELEMETRY}
    root, disabled = logging.getLogger(), logging.root.manager.disable
    handlers, level = list(root.handlers), root.level
    os.environ.update(_NO_TELEMETRY)
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
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
