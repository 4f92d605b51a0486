"""A CMake library: target policy::policy, from the source tree or installed."""

from export.packages.archive import archive
from export.packages.facts import fact_lines, library_name, number_version, policy_facts
from export.packages.pair import library_sources, template
from export.sparse_policy import SparsePolicy


def cmake_library(policy: SparsePolicy, digest: str, header: str) -> bytes:
    """Return the bytes of the zip: CMakeLists.txt, src/ and the self test."""
    facts = policy_facts(policy, digest)
    lists = template("CMakeLists.txt")
    for mark, text in {
        "VERSION": number_version(),
        "DIGEST": digest,
        "PERIOD_US": facts["control_period_us"],
        "FACTS": "\n".join(f"# {line}" for line in fact_lines(facts)),
    }.items():
        lists = lists.replace(f"@{mark}@", text)
    files = {
        "CMakeLists.txt": lists,
        "examples/self_test/self_test.c": template("self_test.c"),
        **library_sources(policy, digest, header),
    }
    return archive(library_name(policy), files)
