"""`flash`: what it refuses, what it runs, and what it says when the programmer fails."""

import shlex

import pytest

from hardware.build import build
from hardware.errors import FlashError, ImageError
from hardware.flash import flash
from hardware.image import flash_contents, identify

pytestmark = pytest.mark.cross
BOARD = "netduinoplus2"


@pytest.fixture(scope="module")
def images(policy_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("images")
    return {variant: build(policy_folder, out, BOARD, variant).path for variant in ("hil", "real")}


@pytest.fixture
def openocd(tmp_path, monkeypatch):
    """A programmer that does what it is told to; the arguments and the folder of the last call."""

    def make(script):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "openocd"
        program.write_text(f'#!/bin/sh\necho "$PWD" "$@" > {shlex.quote(str(tmp_path / "called"))}\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return tmp_path / "called"

    return make


def test_the_image_is_programmed_and_verified(images, openocd):
    called = openocd("echo '** Programming Finished **' >&2; echo '** Verified OK **' >&2")
    done = flash(images["real"], BOARD, None, dry_run=False)
    assert done.bytes == images["real"].with_suffix(".bin").stat().st_size
    folder, *arguments = called.read_text().split()
    assert folder == str(images["real"].parent)
    assert arguments[:4] == ["-f", "interface/stlink.cfg", "-f", "target/stm32f4x.cfg"]
    assert " ".join(arguments[4:]) == "-c program firmware_real.elf verify reset exit"


def test_a_dry_run_runs_nothing(images, openocd):
    called = openocd("exit 0")
    done = flash(images["real"], BOARD, "cmsis-dap", dry_run=True)
    assert "interface/cmsis-dap.cfg" in done.command
    assert not called.exists()


def test_what_lies_in_flash_is_what_was_checked(images):
    for image in images.values():
        assert flash_contents(image) == image.with_suffix(".bin").read_bytes()
    assert [identify(images[name]).variant for name in ("hil", "real")] == ["hil", "real"]


def test_wrong_images_are_refused(images, image, tmp_path, openocd):
    called = openocd("exit 0")
    damaged = tmp_path / "damaged.elf"
    data = bytearray(images["real"].read_bytes())
    place = data.find(images["real"].with_suffix(".bin").read_bytes()[:64])
    data[place + 70] ^= 4
    damaged.write_bytes(data)
    strange = tmp_path / "a b;shutdown.elf"
    strange.write_bytes(images["real"].read_bytes())
    cut = tmp_path / "cut.elf"
    cut.write_bytes(images["real"].read_bytes()[:2000])
    cases = [
        (images["hil"], BOARD, "is the hil image"),
        (images["real"], "microbit", "is for board netduinoplus2"),
        (image, "host", "has no flash"),
        (damaged, BOARD, "its CRC-32 is wrong"),
        (strange, BOARD, "expected names of letters"),
        (cut, BOARD, "is for board host"),
        (tmp_path / "absent.elf", BOARD, "no image at"),
    ]
    for path, board, words in cases:
        with pytest.raises((ImageError, FlashError), match=words) as caught:
            flash(path, board, None, dry_run=False)
        assert "\n" not in str(caught.value)
    assert not called.exists()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'Error: open failed' >&2; exit 1", "Error: open failed; expected a stlink probe on USB"),
        ("echo '** Verify Failed **' >&2; exit 0", "Verify Failed"),
        ("exit 3", "exit status 3"),
    ],
)
def test_a_programmer_that_fails_is_one_line(images, openocd, script, words):
    openocd(script)
    with pytest.raises(FlashError, match=words.replace("*", r"\*")) as caught:
        flash(images["real"], BOARD, None, dry_run=False)
    assert "\n" not in str(caught.value)


def test_a_missing_programmer_is_one_line(images, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FlashError, match=r"no openocd on PATH.*apt-get install openocd"):
        flash(images["real"], BOARD, None, dry_run=False)
