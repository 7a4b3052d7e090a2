"""Learns: pictures in, classes out."""

import os

# Since 1.29 onnxruntime reports to its maker unless this is set before it is loaded (microsoft/onnxruntime#27379).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
