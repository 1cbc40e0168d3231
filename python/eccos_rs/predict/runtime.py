"""The only place that imports ONNX Runtime: its telemetry is off unless the user asks for it."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["TELEMETRY_SWITCH", "onnxruntime"]

#: Read by ONNX Runtime (1.31 and later) when it is imported. From then on it would write events (a device
#: identifier, the path of the executable, the processor) to the user's cache folder and send them.
TELEMETRY_SWITCH = "ORT_DISABLE_TELEMETRY"


def onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off.

    A value of ``ORT_DISABLE_TELEMETRY`` that is already in the environment stays: ``0`` leaves telemetry on.
    A runtime that the program has imported before is taken as it is.

    Returns
    -------
    module
    """
    os.environ.setdefault(TELEMETRY_SWITCH, "1")
    import onnxruntime as runtime

    return runtime
