"""Zip files whose bytes depend on nothing but what is in them."""

import io
import zipfile
from collections.abc import Mapping

_NO_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_READABLE = 0o100644 << 16


def archive(folder: str, files: Mapping[str, str]) -> bytes:
    """Return a zip with `files` (path -> text) below one folder, in the order of their paths.

    Stored, not compressed: what compression gives depends on the version of zlib.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        for path in sorted(files):
            entry = zipfile.ZipInfo(f"{folder}/{path}", _NO_DATE)
            entry.create_system = _UNIX
            entry.external_attr = _READABLE
            zipped.writestr(entry, files[path].encode())
    return stream.getvalue()
