"""ONNX whose weights are stored as values and indices; runtimes make dense matrices of them again."""

import numpy as np

from export.onnx_model import encode_model, onnx_model
from export.sparse_policy import SparsePolicy


def sparse_onnx(policy: SparsePolicy, digest: str, constants: bool = False) -> bytes:
    """Return policy.onnx with every layer's weight as SparseTensorProto: nonzero values and their row-major places.

    They are in the graph's sparse_initializer, or (constants) the sparse_value of Constant nodes. The type checker of
    onnx gives a sparse_initializer a type that no operator of ONNX takes, so only the second passes its full check.

    Raises:
        ToolError: onnx is not installed, or its checker refuses the model.
    """
    dense = onnx_model(policy, digest)
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(dense)
    kept, nodes = [], []
    for tensor in model.graph.initializer:
        if not tensor.name.endswith(".weight"):
            kept.append(tensor)
            continue
        matrix = numpy_helper.to_array(tensor)
        places = np.flatnonzero(matrix).astype(np.int64)
        sparse = helper.make_sparse_tensor(
            numpy_helper.from_array(matrix.ravel()[places], tensor.name),
            numpy_helper.from_array(places, f"{tensor.name}.places"),
            list(matrix.shape),
        )
        if constants:
            nodes.append(
                helper.make_node("Constant", [], [tensor.name], name=f"{tensor.name}_constant", sparse_value=sparse)
            )
        else:
            model.graph.sparse_initializer.append(sparse)
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    return encode_model(model, types=constants)
