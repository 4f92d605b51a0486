"""The docstrings under the fields of a configuration class: the same text for --help, `check` and its template."""

import ast
import inspect
import textwrap


def field_texts(kind: type) -> dict[str, str]:
    """Text under each field of a dataclass, on one line; "" where there is none."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    texts: dict[str, str] = {}
    last = ""
    for node in body.body if isinstance(body, ast.ClassDef) else []:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            texts[last] = ""
        elif last and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts[last] = " ".join(str(node.value.value).split())
            last = ""
        else:
            last = ""
    return texts
