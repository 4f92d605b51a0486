"""C code of the generators that pip installs, each behind the same call: `peer_evaluate(observation, action)`.

A peer takes the stacked observation; keeping the history is left to its caller. What a peer asks of the caller
(buffers, quantised inputs, a tanh that it does not have) is in its peer.h and is counted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.onnx_model import IR_VERSION, OPSET
from export.squash import Float64
from export.student_file import Student

NOT_MEASURED = {
    "onnx2c": "not on PyPI",
    "emlearn's inline and fixed-point forms": "emlearn 0.23.2 raises ValueError when it generates either for these "
    "networks",
    "keras2c": "its wheel holds no C sources, and it needs tensorflow",
    "baremetal-nn": "its wheel lacks nn.h, which the generated code includes",
    "tflite-micro": "the wheel is an interpreter for the host; it generates no C",
    "m2cgen": "generates no neural networks",
    "nn4mc": "reads only HDF5 files of Keras; its code calls malloc in every layer",
    "shrinkray-cli": "calls emlearn, or tensorflow",
    "sofie": "C++ for hosts, linked with BLAS",
    "aidge-export-arm-cortexm": "writes whole projects for STM32 boards; not tried",
    "hls4ml": "for FPGAs",
}
"""What else pip serves, or is known for this work, and why it has no row."""

_STACKED = "static void peer_evaluate(const float *observation, float *action)"
_BAKENN = """\
#include "bknn_net.h"
#include <math.h>

static uint8_t arena[BKNN_NET_ARENA_SIZE] __attribute__((aligned(BKNN_NET_ARENA_ALIGNMENT)));
static int8_t input[BKNN_NET_INPUT_SIZE];
static int8_t output[BKNN_NET_OUTPUT_SIZE];

static void peer_evaluate(const float *observation, float *action) {
    for (uint32_t i = 0; i < BKNN_NET_INPUT_SIZE; ++i) {
        const float scaled = observation[i] * (1.0f / BKNN_NET_INPUT_SCALE);
        int32_t code = (int32_t)(scaled + (scaled < 0.0f ? -0.5f : 0.5f)) + BKNN_NET_INPUT_ZERO_POINT;
        code = code < -128 ? -128 : code;
        input[i] = (int8_t)(code > 127 ? 127 : code);
    }
    bknn_net_infer(arena, input, output);
    action[0] = tanhf((float)(output[0] - (BKNN_NET_OUTPUT_ZERO_POINT)) * BKNN_NET_OUTPUT_SCALE);
}
"""


@dataclass(frozen=True)
class PeerCode:
    """A folder with peer.h, and what else its code needs: C sources, include folders, macros."""

    folder: Path
    sources: tuple[Path, ...] = ()
    includes: tuple[Path, ...] = ()
    macros: tuple[str, ...] = ()


@dataclass(frozen=True)
class Peer:
    """One way to turn a network into C: the package, what distinguishes it from the package's other ways, the writer.

    write(student, calibration observations (n, inputs), folder) fills the folder. target_names: None for any.
    """

    tool: str
    variant: str
    write: Callable[[Student, Float64, Path], PeerCode]
    target_names: tuple[str, ...] | None = None


def onnx_bytes(student: Student) -> bytes:
    """Return the network as ONNX in its plainest form: Gemm, Relu, Tanh; observation (1, inputs) -> action (1, 1)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, initializers, value = [], [], "observation"
    for index, layer in enumerate(student.layers):
        for name, tensor in (("weight", layer.weight), ("bias", layer.bias)):
            initializers.append(numpy_helper.from_array(tensor, f"{name}{index}"))
        nodes.append(helper.make_node("Gemm", [value, f"weight{index}", f"bias{index}"], [f"sum{index}"], transB=1))
        value = "action" if index + 1 == len(student.layers) else f"value{index}"
        nodes.append(helper.make_node(layer.activation.capitalize(), [f"sum{index}"], [value]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("observation", student.widths[0]), ("action", student.widths[-1]))
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    encoded: bytes = model.SerializeToString()
    return encoded


def _emlearn(student: Student, _calibration: Float64, folder: Path) -> PeerCode:
    import emlearn
    from emlearn import net

    activations = [layer.activation for layer in student.layers]
    weights, biases = [layer.weight.T for layer in student.layers], [layer.bias for layer in student.layers]
    code = net.c_generate_net_loadable(activations, weights, biases, "net")
    call = f"net_regress(observation, {student.widths[0]}, action, 1);"
    (folder / "peer.h").write_text(f"{code}\n{_STACKED} {{\n    {call}\n}}\n", encoding="utf-8")
    return PeerCode(folder, includes=(Path(emlearn.__file__).parent,))


def _emx(student: Student, _calibration: Float64, folder: Path) -> PeerCode:
    (folder / "net.onnx").write_bytes(onnx_bytes(student))
    # Weights of more than 100 KiB would go into a binary file that a program has to load.
    options = ("--large-weight-threshold", "0", "--model-name", "net")
    command = [sys.executable, "-m", "emx_onnx_cgen", "compile", "net.onnx", "net.c", *options]
    subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=300)
    declaration = f"void net(const float observation[1][{student.widths[0]}], float action[1][1]);"
    call = "net((const float (*)[])observation, (float (*)[1])action);"
    text = f"{declaration}\n{_STACKED} {{\n    {call}\n}}\n"
    (folder / "peer.h").write_text(text, encoding="utf-8")
    return PeerCode(folder, sources=(folder / "net.c",))


def _torch_module(student: Student) -> Any:
    """The network up to its last tanh."""
    import torch

    modules: list[torch.nn.Module] = []
    for layer in student.layers:
        linear = torch.nn.Linear(*layer.weight.shape[::-1])
        linear.load_state_dict({"weight": torch.from_numpy(layer.weight), "bias": torch.from_numpy(layer.bias)})
        modules.append(linear)
        modules.append(torch.nn.ReLU())
    return torch.nn.Sequential(*modules[:-1]).eval()


def _nncc(student: Student, _calibration: Float64, folder: Path) -> PeerCode:
    import nncc
    import torch

    # Its code never writes the output of a network that ends in an activation (2.0.9): tanh is left to the caller.
    code = nncc.compile(_torch_module(student), torch.zeros(1, student.widths[0]), name="net")
    call = "net_inference(observation, action);\n    action[0] = tanhf(action[0]);"
    text = f"#define NET_IMPLEMENTATION\n{code}\n{_STACKED} {{\n    {call}\n}}\n"
    (folder / "peer.h").write_text(text, encoding="utf-8")
    return PeerCode(folder)


def _bakenn(kernels: str) -> Callable[[Student, Float64, Path], PeerCode]:
    """Its int8 compiler: kernels portable, packed (its own SMLAD loops) or cmsis-nn. It has no tanh: libm's is used."""

    def write(student: Student, calibration: Float64, folder: Path) -> PeerCode:
        import bakenn
        import torch

        granularity = bakenn.LinearWeightGranularity
        policy = bakenn.KernelPolicy.PORTABLE if kernels == "portable" else bakenn.KernelPolicy.REQUIRE_OPTIMIZED
        samples = torch.from_numpy(calibration.astype(np.float32))
        bakenn.compile_torch_ptq(
            _torch_module(student),
            samples[:1],
            [sample[None] for sample in samples],
            folder,
            name="net",
            target="portable32" if kernels == "portable" else "cortex-m4",
            backend_options=bakenn.CBackendOptions(kernel_policy=policy, enable_cmsis_nn=kernels == "cmsis-nn"),
            # The CMSIS-NN function for layers of int8 takes one scale for all rows.
            ptq_options=bakenn.PTQOptions(granularity.PER_TENSOR if kernels == "cmsis-nn" else granularity.PER_CHANNEL),
        )
        (folder / "peer.h").write_text(_BAKENN, encoding="utf-8")
        includes = tuple(sorted(folder.glob("third_party/*/Include")))
        macros = ("BAKENN_CMSIS_NN_BUILTIN_MEMORY",) if includes else ()
        return PeerCode(folder, tuple(sorted(folder.rglob("*.c"))), includes, macros)

    return write


_SIMD = ("cortex-m4f", "cortex-m7")
PEERS = (
    Peer("emlearn", "loadable, float32", _emlearn),
    Peer("emx-onnx-cgen", "float32", _emx),
    Peer("nncc", "float32", _nncc),
    Peer("bakenn", "int8, portable", _bakenn("portable")),
    Peer("bakenn", "int8, SMLAD", _bakenn("packed"), _SIMD),
    Peer("bakenn", "int8, CMSIS-NN", _bakenn("cmsis-nn"), _SIMD),
)
"""Everything that is measured beside ours on an emulated core."""
