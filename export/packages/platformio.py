"""A PlatformIO library: the tree of the Arduino library with a manifest of PlatformIO's own."""

import json

from export.packages.archive import archive
from export.packages.arduino import SKETCH, sketch
from export.packages.facts import description, library_name, library_version, policy_facts
from export.packages.pair import library_sources
from export.sparse_policy import SparsePolicy


def platformio_library(policy: SparsePolicy, digest: str, header: str) -> bytes:
    """Return the bytes of the zip: library.json, src/ and one sketch for the Arduino framework."""
    manifest = {
        "name": library_name(policy),
        "version": library_version(digest),
        "description": description(policy),
        "keywords": "control, policy, reinforcement learning",
        "authors": [{"name": "bayesian-policy-distillation"}],
        "headers": "policy.h",
        "frameworks": "*",
        "platforms": "*",
        "build": {"srcDir": "src", "includeDir": "src", "flags": ["-ffp-contract=off"]},
        "examples": [{"name": "control_loop", "base": "examples/control_loop", "files": ["control_loop.ino"]}],
        "policy": policy_facts(policy, digest),
    }
    files = {
        "library.json": json.dumps(manifest, indent=2) + "\n",
        SKETCH: sketch(policy, digest),
        **library_sources(policy, digest, header),
    }
    return archive(library_name(policy), files)
