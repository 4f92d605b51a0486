"""How the same policy is written for different processors."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_C_TYPES = {
    "float32": "float",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32)},
}


@dataclass(frozen=True)
class Dialect:
    """What a processor asks of the text.

    float_unit: single precision in hardware; without it the float ends of an integer policy work on the bits.
    flash_tables: tables stay in flash and are read by special instructions (AVR). float_assembly: rows of float layers
    as Thumb-2 assembly where the compiler is GCC or clang for such a core; the C beside it gives the same bits.
    """

    float_unit: bool = True
    flash_tables: bool = False
    float_assembly: bool = False

    def array(self, name: str, values: NDArray[Any], kind: str | None = None) -> str:
        """Return the definition of a constant table; `kind` is its numpy type, that of `values` unless given."""
        kind = values.dtype.name if kind is None else kind
        texts = [number(value, kind) for value in values.ravel()]
        width = 8 if kind == "float32" else 24
        rows = [", ".join(texts[start : start + width]) for start in range(0, len(texts), width)]
        where = " POLICY_IN_FLASH" if self.flash_tables else ""
        return f"static const {c_type(kind)} {name}[{len(texts)}]{where} = {{\n    " + ",\n    ".join(rows) + ",\n};"

    def read(self, kind: str, place: str) -> str:
        """Return the expression that reads `place` of a table of `kind`."""
        if not self.flash_tables:
            return place
        if kind == "float32":
            return f"POLICY_FLASH_FLOAT(&{place})"
        return f"({c_type(kind)})POLICY_FLASH_{8 * np.dtype(kind).itemsize}(&{place})"


def c_type(kind: str) -> str:
    """Return the C name of a numpy type."""
    return _C_TYPES[kind]


def number(value: Any, kind: str = "float32") -> str:
    """Return a C literal. Nine digits give back the same float32; its suffix needs a point or an exponent before it."""
    if kind != "float32":
        # -2147483648 is the negative of what does not fit an int.
        return "(-2147483647 - 1)" if int(value) == -(2**31) else str(int(value))
    text = f"{float(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def comment(text: str) -> str:
    """Keep foreign text from ending a comment or a line."""
    return re.sub(r"[^\x20-\x7e]", "?", text).replace("*/", "* /").replace("/*", "/ *")


def fragment(name: str) -> str:
    """Return one of the files in `kernels/`."""
    from importlib.resources import files

    return files("export").joinpath("kernels", name).read_text(encoding="utf-8")
