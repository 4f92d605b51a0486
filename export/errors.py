"""The errors of this room.

ExportError            base class: one line that says what, got, expected, next step
+-- FileFormatError    a student or policy file that cannot be used
+-- ToolError          a compiler, emulator or optional package is missing or failed
|   +-- TooLargeError  because the policy is too large for it
+-- MismatchError      two backends do not compute the same policy
"""


class ExportError(Exception):
    """Base class of every error that a user of `export` can cause or mend."""


class FileFormatError(ExportError):
    """A student or policy file is missing, damaged, or holds something that cannot be compiled."""


class ToolError(ExportError):
    """A compiler, an emulator or an optional Python package is missing or failed."""


class TooLargeError(ToolError):
    """A policy is too large for a compiler, for a linker's memory or for an emulator."""


class MismatchError(ExportError):
    """Two backends that must agree do not."""
