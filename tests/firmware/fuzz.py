"""Fuzz the device's receive path with libFuzzer: `python tests/firmware/fuzz.py --seconds 600`; `make fuzz` does that.

Two shapes of input: `bytes` go over the wire as they are, `messages` are scripts of framed messages and troubles of the
plant. New inputs stay in OUT/corpus; `--minimise` writes the few that reach everything back to tests/firmware/corpus.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hardware.build import FIRMWARE_FOLDER, LANGUAGE, MODULES
from hardware.framing import CRC_INITIAL, cobs_decode, cobs_encode, crc16

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"
SHAPES = ("bytes", "messages")
LONGEST = {"bytes": 512, "messages": 200}  # bytes of an input
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
NEUTRAL_INITIAL = 0xFFFF  # starts the CRC of frames in the committed corpus, whatever the schema of the day
BENCH = ("hostile_host", "device_bench", "bench_plant", "safety_rules", "happenings")


def sources(*programs: str, firmware: Path = FIRMWARE_FOLDER) -> list[str]:
    """What a program of the bench is made of; main.c is included by device_bench.c."""
    own = [FOLDER / f"{name}.c" for name in (*programs, *BENCH)]
    return [str(path) for path in (*own, *(firmware / f"{name}.c" for name in MODULES if name != "main"))]


def includes(firmware: Path = FIRMWARE_FOLDER) -> list[str]:
    """Folders of headers for the same."""
    return [f"-I{folder}" for folder in (firmware, FOLDER / "policy", FOLDER)]


def signed_again(data: bytes, initial: int, new_initial: int) -> bytes:
    """The bytes with every frame whose CRC is right for `initial` made right for `new_initial`; all else as it is."""
    *pieces, rest = data.split(b"\0")
    frames = []
    for piece in pieces:
        decoded = cobs_decode(piece) or b""
        body, crc = decoded[:-2], int.from_bytes(decoded[-2:], "little")
        if body and crc16(body, initial) == crc:
            piece = cobs_encode(body + crc16(body, new_initial).to_bytes(2, "little"))
        frames.append(piece + b"\0")
    return b"".join(frames) + rest


def unpack_corpus(shape: str, out: Path) -> Path:
    """The committed corpus in a folder below `out`, its frames signed for the schema of today."""
    folder = out / "committed" / shape
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in (CORPUS / shape).iterdir():
        data = path.read_bytes()
        (folder / path.name).write_bytes(signed_again(data, NEUTRAL_INITIAL, CRC_INITIAL) if shape == "bytes" else data)
    return folder


def build(shape: str, out: Path) -> Path:
    """The fuzzer for a shape of input. Raises CalledProcessError."""
    program = out / f"fuzz_{shape}"
    out.mkdir(parents=True, exist_ok=True)
    flags = [*LANGUAGE, "-O1", *SANITIZERS, "-fsanitize=fuzzer", *includes()]
    subprocess.run(["clang", *flags, *sources(f"fuzz_{shape}"), "-o", str(program), "-lm"], check=True, timeout=300)
    return program


def fuzz(shape: str, out: Path, limit: str) -> int:
    """Run a fuzzer from the committed corpus on, until `limit`, an option of libFuzzer; its exit code."""
    program = build(shape, out)
    grown = out / "corpus" / shape
    grown.mkdir(parents=True, exist_ok=True)
    options = ["-seed=1", limit, f"-max_len={LONGEST[shape]}", "-timeout=20", "-print_final_stats=1"]
    # Its measure of memory is the peak that it inherits from whoever started it: a large test run would end it.
    options.append("-rss_limit_mb=0")
    command = [str(program), *options, f"-artifact_prefix={out}/{shape}-", str(grown), str(unpack_corpus(shape, out))]
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        print(f"error: fuzz_{shape} failed; the input is {out}/{shape}-*: run {program} on it", file=sys.stderr)
    return done.returncode


def minimise(shape: str, out: Path) -> None:
    """Replace the committed corpus by the smallest that reaches as much code as it and what was found since.

    Code, not values: where tests/hardware/test_fuzz.py then misses a fault or a result, keep the input of before.
    """
    program = build(shape, out)
    with tempfile.TemporaryDirectory(dir=out) as name:
        merged = Path(name) / shape
        merged.mkdir()
        # Edges alone, without how often each was taken: tens of files instead of hundreds.
        options = ["-merge=1", "-use_counters=0", "-use_value_profile=0"]
        found = [str(folder) for folder in (unpack_corpus(shape, out), out / "corpus" / shape) if folder.is_dir()]
        subprocess.run([str(program), *options, str(merged), *found], check=True)
        shutil.rmtree(CORPUS / shape, ignore_errors=True)
        (CORPUS / shape).mkdir()
        for path in merged.iterdir():
            data = path.read_bytes()
            (CORPUS / shape / path.name).write_bytes(
                signed_again(data, CRC_INITIAL, NEUTRAL_INITIAL) if shape == "bytes" else data
            )


def main() -> int:
    """The command line. The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="how long, both shapes together")
    parser.add_argument("--runs", type=int, help="inputs for each shape, instead of a time")
    parser.add_argument("--minimise", action="store_true", help="rewrite the committed corpus instead of fuzzing")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    arguments = parser.parse_args()
    if shutil.which("clang") is None:
        print("error: no clang on PATH, expected one with libFuzzer; apt-get install clang libclang-rt-14-dev")
        return 1
    if arguments.minimise:
        for shape in SHAPES:
            minimise(shape, arguments.out)
        return 0
    limit = f"-max_total_time={arguments.seconds // len(SHAPES)}"
    if arguments.runs is not None:
        limit = f"-runs={arguments.runs}"
    return max(abs(fuzz(shape, arguments.out, limit)) for shape in SHAPES)


if __name__ == "__main__":
    sys.exit(main())
