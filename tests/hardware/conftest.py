"""Fixtures of the hardware tests: a hand-made policy header, the firmware built with it, C modules as a library."""

import ctypes
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hardware.board import BOARDS
from hardware.build import FIRMWARE_FOLDER, FLAGS, MODULES, build, find_compiler
from hardware.plants.by_name import PLANTS
from hardware.plants.cart_rail import CART_RAIL

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))  # pendulum_host.py lies beside the tests

FIXTURE_DIGEST = hashlib.sha256(b"a policy for tests").hexdigest()

# A policy for tests only: same interface as the header that export writes, with a linear rule over the whole history,
# so that a ring that is filled wrongly changes the trajectory.
POLICY_H = """
#ifndef POLICY_H
#define POLICY_H
#include <stdint.h>
#include <string.h>
#define POLICY_FORMAT 1
#if defined(POLICY_EXPECTED_FORMAT) && POLICY_EXPECTED_FORMAT != POLICY_FORMAT
#error "policy.h has another format"
#endif
#define POLICY_DIGEST_HEX "@DIGEST@"
#define POLICY_BASE_OBSERVATION_SIZE 5
#define POLICY_HISTORY 5
#define POLICY_OBSERVATION_SIZE 25
#define POLICY_ACTION_SIZE 1
#define POLICY_PERIOD_US @PERIOD@u
static const uint8_t policy_digest[32] = {@BYTES@};
static const float policy_action_low[1] = {-20.0f};
static const float policy_action_high[1] = {20.0f};
typedef struct {
    float frames[POLICY_HISTORY * POLICY_BASE_OBSERVATION_SIZE];
    uint8_t oldest;
    uint8_t filled;
} policy_state_t;
static inline void policy_reset(policy_state_t *state) { memset(state, 0, sizeof *state); }
static inline void policy_observe(policy_state_t *state, const float base[]) {
    for (int frame = 0; frame < POLICY_HISTORY; frame++) {
        if (!state->filled || frame == state->oldest) {
            memcpy(&state->frames[frame * 5], base, 5 * sizeof(float));
        }
    }
    state->oldest = (uint8_t)((state->oldest + 1) % POLICY_HISTORY);
    state->filled = 1;
}
static inline void policy_evaluate(const float observation[25], float action[]) {
    const float *newest = &observation[20];
    float sum = -12.0f * newest[0] - 3.0f * newest[1] + 0.4f * newest[4] * newest[3];
    for (int frame = 0; frame < 4; frame++) {
        sum += 0.5f * (float)(frame + 1) * (observation[5 * frame + 4] - newest[0]);
    }
    sum += 6.0f * (newest[2] + 1.0f);
    action[0] = @RULE@;
}
static inline void policy_step(policy_state_t *state, const float base[], float action[]) {
    float observation[25];
    policy_observe(state, base);
    for (int frame = 0; frame < 5; frame++) {
        memcpy(&observation[5 * frame], &state->frames[5 * ((state->oldest + frame) % 5)], 5 * sizeof(float));
    }
    policy_evaluate(observation, action);
}
static inline int policy_self_test(void) { return @SELF_TEST@; }
#endif
"""


def write_policy(
    folder: Path, rule="sum > 20.0f ? 20.0f : (sum < -20.0f ? -20.0f : sum)", self_test=0, period=20000
) -> Path:
    """Write a policy.h for tests into `folder`; `rule` is a C expression of `sum`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = POLICY_H.replace("@DIGEST@", FIXTURE_DIGEST).replace("@PERIOD@", str(period))
    text = text.replace("@BYTES@", ",".join(f"0x{byte:02x}" for byte in bytes.fromhex(FIXTURE_DIGEST)))
    text = text.replace("@RULE@", rule).replace("@SELF_TEST@", str(self_test))
    (folder / "policy.h").write_text(text)
    return folder


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory) -> Path:
    return write_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="session")
def image(policy_folder, tmp_path_factory) -> Path:
    """The firmware for board host, built with sanitizers."""
    out = tmp_path_factory.mktemp("image")
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
    return build(policy_folder, out, extra_flags=sanitizers).path


@pytest.fixture(scope="session")
def policy_of(policy_folder, tmp_path_factory):
    """The folder of a policy for the plant that a board is wired to."""

    def policy(name: str) -> Path:
        plant = BOARDS[name].plant
        if plant in ("", CART_RAIL.name):
            return policy_folder
        folder = tmp_path_factory.mktemp(plant)
        environment = PLANTS[plant]().constants.environment
        text = (policy_folder / "policy.h").read_text()
        (folder / "policy.h").write_text(f"/*\n * environment  {environment}, one action every 0.02 s\n */\n{text}")
        return folder

    return policy


@pytest.fixture(scope="session")
def emulated_image(policy_folder, tmp_path_factory) -> Path:
    """The firmware of a Cortex-M4F, for QEMU."""
    return build(policy_folder, tmp_path_factory.mktemp("emulated"), "netduinoplus2").path


@pytest.fixture(scope="session")
def library(policy_folder, tmp_path_factory) -> ctypes.CDLL:
    """The portable modules as a shared object, for calls from Python."""
    path = tmp_path_factory.mktemp("library") / "firmware.so"
    modules = [str(FIRMWARE_FOLDER / f"{name}.c") for name in MODULES if name not in ("main", "link")]
    include = ["-I", str(FIRMWARE_FOLDER), "-I", str(policy_folder)]
    command = [find_compiler(), *FLAGS, "-shared", "-fPIC", *include, *modules, "-o", str(path), "-lm"]
    subprocess.run(command, check=True, timeout=120)
    return ctypes.CDLL(str(path))


def compile_program(out: Path, sources: list[Path], *, sanitize=True, flags: tuple[str, ...] = ()) -> Path:
    """Compile a C test program with the firmware's warnings and, by default, sanitizers."""
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g") if sanitize else ()
    command = [find_compiler(), *FLAGS, *sanitizers, *flags, "-I", str(FIRMWARE_FOLDER)]
    subprocess.run([*command, *map(str, sources), "-o", str(out), "-lm"], check=True, timeout=120)
    return out


@pytest.fixture
def simulation(image, tmp_path):
    """A simulation in lock-step."""
    from pendulum_host import simulate

    yield from simulate(image, tmp_path, "--clock", "lockstep")


@pytest.fixture
def host(simulation):
    """A host on its link."""
    from pendulum_host import Host

    host = Host(simulation.link)
    yield host
    host.close()
