"""`bridge.toml`: the options of `run`, one key each, checked before anything is opened.

Keys are the names of `config.Run`'s fields, with their units; there are no tables. Paths are relative to the file's own
folder, so that a daemon finds them wherever it is started. The command line wins over the file: the file's values
become options that stand before the ones that were typed.
"""

import dataclasses
import difflib
import errno
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from firmware_bridge.config import Run
from firmware_bridge.errors import ConfigurationError

_LARGEST_FILE_BYTES = 1_000_000
_LARGEST_INTEGER = 2**63 - 1  # TOML's own
_NOT_IN_A_FILE = ("config", "json")
_OPTION = "--config"


def configurable_fields() -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Every key that a file may hold: its field and its type."""
    hints = typing.get_type_hints(Run)
    return {
        field.name: (field, hints[field.name]) for field in dataclasses.fields(Run) if field.name not in _NOT_IN_A_FILE
    }


def read_configuration(path: Path) -> dict[str, Any]:
    """The values of a file, of the fields' own types. Raises ConfigurationError."""
    values = _parsed(path)
    known = configurable_fields()
    read: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key.replace("-", "_"), known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else "leave it out;"
            raise ConfigurationError(
                f"{path}: unknown key {key!r}; {hint} `python -m firmware_bridge check --template` lists all of them"
            )
        read[key] = _checked(path, key, value, known[key][1])
    return read


def with_configuration(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments with the options of the file that `run --config FILE` names in front of the typed ones.

    Raises ConfigurationError.
    """
    given = list(arguments)
    path = _named_file(given)
    if not given or given[0] != "run" or path is None:
        return given
    options: list[str] = []
    for key, value in read_configuration(path).items():
        option = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            options.append(option if value else f"--no-{option[2:]}")
        elif isinstance(value, tuple):
            options += [option, *(str(item) for item in value)]
        else:
            options.append(f"{option}={value}")
    return ["run", *options, *given[1:]]


def _named_file(arguments: list[str]) -> Path | None:
    """What the last --config names; one without a value is left for the parser to complain about."""
    path = None
    for position, argument in enumerate(arguments):
        if argument == _OPTION and position + 1 < len(arguments):
            path = Path(arguments[position + 1])
        elif argument.startswith(f"{_OPTION}="):
            path = Path(argument.partition("=")[2])
    return path


def _parsed(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # a FIFO would be waited for, and a device may never end
            raise OSError(errno.EINVAL, "Is a directory" if path.is_dir() else "not a regular file")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot read ({error.strerror or error}); expected a TOML file; write one with "
            "`python -m firmware_bridge check --template > bridge.toml`"
        ) from error
    if len(content) > _LARGEST_FILE_BYTES:
        raise ConfigurationError(f"{path}: more than {_LARGEST_FILE_BYTES} bytes, expected a page of TOML")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # both of tomllib's and Unicode's own errors are ValueErrors
        raise ConfigurationError(f"{path}: not TOML ({error}); mend that line") from error


def _checked(path: Path, key: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`; of a union the first that fits. Raises ConfigurationError."""
    for choice in _choices(kind):
        origin, inner = typing.get_origin(choice), typing.get_args(choice)
        if origin is Literal and value in inner and not isinstance(value, bool):
            return value
        if origin is tuple and isinstance(value, list) and (inner[1:] == (...,) or len(inner) == len(value)):
            kinds = [inner[0]] * len(value) if inner[1:] == (...,) else inner
            return tuple(_checked(path, key, item, of) for item, of in zip(value, kinds, strict=True))
        if choice is Path and isinstance(value, str):
            return path.parent / value
        if type(value) is int and abs(value) > _LARGEST_INTEGER:
            break
        if choice is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if choice in (bool, int, str) and type(value) is choice:
            return value
    if type(value) is int and abs(value) > _LARGEST_INTEGER:
        raise ConfigurationError(
            f"{path}: {key} has {len(str(abs(value)))} digits, expected {type_text(kind)} of 64 bits; mend that line"
        )
    raise ConfigurationError(
        f"{path}: {key} = {value!r} is {_toml_type(value)}, expected {type_text(kind)}; mend that line"
    )


def type_text(kind: Any) -> str:
    """A field's type in words."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path in quotes"}
    texts = []
    for choice in _choices(kind):
        origin, inner = typing.get_origin(choice), typing.get_args(choice)
        if origin is Literal:
            texts.append(f"one of {', '.join(repr(item) for item in inner)}")
        elif origin is tuple:
            texts.append(f"a list with {type_text(inner[0])} in each place")
        else:
            texts.append(words.get(choice, str(choice)))
    return " or ".join(texts)


def _choices(kind: Any) -> list[Any]:
    """The alternatives of a type; None is said by leaving the key out."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [choice for choice in typing.get_args(kind) if choice is not type(None)]
    return [kind]


def _toml_type(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")
