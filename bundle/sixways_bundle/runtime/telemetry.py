"""Keeps engines from telling their makers what runs here."""

from __future__ import annotations

import os
import sys


def switch_off() -> None:
    """Call it before `openvino`, `openvino_genai`, `nncf` or `onnxruntime` is imported.

    All of them give the machine an id in the user's home when they are imported, and send events
    unless they were told not to. That is too late to tell them, and their switches are a file in
    the user's home (OpenVINO) or a variable (ONNX Runtime; `disable_telemetry_events()` comes
    after the fact).
    """
    # OpenVINO and NNCF use stubs of their own where the package that sends is not installed; None
    # makes its import fail just like that.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
