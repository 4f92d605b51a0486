"""policy.h and policy.c: interface and implementation in two files."""

from importlib.resources import files

from export.c_code.split import split_header
from export.packages.facts import fact_lines, policy_facts
from export.sparse_policy import SparsePolicy

_USE = (
    "Interface of policy.c, which holds code and tables. Compile that file once, with -ffp-contract=off; with",
    "-ffunction-sections -fdata-sections and the linker's --gc-sections the known answers take no flash unless",
    "policy_self_test is called. policy_step takes one observation of this order a control period:",
    "",
)


def pair(policy: SparsePolicy, digest: str, header: str) -> dict[str, str]:
    """Return the texts of policy.h and policy.c, cut from the header-only policy.h.

    Raises:
        ExportError: `header` is not what `compile` writes.
    """
    interface, unit = split_header(header, [*_USE, *fact_lines(policy_facts(policy, digest))])
    return {"policy.h": interface, "policy.c": unit}


def library_sources(policy: SparsePolicy, digest: str, header: str) -> dict[str, str]:
    """Return the pair below src/, as every library has it."""
    return {f"src/{name}": text for name, text in pair(policy, digest, header).items()}


def template(name: str) -> str:
    """Return one of the files beside this one."""
    return files("export").joinpath("packages", name).read_text(encoding="utf-8")
