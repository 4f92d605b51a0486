"""The policy on the PC: the same C that runs on the device (by ctypes), or scipy's CSR product.

A backend owns the ring of the last frames and has three verbs: `reset` forgets it, `observe` pushes a frame, `step`
pushes a frame and computes the action. The frame after a reset fills the whole ring. `history` decides when to call
them.
"""

import ctypes
import struct
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np

from export.errors import ToolError
from export.toolchain import build_host_library, host_library_identity
from firmware_bridge.errors import HostPolicyError
from firmware_bridge.policy_folder import PolicyFolder

BACKENDS = ("auto", "c", "csr")


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


class CsrBackend:
    """scipy's sparse product in float32: no compiler needed, equal to the C kernel within its stated error."""

    name = "csr"

    def __init__(self, folder: PolicyFolder) -> None:
        self._policy = folder.policy
        self._frames = np.zeros((folder.history, folder.base_size), np.float32)
        self._filled = False

    def reset(self) -> None:
        """Forget all frames."""
        self._filled = False

    def observe(self, frame: tuple[float, ...]) -> None:
        """Push one frame."""
        if self._filled:
            self._frames[:-1] = self._frames[1:]
            self._frames[-1] = frame
        else:
            self._frames[:] = frame
            self._filled = True

    def step(self, frame: tuple[float, ...]) -> float:
        """Push one frame and compute the action [m/s^2]."""
        self.observe(frame)
        return float(self._policy.evaluate_float32(self._frames.reshape(1, -1))[0, 0])


def open_backend(folder: PolicyFolder, backend: str = "auto") -> tuple[Backend, str]:
    """The backend, and why it is not the C kernel ("" when it is, or when `csr` was asked for).

    Raises HostPolicyError: unknown backend, or `c` was asked for and cannot be had.
    """
    if backend not in BACKENDS:
        raise HostPolicyError(f"backend {backend!r}: unknown, expected one of {', '.join(BACKENDS)}")
    if backend == "csr":
        return CsrBackend(folder), ""
    try:
        return CBackend(folder), ""
    except (HostPolicyError, OSError) as error:
        if backend == "c":
            raise (
                error
                if isinstance(error, HostPolicyError)
                else HostPolicyError(
                    f"policy {folder.directory}: cannot load the C kernel ({error}); use --backend csr"
                )
            ) from error
        return CsrBackend(folder), str(error)


def _compiled(folder: PolicyFolder) -> Path:
    library = folder.directory / f"host_policy-{host_library_identity(folder.header.read_bytes())[:12]}.so"
    if library.is_file():
        return library
    with tempfile.TemporaryDirectory(prefix=".host_policy-", dir=folder.directory) as scratch:
        result = Path(scratch, "host_policy.so")
        try:
            build_host_library(folder.directory.resolve(), result)
        except ToolError as error:
            raise HostPolicyError(f"policy {folder.directory}: {error}, or use --backend csr") from error
        result.replace(library)
    return library
