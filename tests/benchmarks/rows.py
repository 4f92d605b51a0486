"""Rows of results as benchmarks write them, for their tests."""

from typing import Any

BEGUN = {"machine": "here", "commit": "c" * 40}


TEACHER = [100.0] * 10


def row(**changes: Any) -> dict[str, Any]:
    return {
        "environment": "One",
        "teacher": "teacher.npz",
        "method": "linear",
        "size": 100,
        "threshold": None,
        "seed": 0,
        "pruned_to": 100,
        "kept_weights": 90,
        "kept_parameters": 95,
        "density": 0.5,
        "bytes": 700,
        "dense_bytes": 400,
        "steps": 1_000,
        "return_iqm": 99.0,
        "teacher_return_iqm": 100.0,
        "teacher_parameters": 5_000,
        "cpu_seconds": 3.0,
        "commit": "c" * 40,
        "sources": "0.1 abc",
        "returns": [99.0] * 20,
    } | changes
