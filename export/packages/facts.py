"""What every package says about the policy in it."""

import re

from export.c_code.dialect import comment
from export.interface import package_version
from export.sparse_policy import SparsePolicy

_LONGEST_NAME = 63


def policy_facts(policy: SparsePolicy, digest: str) -> dict[str, str]:
    """Return digest, units, order of the observations, action limits and control period, each on one line of ASCII.

    Observations and actions carry their units in brackets.
    """
    limits = zip(policy.action_names, policy.action_low, policy.action_high, strict=True)
    facts = {
        "policy_digest": digest,
        "environment": policy.environment,
        "control_period_us": str(round(policy.control_period_s * 1e6)),
        "weights": policy.weight_format,
        "observation_order": ", ".join(policy.observation_names),
        "history": f"{policy.history} frames, kept by policy_state_t",
        "action_limits": ", ".join(f"{name} {low:.9g} to {high:.9g}" for name, low, high in limits),
    }
    return {key: comment(value) for key, value in facts.items()}


def fact_lines(facts: dict[str, str]) -> list[str]:
    """Return the facts as lines of a comment."""
    width = max(len(key) for key in facts)
    return [f"{key:<{width}}  {value}" for key, value in facts.items()]


def library_name(policy: SparsePolicy) -> str:
    """Return a name that Arduino, PlatformIO and file systems take: policy_ and the environment's."""
    words = re.sub(r"[^A-Za-z0-9]+", "_", policy.environment.rpartition(":")[2]).strip("_")
    return f"policy_{words}"[:_LONGEST_NAME].rstrip("_")


def library_version(digest: str) -> str:
    """Return a semantic version: this package's, and the policy's digest as its build."""
    return f"{number_version()}+{digest[:12]}"


def number_version() -> str:
    """Return the three numbers that this package's version begins with; 0.0.0 where it is not installed."""
    found = re.match(r"\d+\.\d+\.\d+", package_version())
    return found.group() if found else "0.0.0"


def description(policy: SparsePolicy) -> str:
    """Return one sentence."""
    return (
        f"Control policy for {comment(policy.environment)}: {policy.kept_weights} weights ({policy.weight_format}), "
        f"one action every {policy.control_period_s:g} s."
    )
