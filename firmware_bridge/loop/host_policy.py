"""The policy on the PC: the same C that runs on the device (by ctypes), onnxruntime, or numpy with the bits of the C.

A backend owns the ring of the last frames and has three verbs: `reset` forgets it, `observe` pushes a frame, `step`
pushes a frame and computes the action. The frame after a reset fills the whole ring. `history` decides when to call
them.
"""

import ctypes
import struct
from pathlib import Path
from typing import Protocol

import numpy as np

from export.c_order import COrder
from export.errors import ToolError
from export.toolchain import build_host_library, host_library_identity
from firmware_bridge.errors import HostPolicyError
from firmware_bridge.loop.policy_folder import PolicyFolder
from hardware.scratch import ScratchFolder

BACKENDS = ("auto", "c", "onnx", "csr")


class Backend(Protocol):
    """What computes actions; `name` goes into the log."""

    name: str

    def reset(self) -> None:
        """Forget all frames."""

    def observe(self, frame: tuple[float, ...]) -> None:
        """Push one frame (base observation, physical units)."""

    def step(self, frame: tuple[float, ...]) -> float:
        """Push one frame; the action [m/s^2] for the ring that ends with it."""


class CBackend:
    """policy.h compiled for this machine. The shared object is cached beside it, named by its sources' digest."""

    name = "c"

    def __init__(self, folder: PolicyFolder) -> None:
        """Compile (or reuse), load, and run the known answers in the header. Raises HostPolicyError."""
        library = ctypes.CDLL(str(_compiled(folder)))
        library.run_state_size.restype = ctypes.c_uint32
        library.run_base_size.restype = ctypes.c_uint32
        failed = library.run_self_test()
        if failed:
            raise HostPolicyError(
                f"policy {folder.directory}: known answer {failed - 1} fails in the C kernel on this machine; "
                "report it with the compiler version, meanwhile use --backend csr"
            )
        if library.run_base_size() != folder.base_size:
            raise HostPolicyError(
                f"policy {folder.directory}: policy.h takes frames of {library.run_base_size()} numbers, "
                f"policy.safetensors {folder.base_size}; run `python -m export compile` again"
            )
        # Everything the loop touches is allocated here.
        self._state = ctypes.create_string_buffer(library.run_state_size() + 16)
        self._pack = struct.Struct(f"={folder.base_size}f").pack_into
        self._frame = (ctypes.c_float * folder.base_size)()
        self._action = (ctypes.c_float * 1)()
        self._reset, self._observe, self._step = library.run_reset, library.run_observe, library.run_step
        for function in (self._reset, self._observe, self._step):
            function.restype = None
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._reset(self._state)

    def observe(self, frame: tuple[float, ...]) -> None:
        """Push one frame."""
        self._pack(self._frame, 0, *frame)
        self._observe(self._state, self._frame)

    def step(self, frame: tuple[float, ...]) -> float:
        """Push one frame and compute the action [m/s^2]."""
        self._pack(self._frame, 0, *frame)
        self._step(self._state, self._frame, self._action)
        return float(self._action[0])


class _Stack:
    """The ring of a backend that takes the stacked vector: `frames` (history, base), oldest first, in one piece."""

    def __init__(self, folder: PolicyFolder) -> None:
        self.frames = np.zeros((folder.history, folder.base_size), np.float32)
        self._filled = False

    def reset(self) -> None:
        """Forget all frames."""
        self._filled = False

    def observe(self, frame: tuple[float, ...]) -> None:
        """Push one frame."""
        if self._filled:
            self.frames[:-1] = self.frames[1:]
            self.frames[-1] = frame
        else:
            self.frames[:] = frame
            self._filled = True


class CsrBackend(_Stack):
    """numpy on the sparse arrays: no compiler needed, and the bits of the C kernel (floats: export/c_order.py)."""

    name = "csr"

    def __init__(self, folder: PolicyFolder) -> None:
        super().__init__(folder)
        policy = folder.policy
        self._evaluate = policy.evaluate_exact if policy.fixed is not None else COrder(policy).evaluate

    def step(self, frame: tuple[float, ...]) -> float:
        """Push one frame and compute the action [m/s^2]."""
        self.observe(frame)
        return float(self._evaluate(self.frames.reshape(1, -1))[0, 0])


class OnnxBackend(_Stack):
    """policy.onnx in onnxruntime, one thread, with buffers that are bound once: no compiler needed.

    Of an integer policy it is the float network that the integers stand for.
    """

    name = "onnx"

    def __init__(self, folder: PolicyFolder) -> None:
        """Load and compare digests. Raises HostPolicyError."""
        super().__init__(folder)
        path = folder.directory / "policy.onnx"
        instead = "use --backend csr"
        try:
            import onnxruntime
        except ImportError as error:
            raise HostPolicyError(
                f"cannot import {error.name}: pip install 'bayesian-policy-distillation[export]', or {instead}"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            digest = session.get_modelmeta().custom_metadata_map.get("policy_digest", "none")
            binding = session.io_binding()
            self._action = np.zeros((1, 1), np.float32)
            stacked = self.frames.reshape(1, -1)  # a view: what `observe` writes is what the session reads
            for bind, name, values in (
                (binding.bind_input, "observation", stacked),
                (binding.bind_output, "action", self._action),
            ):
                bind(name, "cpu", 0, np.float32, values.shape, values.ctypes.data)
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            reason = str(error).splitlines()[0]
            raise HostPolicyError(
                f"{path}: onnxruntime refuses it: {reason}; run `python -m export compile` again, or {instead}"
            ) from error
        if digest != folder.digest:
            raise HostPolicyError(
                f"{path}: was made from policy {digest[:12]}, expected {folder.digest[:12]}; "
                f"run `python -m export compile` again, or {instead}"
            )
        self._run = session.run_with_iobinding
        self._binding = binding

    def step(self, frame: tuple[float, ...]) -> float:
        """Push one frame and compute the action [m/s^2]."""
        self.observe(frame)
        self._run(self._binding)
        return float(self._action[0, 0])


def open_backend(folder: PolicyFolder, backend: str = "auto") -> tuple[Backend, str]:
    """The backend, and why none of those before it ("" when it is the first that was asked for).

    `auto` tries them in the order of BACKENDS; the last needs nothing. Raises HostPolicyError: unknown backend, or the
    one that was asked for cannot be had.
    """
    if backend not in BACKENDS:
        raise HostPolicyError(f"backend {backend!r}: unknown, expected one of {', '.join(BACKENDS)}")
    reasons: list[str] = []
    for kind in _KINDS:
        if backend in ("auto", kind.name):
            try:
                return kind(folder), "; ".join(reasons)
            except (HostPolicyError, OSError) as error:
                told = (
                    error
                    if isinstance(error, HostPolicyError)
                    else HostPolicyError(
                        f"policy {folder.directory}: cannot load the C kernel ({error}); use --backend csr"
                    )
                )
                if backend == kind.name:
                    raise told from error
                reasons.append(str(told))
    raise AssertionError("the CSR backend needs nothing")


_KINDS: tuple[type[CBackend] | type[OnnxBackend] | type[CsrBackend], ...] = (CBackend, OnnxBackend, CsrBackend)


def _compiled(folder: PolicyFolder) -> Path:
    # Absolute: for a name without a slash dlopen() searches the library path.
    library = folder.directory.resolve() / f"host_policy-{host_library_identity(folder.header.read_bytes())[:12]}.so"
    if library.is_file():
        return library
    with ScratchFolder(".host_policy-", folder.directory) as scratch:
        result = scratch / "host_policy.so"
        try:
            build_host_library(folder.directory.resolve(), result)
        except ToolError as error:
            raise HostPolicyError(f"policy {folder.directory}: {error}, or use --backend csr") from error
        result.replace(library)
    return library
