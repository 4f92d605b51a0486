"""Freeze a student into a sparse policy and render it as ONNX and C."""
