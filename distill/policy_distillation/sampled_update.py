"""Distillation from sampled episodes into tables of logits, in many lanes at once, for any objective.

A lane is one student in one world with one teacher. Lanes do not wait for each other's episodes: all of them step
together, and those that have come to an end are updated and begin again, until each has had its number of iterations.
An iteration is one episode and one step of gradient descent on equation 1 of the paper, summed over the episode, with
Rhat discounted and, as the table is printed, without a critic, or with one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .expected_update import log_teacher, softmax
from .finite_mdp import Array
from .objectives import Objective, Quantities
from .worlds import Integers, Worlds

STUDENT = -1

_LONGEST = 3_072  # steps of an episode; 0.99 ** 3072 = 4e-14 reach it, and are cut there
_VALUE_LEARNING_RATE = 0.1
_BATCH = 8  # lanes are updated as soon as one in so many waits for it


@dataclass(frozen=True)
class Lanes:
    """L students and what they learn from; tables of teachers are shared between lanes."""

    worlds: Worlds
    world: Integers
    """(L,) which world each is in."""
    teachers: Array
    """(T, S, A) probabilities; action a moves in direction a mod D."""
    teacher: Integers
    """(L,) which teacher each has."""
    teacher_values: Array
    """(T, S) V_pi, read by objectives that ask for it."""
    driver: Integers
    """(L,) which of the teachers chooses each lane's actions; STUDENT: the student itself."""


@dataclass(frozen=True)
class Descent:
    """How students are updated."""

    iterations: int
    """Episodes of every lane."""
    learning_rate: float
    """Step size in the logits."""
    discount: float
    """gamma, of pseudo-rewards and of V."""
    seed: int
    """Of everything that is drawn."""
    critic: bool = False
    """Learn V of the pseudo-rewards, and put the error of one-step temporal differences in the place of Rhat, as in an
    actor-critic: little variance, and the expectation is right once the critic is. What a row reads of the next action
    is then the mean over the student's actions, where it reads the reverse cross entropy anyhow. Rhat is a sum over the
    whole episode, so noisy where every step costs log pi(a|s) that students settle on the first way out of it."""


@dataclass
class _State:
    """What changes while lanes run; `trace` holds the running episodes."""

    logits: Array  # (L * S, A)
    values: Array  # (L * S,) V_th, learned from returns
    critic: Array  # (L * S,) the same of the pseudo-rewards
    cell: Integers  # (L,)
    length: Integers  # (L,) steps of the running episode
    done: Integers  # (L,) iterations
    over: NDArray[np.bool_]  # (L,) waits for its update
    trace: tuple[Integers, Integers, Array] = field(repr=False)  # (L, _LONGEST) each: cells, actions, rewards


def distil(
    lanes: Lanes,
    objective: Objective,
    descent: Descent,
    checkpoints: Sequence[int],
    on_checkpoint: Callable[[int, int, Array], None],
) -> None:
    """Run every lane for its iterations, from students that take all actions alike.

    Args:
        lanes: of L students of S cells and A actions.
        objective: any row of the table; who acts is said by the lanes.
        descent: how.
        checkpoints: numbers of iterations after which a student is shown; 0 is the untrained one.
        on_checkpoint: called with a lane, its iterations and its student's logits (S, A).
    """
    count, (_, cells, actions) = len(lanes.world), lanes.teachers.shape
    state = _State(
        logits=np.zeros((count * cells, actions)),
        values=np.zeros(count * cells),
        critic=np.zeros(count * cells),
        cell=lanes.worlds.start[lanes.world],
        length=np.zeros(count, dtype=np.int64),
        done=np.zeros(count, dtype=np.int64),
        over=np.zeros(count, dtype=np.bool_),
        trace=(
            np.zeros((count, _LONGEST), dtype=np.int64),
            np.zeros((count, _LONGEST), dtype=np.int64),
            np.zeros((count, _LONGEST)),
        ),
    )
    rng = np.random.default_rng([descent.seed, 11])
    shown = np.isin(np.arange(descent.iterations + 1), checkpoints)
    if shown[0]:
        for lane in range(count):
            on_checkpoint(lane, 0, state.logits[lane * cells : (lane + 1) * cells])
    active = np.arange(count)
    acting = active
    while len(active):
        if len(acting):
            _step(lanes, state, acting, rng)
        waiting = active[state.over[active]]
        if len(waiting) * _BATCH >= len(active):
            _update(lanes, objective, descent, state, waiting)
            for lane in waiting[shown[state.done[waiting]]]:
                on_checkpoint(int(lane), int(state.done[lane]), state.logits[lane * cells : (lane + 1) * cells])
            state.over[waiting], state.length[waiting] = False, 0
            state.cell[waiting] = lanes.worlds.start[lanes.world[waiting]]
            active = active[state.done[active] < descent.iterations]
            acting = active
        elif len(waiting):
            acting = active[~state.over[active]]


def _step(lanes: Lanes, state: _State, acting: Integers, rng: np.random.Generator) -> None:
    """One step of these lanes."""
    cell, step = state.cell[acting], state.length[acting]
    action = _actions(lanes, state, acting, rng)
    direction = action % lanes.worlds.shape[2]
    reached, reward, over = lanes.worlds.move(lanes.world[acting], cell, direction, rng)
    for kept, new in zip(state.trace, (cell, action, reward), strict=True):
        kept[acting, step] = new
    state.cell[acting] = reached
    state.length[acting] = step + 1
    state.over[acting] = over | (step + 1 == _LONGEST)


def _actions(lanes: Lanes, state: _State, acting: Integers, rng: np.random.Generator) -> Integers:
    """(n,) drawn from whoever drives."""
    cells = lanes.teachers.shape[1]
    logits = state.logits[acting * cells + state.cell[acting]]
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    driver = lanes.driver[acting]
    driven = np.flatnonzero(driver != STUDENT)
    if len(driven):
        weights[driven] = lanes.teachers[driver[driven], state.cell[acting[driven]]]
    summed = np.cumsum(weights, axis=1)
    drawn: Integers = (summed < rng.random((len(acting), 1)) * summed[:, -1:]).sum(axis=1)
    return drawn


def _update(lanes: Lanes, objective: Objective, descent: Descent, state: _State, waiting: Integers) -> None:
    """Gradient descent on the finished episodes of these lanes."""
    cells = lanes.teachers.shape[1]
    lengths = state.length[waiting]
    ends = np.cumsum(lengths)
    lane = np.repeat(waiting, lengths)
    time = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    cell, action, reward = (kept[lane, time] for kept in state.trace)
    row = lane * cells + cell
    last = ends - 1
    step = _Episodes(lane, cell, action, reward, time, last, np.repeat(last, lengths), descent.discount)
    student = softmax(state.logits[row])
    gradient, rewards = _terms(lanes, objective, state, student, step, critic=descent.critic)
    order = np.argsort(row, kind="stable")
    first = np.flatnonzero(np.diff(row[order], prepend=-1))
    visited, visits = row[order][first], np.diff(first, append=len(row))

    def towards(table: Array, returns: Array) -> None:
        mean_error = np.add.reduceat((returns - table[row])[order], first) / visits
        table[visited] += _VALUE_LEARNING_RATE * mean_error

    if rewards is not None:
        if objective.one_step:
            returns = rewards
        elif descent.critic:
            returns = rewards + step.following(state.critic[row])
        else:
            returns = step.to_go(rewards)
        weights = returns - state.critic[row] if descent.critic else returns
        gradient = gradient + student * weights[:, None]
        gradient[np.arange(len(action)), action] -= weights
        if descent.critic:
            towards(state.critic, returns)
    state.logits[visited] -= descent.learning_rate * np.add.reduceat(gradient[order], first, axis=0)
    if objective.needs_student_value:
        towards(state.values, step.to_go(reward))
    state.done[waiting] += 1


@dataclass(frozen=True)
class _Episodes:
    """N steps, episode after episode."""

    lane: Integers  # (N,) and so are all but `last`
    cell: Integers
    action: Integers
    reward: Array
    time: Integers  # within its episode
    last: Integers  # (episodes,) index of the last step of each
    last_of: Integers  # the same for each step
    discount: float

    def following(self, of_steps: Array) -> Array:
        """(N,) the value at the next step, discounted; 0 past the end."""
        shifted = np.empty_like(of_steps)
        shifted[:-1] = self.discount * of_steps[1:]
        shifted[self.last] = 0.0
        return shifted

    def to_go(self, rewards: Array) -> Array:
        """(N,) discounted sums from each step to the end of its episode."""
        factor = self.discount**self.time
        summed = np.cumsum(factor * rewards)
        result: Array = (summed[self.last_of] - summed + factor * rewards) / factor
        return result


def _terms(
    lanes: Lanes,
    objective: Objective,
    state: _State,
    student: Array,
    episodes: _Episodes,
    *,
    critic: bool,
) -> tuple[Array, Array | None]:
    """(N, A) gradient of the loss in the logits, (N,) pseudo-rewards; only what the objective reads is computed."""
    lane, cell, action, reward = episodes.lane, episodes.cell, episodes.action, episodes.reward
    teacher_of = lanes.teacher[lane]
    each, uses = np.arange(len(action)), objective.uses
    teacher = lanes.teachers[teacher_of, cell] if objective.needs_teacher_probabilities else None
    found: dict[str, Array] = {"reward": reward}
    if "forward_cross_entropy" in uses:
        assert teacher is not None
        found["forward_cross_entropy"] = student - teacher
    if "next_forward_cross_entropy" in uses:
        assert teacher is not None
        forward = -(teacher * np.log(np.maximum(student, 1e-300))).sum(axis=1)
        found["next_forward_cross_entropy"] = episodes.following(forward)
    if uses & {"reverse_cross_entropy", "teacher_log_probability", "next_teacher_log_probability"}:
        assert teacher is not None
        log_pi = log_teacher(teacher)
        chosen = log_pi[each, action]
        found["teacher_log_probability"] = chosen
        found["next_teacher_log_probability"] = episodes.following(chosen)
        if "reverse_cross_entropy" in uses:
            reverse = -(student * log_pi).sum(axis=1, keepdims=True)
            found["reverse_cross_entropy"] = -student * (log_pi + reverse)
            if critic:  # the mean over the next action: the one drawn would be all of the noise that is left
                found["next_teacher_log_probability"] = episodes.following(-reverse[:, 0])
    if "student_log_probability" in uses:
        found["student_log_probability"] = np.log(student[each, action])
    if objective.needs_teacher_value:
        value = lanes.teacher_values[teacher_of, cell]
        found["next_teacher_value"] = episodes.following(value)
        found["teacher_value"] = value
    if objective.needs_student_value:
        found["student_value"] = state.values[lane * lanes.teachers.shape[1] + cell]
    quantities = Quantities(**found)
    # in the loss, values stand beside gradients (N, A); rewards are (N,)
    by_action = Quantities(**{name: of if of.ndim == 2 else of[:, None] for name, of in found.items()})
    gradient = np.zeros_like(student) + objective.loss(by_action)
    return gradient, objective.reward(quantities) if objective.has_pseudo_reward else None
