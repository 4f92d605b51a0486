"""`flash`: what it refuses, what it runs, and what it says when the programmer fails."""

import shlex
import shutil
import signal
import struct
import subprocess
import zlib

import pytest

from hardware.board import BOARDS
from hardware.build import build
from hardware.command_line import command_line
from hardware.errors import FlashError, ImageError
from hardware.flash import flash
from hardware.image import flash_contents, identify, identify_flash

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
    _, *arguments = called.read_text().split()
    assert arguments[:4] == ["-f", "interface/stlink.cfg", "-f", "target/stm32f4x.cfg"]
    assert "else {program firmware_real.bin 0x08000000 verify reset exit}" in " ".join(arguments[4:])


def test_what_is_programmed_is_what_was_checked(images, openocd, tmp_path):
    openocd(f"cp firmware_real.bin {shlex.quote(str(tmp_path / 'programmed'))}")
    flash(images["real"], BOARD, None, dry_run=False)
    assert (tmp_path / "programmed").read_bytes() == images["real"].with_suffix(".bin").read_bytes()


@pytest.mark.skipif(shutil.which("openocd") is None, reason="no OpenOCD")
@pytest.mark.parametrize(("code", "programmed"), [(0x1001_6413, True), (0x1001_6433, False)])
def test_openocd_asks_the_chip_first(images, code, programmed):
    """The script of the command in OpenOCD itself; what needs a probe is replaced."""
    *_, script = flash(images["real"], BOARD, None, dry_run=True).command
    mocks = f"proc init {{}} {{}}; proc program args {{echo programmed; shutdown}}; proc mrw at {{return {code}}}"
    script = script.replace("source [find mem_helper.tcl]", mocks)
    done = subprocess.run(["openocd", "-c", script], capture_output=True, text=True, check=False)
    assert ("programmed" in done.stderr) == (done.returncode == 0) == programmed
    assert ("Error: the chip says of itself 0x10016433" in done.stderr) == (not programmed)


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
    text = tmp_path / "text.elf"
    text.write_text("no ELF file")
    cases = [
        (images["hil"], BOARD, "is the hil image"),
        (images["real"], "microbit", "is for board netduinoplus2"),
        (image, "host", "--board 'host': nothing here programs that, expected one of netduinoplus2, "),
        (image, "nope", "--board 'nope': nothing here programs that"),
        (images["real"], "atmega328p", "--board 'atmega328p': nothing here programs that"),
        (image, BOARD, "is no 32-bit ELF file"),
        (images["real"].with_suffix(".bin"), BOARD, "is no 32-bit ELF file"),
        (text, BOARD, "is no 32-bit ELF file"),
        (damaged, BOARD, "its CRC-32 is wrong"),
        (strange, BOARD, "expected names of letters"),
        (cut, BOARD, "ends after 2000 bytes"),
        (tmp_path / "absent.elf", BOARD, "no image at"),
    ]
    for path, board, words in cases:
        with pytest.raises((ImageError, FlashError), match=words) as caught:
            flash(path, board, None, dry_run=False)
        assert "\n" not in str(caught.value)
    assert not called.exists()


def _program_header(data, index):
    (start,) = struct.unpack_from("<I", data, 28)
    return start + 32 * index


def _edited(images, tmp_path, change):
    data = bytearray(images["real"].read_bytes())
    change(data)
    path = tmp_path / "edited.elf"
    path.write_bytes(data)
    return path


def _move(data):
    """Every segment by 64 KiB: what is flashed would start nowhere."""
    for index in range(struct.unpack_from("<H", data, 44)[0]):
        at = _program_header(data, index) + 12
        struct.pack_into("<I", data, at, (struct.unpack_from("<I", data, at)[0] + 0x1_0000) & 0xFFFF_FFFF)


def test_an_image_at_another_address_is_refused(images, tmp_path):
    with pytest.raises(ImageError, match=r"bytes for address 0x8010000, expected .* at 0x8000000"):
        flash(_edited(images, tmp_path, _move), BOARD, None, dry_run=True)


def test_the_board_is_what_lies_in_flash_and_not_what_a_header_says(policy_folder, tmp_path):
    """The identity under the CRC-32 counts; with a new CRC-32 a relabelled image is for the board it names."""
    built = build(policy_folder, tmp_path, "microbit", "real").path
    data = built.read_bytes().replace(b"\0microbit real cart_rail\0", b"\0netduinoplus2 real cart\0")
    assert data != built.read_bytes()
    built.write_bytes(data)
    for board in ("microbit", BOARD):
        with pytest.raises(ImageError, match="its CRC-32 is wrong"):
            flash(built, board, None, dry_run=True)


def _relabelled(built, tmp_path, old, new):
    """A properly signed image that says something else of itself."""
    assert len(old) == len(new)
    binary = built.with_suffix(".bin").read_bytes()
    changed = binary[:-4].replace(old, new)
    changed += zlib.crc32(changed).to_bytes(4, "little")
    data = built.read_bytes()
    path = tmp_path / "relabelled.elf"
    path.write_bytes(data.replace(old, new).replace(binary[-4:], changed[-4:]))
    assert flash_contents(path) == changed
    return path


def test_an_image_for_another_plant_or_without_identity_is_refused(images, tmp_path):
    plant = _relabelled(images["real"], tmp_path, b"real cart_rail", b"real cart_free")
    with pytest.raises(ImageError, match=r"is for the plant cart_free, got a netduinoplus2, .* cart_rail"):
        flash(plant, BOARD, None, dry_run=True)
    bare = _relabelled(images["real"], tmp_path, b"\0netduinoplus2 real", b"\0netduinoplus2\0real")
    with pytest.raises(ImageError, match="says 'real cart_rail' of itself"):
        flash(bare, BOARD, None, dry_run=True)


def test_no_edited_header_changes_what_is_programmed(images, tmp_path):
    """Every byte of ELF header, program headers and section headers, one at a time: refused, or the same bytes."""
    source = images["real"].read_bytes()
    expected = images["real"].with_suffix(".bin").read_bytes()
    sections, count = struct.unpack_from("<I", source, 32)[0], struct.unpack_from("<H", source, 48)[0]
    headers = struct.unpack_from("<H", source, 44)[0]
    places = [*range(_program_header(source, headers)), *range(sections, sections + 40 * count)]
    path = tmp_path / "edited.elf"
    for place in places:
        for value in (source[place] ^ 1, source[place] ^ 0x80):
            data = bytearray(source)
            data[place] = value
            path.write_bytes(data)
            try:
                done = flash(path, BOARD, None, dry_run=True)
            except ImageError as error:
                assert "\n" not in str(error)  # noqa: PT017
                continue
            assert done.bytes == len(expected)
            assert flash_contents(path) == expected


def test_every_image_says_in_flash_what_it_is(policy_of, tmp_path):
    for name, board in BOARDS.items():
        for variant in board.variants if board.chip else ():
            built = build(policy_of(name), tmp_path / name, name, variant)
            identity = identify_flash(built.path, flash_contents(built.path))
            assert identity == identify(built.path)
            assert (identity.board, identity.variant) == (board, variant)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'Error: open failed' >&2; exit 1", "Error: open failed; expected a stlink probe on USB"),
        ("echo '** Verify Failed **' >&2; exit 0", "Verify Failed"),
        ("exit 3", "exit status 3"),
        ('echo "x.tcl:28: Error: Can\'t find interface/stlink.cfg"; exit 1', "one of the names in its folder scripts"),
        (
            "echo 'Error: the chip says of itself 0x10016433'; exit 1",
            "F405RG, Cortex-M4F: 0x10016433, expected 0x413",
        ),
    ],
)
def test_a_programmer_that_fails_is_one_line(images, openocd, script, words):
    openocd(script)
    with pytest.raises(FlashError, match=words.replace("*", r"\*")) as caught:
        flash(images["real"], BOARD, None, dry_run=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("interface", ["", "a b"])
def test_an_interface_that_is_no_name_is_refused(images, openocd, interface):
    called = openocd("exit 0")
    with pytest.raises(FlashError, match="expected names of letters"):
        flash(images["real"], BOARD, interface, dry_run=False)
    assert not called.exists()


def test_an_interrupt_says_what_it_left_in_the_chip(images, openocd):
    openocd("kill -INT $PPID; exec sleep 30")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a simulation in this process leaves its own
    try:
        with pytest.raises(KeyboardInterrupt, match="may hold half an image, which refuses to arm; flash it again"):
            flash(images["real"], BOARD, None, dry_run=False)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_missing_programmer_is_one_line(images, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FlashError, match=r"no openocd on PATH.*apt-get install openocd"):
        flash(images["real"], BOARD, None, dry_run=False)


def test_the_printed_command_is_whole(images, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setattr("sys.argv", ["hardware", "flash", str(images["real"]), "--board", BOARD, "--dry-run"])
    assert command_line() == 0
    expected = shlex.join(flash(images["real"], BOARD, None, dry_run=True).command)
    assert expected in capsys.readouterr().out
