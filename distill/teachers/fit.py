"""Fit an actor to an environment: its statistics, its number of inputs, its action bounds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ..environment import EnvironmentFacts, EnvironmentSpec
from ..errors import DistillError
from ..network import Chain
from .actor import Actor


def check_chain(path: Path, chain: Chain) -> None:
    """Refuse layers whose widths do not follow each other, and input statistics of another size (DistillError)."""
    for index in range(1, len(chain.layers)):
        before, weight = chain.layers[index - 1][0], chain.layers[index][0]
        if weight.shape[1] != before.shape[0]:
            raise DistillError(
                f"teacher {path}: layer widths {before.shape} and {weight.shape} do not chain, expected the second to "
                f"take {before.shape[0]} inputs; save it again"
            )
    if chain.normaliser is not None and len(chain.normaliser.mean) != chain.sizes[0]:
        raise DistillError(
            f"teacher {path}: got {len(chain.normaliser.mean)} input statistics, expected {chain.sizes[0]}, "
            "one an input; "
            "save it again"
        )


def with_statistics(path: Path, actor: Actor, vecnormalize: Path | None) -> Actor:
    """The actor behind the normaliser of --vecnormalize, where one is given.

    Raises:
        DistillError: statistics of another size, or an actor that carries its own.
    """
    behind = "trained behind a VecNormalize"
    if vecnormalize is None:
        if behind not in actor.notes:
            return actor
        advice = f"{behind}, and no --vecnormalize FILE.pkl is given: right only if norm_obs was off"
        return dataclasses.replace(actor, notes=(*(note for note in actor.notes if note != behind), advice))
    from .vecnormalize import read_vecnormalize

    if actor.chain.normaliser is not None:
        raise DistillError(
            f"--vecnormalize: got {vecnormalize} for {path.name}, which carries its own statistics; leave it out"
        )
    normaliser, note = read_vecnormalize(vecnormalize)
    if normaliser is not None and len(normaliser.mean) != actor.chain.sizes[0]:
        raise DistillError(
            f"vecnormalize {vecnormalize}: got {len(normaliser.mean)} inputs, {path.name} takes "
            f"{actor.chain.sizes[0]}; "
            "give the file that was saved with this policy"
        )
    notes = (*(entry for entry in actor.notes if entry != behind), note)
    return dataclasses.replace(actor, chain=dataclasses.replace(actor.chain, normaliser=normaliser), notes=notes)


def fitted(path: Path, actor: Actor, facts: EnvironmentFacts, spec: EnvironmentSpec | None) -> Actor:
    """The actor for the environment's inputs, without those that were constant in training if that makes it fit.

    Raises:
        DistillError: other numbers of inputs or actions; names both, and an argument that would help if there is one.
    """
    chain = actor.chain
    inputs, actions = chain.sizes[0], chain.sizes[-1]
    expected = facts.observation_size, len(facts.action_low)
    if (inputs, actions) == expected:
        return actor
    constant = np.zeros(inputs, np.bool_) if chain.normaliser is None else chain.normaliser.constant()
    moving = int(np.sum(~constant))
    if actions != expected[1] or moving != expected[0] or moving == 0:
        found = f"got {inputs} inputs and {actions} actions"
        if 0 < moving < inputs:
            found += f" ({inputs - moving} of the inputs were constant in training)"
        raise DistillError(
            f"teacher {path}: {found}, the environment has {expected[0]} and {expected[1]}; "
            f"{_advice(spec, (inputs, moving), actions == expected[1], chain)}"
        )
    normaliser = chain.normaliser
    assert normaliser is not None
    weight, bias = chain.layers[0]
    values = normaliser(normaliser.mean[None])[0, constant]
    first = np.ascontiguousarray(weight[:, ~constant]), bias + weight[:, constant] @ values
    kept = dataclasses.replace(normaliser, mean=normaliser.mean[~constant], variance=normaliser.variance[~constant])
    folded = dataclasses.replace(chain, layers=(first, *chain.layers[1:]), normaliser=kept)
    note = (
        f"{inputs - moving} of {inputs} inputs were constant in training (variance ~ 0) and are folded into the first "
        f"layer's bias: {actor.parameters:,} parameters as stored, {folded.parameters:,} in use"
    )
    return dataclasses.replace(actor, chain=folded, notes=(*actor.notes, note))


def _advice(spec: EnvironmentSpec | None, sizes: tuple[int, int], actions_fit: bool, chain: Chain) -> str:
    found = spec.argument_for(sizes) if spec is not None and actions_fit else None
    if found is not None:
        return f"it would fit with --env-kwargs '{found}'"
    advice = "choose the environment it was trained in (--env, --env-kwargs, --wrapper, --frame-stack)"
    return advice if chain.normaliser is not None else f"{advice}; inputs constant in training need --vecnormalize"


def check_bounds(path: Path, actor: Actor, facts: EnvironmentFacts) -> None:
    """Refuse an actor whose stated action bounds are not the environment's (DistillError)."""
    if actor.bounds is None:
        return
    for name, got, expected in zip(("low", "high"), actor.bounds, (facts.action_low, facts.action_high), strict=True):
        if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-5, atol=1e-7):
            raise DistillError(
                f"teacher {path}: got action bounds {name} {np.array2string(got, threshold=8)}, the environment has "
                f"{np.array2string(expected, threshold=8)}; choose the environment it was trained in, or rescale its "
                "actions (--wrapper)"
            )
