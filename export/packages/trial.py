"""An ONNX model run once in the onnxruntime that is installed, so that a package says what it was tried with."""

from dataclasses import dataclass

import numpy as np

from export.errors import ToolError
from export.squash import Float32


@dataclass(frozen=True)
class Trial:
    """The runtime's version and the actions (n, action); or why there are none."""

    version: str | None
    actions: Float32 | None
    reason: str | None = None


def run_model(model: bytes, observations: Float32) -> Trial:
    """Return what onnxruntime makes of stacked observations (n, history*base), single-threaded.

    Raises:
        ToolError: it refuses the model.
    """
    try:
        import onnxruntime
    except ImportError:
        return Trial(None, None, "not run: onnxruntime is not installed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (actions,) = session.run(None, {"observation": observations})
    except Exception as error:  # onnxruntime's exceptions share no base class below Exception
        raise ToolError(
            f"onnxruntime {onnxruntime.__version__} cannot run this model: {str(error).splitlines()[0]}; "
            "install a newer one, or package another kind"
        ) from None
    return Trial(onnxruntime.__version__, np.asarray(actions, dtype=np.float32))
