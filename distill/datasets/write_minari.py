"""Write collected episodes as a Minari dataset: a folder that Minari's own reader opens, the same bytes every time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..environment import Array, EnvironmentSpec
from ..errors import DistillError
from .hdf5_stream import Hdf5Stream
from .minari_dataset import OWN_METADATA
from .minari_survey import DATA_FILE, METADATA_FILE, TEACHER_ACTION
from .transitions import Transitions

MINARI_VERSION = "0.5.4"  # whose layout is written


@dataclass(frozen=True)
class Origin:
    """Where the episodes of a dataset come from; episode i was started with seed `first_seed` + i."""

    spec: EnvironmentSpec
    teacher_sha256: str
    seed: int
    first_seed: int
    exploration_noise: tuple[float, ...]  # of each episode, as a share of half the action range


def dataset_id(environment: str) -> str:
    """Minari's id for a teacher's episodes: `module:Name-v0` becomes `module/Name-v0/teacher-v0`."""
    return re.sub(r"[^-\w/]", "_", environment.replace(":", "/")) + "/teacher-v0"


def write_minari(
    target: Path, scratch: Path, parts: Iterable[Transitions], label: Callable[[Array], Array], origin: Origin
) -> int:
    """Write the folder `target` whole or not at all; returns the number of transitions.

    Args:
        target: the folder `data` of the dataset; an earlier one is replaced at the end.
        scratch: a folder on the same disk for what is not finished yet; emptied first.
        parts: whole episodes; only one part need be in memory.
        label: the teacher, asked about the final observations: infos have one row an observation.
        origin: what goes into the metadata.

    Raises:
        DistillError: the folder cannot be written; an earlier dataset there is unchanged.
    """
    import h5py

    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        rows = count = 0
        with Hdf5Stream(scratch / DATA_FILE) as stream:
            with h5py.File(stream, "w") as file:
                for part in parts:
                    final_actions = label(part.final_observations)
                    for index, episode in enumerate(part.episodes()):
                        group = file.create_group(f"episode_{count}")
                        _write_episode(group, count, episode, final_actions[index : index + 1], origin)
                        rows, count = rows + len(episode), count + 1
                        stream.check()
            stream.check()  # closing wrote what HDF5 had kept back
        metadata = _metadata(origin, rows, count, (scratch / DATA_FILE).stat().st_size)
        (scratch / METADATA_FILE).write_text(json.dumps(metadata, indent=1) + "\n")
        for name in (DATA_FILE, METADATA_FILE):
            with (scratch / name).open("rb") as stream:
                os.fsync(stream.fileno())
        _replace_folder(target, scratch)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise DistillError(
            f"cannot write {target}: {error.strerror or ' '.join(str(error).split())}; an earlier dataset there is "
            "unchanged, free space or choose another folder, then try again"
        ) from error
    return rows


def replaceable(target: Path) -> None:
    """Refuse to replace a folder that holds anything but a dataset.

    Raises:
        DistillError: names the first foreign file.
    """
    foreign = sorted(set(os.listdir(target)) - {DATA_FILE, METADATA_FILE}) if target.is_dir() else []
    if foreign or (target.exists() and not target.is_dir()):
        raise DistillError(
            f"collect: {target} holds {foreign[0] if foreign else 'a file'}, expected a Minari dataset or nothing; "
            "choose another --out"
        )


def _write_episode(group: Any, number: int, episode: Transitions, final_action: Array, origin: Origin) -> None:
    group.attrs["id"] = number
    group.attrs["seed"] = origin.first_seed + number
    group.attrs["total_steps"] = len(episode)
    group.attrs["exploration_noise"] = origin.exploration_noise[number]
    group.create_dataset("observations", data=np.concatenate((episode.observations, episode.final_observations)))
    group.create_dataset("actions", data=episode.executed_actions)
    group.create_dataset("rewards", data=episode.rewards)
    group.create_dataset("terminations", data=episode.terminated.astype(np.bool_))
    group.create_dataset("truncations", data=episode.truncated.astype(np.bool_))
    clean = np.concatenate((episode.teacher_actions, final_action), dtype=np.float32)
    group.create_group("infos").create_dataset(TEACHER_ACTION, data=clean)


def _metadata(origin: Origin, rows: int, episodes: int, size_bytes: int) -> dict[str, Any]:
    environment = origin.spec.make()
    observation, action, registered = environment.observation_space, environment.action_space, environment.spec
    environment.close()
    metadata: dict[str, Any] = {
        "dataset_id": dataset_id(origin.spec.environment),
        "minari_version": MINARI_VERSION,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "total_episodes": episodes,
        "total_steps": rows,
        "dataset_size": round(size_bytes / 1e6, 1),
        "observation_space": _box(observation.low, observation.high),  # type: ignore[attr-defined]  # make() checked it
        "action_space": _box(action.low, action.high),  # type: ignore[attr-defined]
        "description": f"A teacher with exploration noise; infos/{TEACHER_ACTION} is what it would have done.",
        OWN_METADATA: {
            **dataclasses.asdict(origin.spec),
            "teacher": origin.teacher_sha256,
            "seed": origin.seed,
        },
    }
    # an environment whose description is no JSON (a wrapper's argument) leaves it out, as Minari itself does
    with contextlib.suppress(TypeError, ValueError):
        if registered is not None:
            metadata["env_spec"] = registered.to_json()
    return metadata


def _box(low: Array, high: Array) -> str:
    """Minari's text for a float32 Box."""
    return json.dumps(
        {"type": "Box", "dtype": "float32", "shape": list(low.shape), "low": low.tolist(), "high": high.tolist()}
    )


def _replace_folder(target: Path, scratch: Path) -> None:
    """Put `scratch` where `target` is; a folder cannot be renamed over another, so the old one steps aside."""
    aside = scratch.with_name(f"{scratch.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        target.rename(aside)
    try:
        scratch.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
