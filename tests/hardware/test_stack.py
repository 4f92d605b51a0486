"""The stack of every emulated or flashed Cortex-M image: bounded by its instructions, checked twice.

By the compiler (`-fstack-usage`, each function's frame) and by a run (a painted stack on an emulated chip).
"""

import subprocess
from pathlib import Path

import pytest
from unicorn_chip import UnicornChip, UnicornUsart, binary_of

from hardware.board import ARM, BOARDS, find_board
from hardware.build import build, find_cross
from hardware.codec import decode_body
from hardware.errors import ImageError
from hardware.framing import FrameDecoder, encode_frame
from hardware.protocol import (
    PROTOCOL_VERSION,
    Acknowledge,
    Arm,
    Config,
    FaultReport,
    Hello,
    HelloReply,
    Mode,
    SensorFlag,
    Sensors,
)
from hardware.stack import read_functions, stack_bytes, stack_use

pytestmark = pytest.mark.cross
MARGIN = 64  # bytes that stay free with an interrupt and a fault on top of the deepest call
IMAGES = [
    (board.name, variant)
    for board in BOARDS.values()
    if board.chip and any(flag.startswith("-mcpu=cortex-m") for flag in board.chip.flags)
    for variant in board.variants
]
PAINT = 0xA5
LINK, LINK_INTERRUPT = 0x4001_1000, 37
PLANT, PLANT_INTERRUPT = 0x4000_4400, 38
PATIENCE_US = 10_000_000


@pytest.fixture(scope="module", params=IMAGES, ids="-".join)
def built(request, policy_of, tmp_path_factory):
    """Board, image, and the compiler's own frame of each function."""
    board, variant = request.param
    folder = tmp_path_factory.mktemp("stack")
    flags = ("-fstack-usage", "-dumpdir", f"{folder}/usage-")
    image = build(policy_of(board), folder, board, variant, flags).path
    frames: dict[str, set[int]] = {}
    for path in folder.glob("usage-*.su"):
        for line in path.read_text().splitlines():
            place, size, kind = line.split("\t")
            assert kind == "static", line
            frames.setdefault(place.rsplit(":", 1)[1], set()).add(int(size))
    return find_board(board), image, frames


def test_stack_stays_within_what_is_reserved(built):
    board, image, _ = built
    use = stack_use(image, board.chip)
    assert use.total_bytes + MARGIN <= board.chip.stack_bytes, use
    assert use.path[:3] == ("image_reset", "main", "firmware_run")
    assert use.interrupt_bytes > 0
    assert use.fault_bytes > 0
    assert stack_bytes(image, board) == use.total_bytes


def test_frames_are_the_compiler_s(built):
    """What is read from the instructions and what the compiler says agree wherever it says anything."""
    _, image, frames = built
    functions, _ = read_functions(image)
    compared = 0
    for entry, (name, _size) in functions.symbols.items():
        if name in frames:
            assert functions.function(entry).frame_bytes in frames[name], name
            compared += 1
    assert compared > 40


def test_no_stack_is_known_of_a_process():
    assert stack_bytes(Path("firmware"), find_board("host")) is None


class PaintedChip(UnicornChip):
    """Its stack is painted at every reset."""

    def reset(self) -> None:
        super().reset()
        self._uc.mem_write(self.chip.ram_origin, bytes([PAINT]) * self.chip.stack_bytes)

    def used_bytes(self) -> int:
        """How much of the stack's paint is gone."""
        stack = bytes(self._uc.mem_read(self.chip.ram_origin, self.chip.stack_bytes))
        return len(stack.lstrip(bytes([PAINT])))


def messages(usart: UnicornUsart) -> list[object]:
    return [decode_body(body)[1] for body in FrameDecoder().feed(bytes(usart.sent))]


def test_a_run_stays_within_the_bound(policy_of, tmp_path):
    """Greeted, homed, armed, driving, stopped by a fault: what the paint shows is within the bound, and not far."""
    board = BOARDS["netduinoplus2"]
    image = build(policy_of(board.name), tmp_path, board.name).path
    use = stack_use(image, board.chip)
    chip = PaintedChip(board.chip, binary_of(image))
    link, plant = UnicornUsart(chip, LINK, LINK_INTERRUPT), UnicornUsart(chip, PLANT, PLANT_INTERRUPT)
    chip.reset()
    chip.run(PATIENCE_US)

    def tell(message) -> None:
        link.receive(encode_frame(message, 0))
        chip.run(PATIENCE_US)

    def period(tick: int, flags=SensorFlag.REFERENCED, cart=0) -> None:
        plant.receive(encode_frame(Sensors(tick, tick * 20_000, cart, 0, flags), tick))
        chip.run(PATIENCE_US)

    tell(Hello(PROTOCOL_VERSION, 1))
    [nonce] = [message.device_nonce for message in messages(link) if isinstance(message, HelloReply)]
    for tick in range(1, 13):
        period(tick)
    tell(Config(nonce, Mode.DEVICE, 5, 0))
    tell(Arm(nonce, 0x5EED))
    for tick in range(13, 16):
        period(tick)
    period(16, cart=30_000)
    for tick in range(17, 60):
        period(tick, SensorFlag.EMERGENCY_STOP)
    said = messages(link)
    assert [message.result for message in said if isinstance(message, Acknowledge)] == [0, 0]
    assert any(isinstance(message, FaultReport) for message in said)
    # The emulated interrupts come while the image sleeps, where the stack is not deep, and push nothing by themselves.
    assert use.main_bytes - 32 <= chip.used_bytes() <= use.main_bytes


PROGRAM = """
int reset(int n);
int other(int n);
%s
typedef void (*handler_t)(void);
__attribute__((section(".text.table"), used)) static const handler_t vectors[16] = {0, (handler_t)reset};
"""
BOUNDED = "__attribute__((noinline)) int other(int n) { return n + 1; } int reset(int n) { return 2 * other(n) + n; }"
RECURSION = "int reset(int n) { return n < 2 ? n : other(n - 1) + 3; } int other(int n) { return reset(n - 2) * n; }"
POINTER = "int (*volatile callee)(int); int reset(int n) { return callee(n) + 1; } int other(int n) { return n; }"
VARIABLE = (
    "int reset(int n) { volatile char room[n]; for (int i = 0; i < n; i++) room[i] = 1; return room[0] + other(n); }"
    "__attribute__((noinline)) int other(int n) { return n; }"
)
GROWING = (
    '__attribute__((naked)) int reset(int n) { __asm volatile("1: push {r0, r1}\\n b 1b"); }'
    "int other(int n) { return n; }"
)
TABLE = """
__attribute__((noinline)) int other(int n) { volatile int room[8]; room[n & 7] = n; return room[0]; }
int reset(int n) {
    switch (n) {
    case 0: return other(1) + 3;
    case 1: return n * 7 + other(n * n) * 5;
    case 2: __asm volatile("nop"); return other(n + 2) ^ 9;
    case 3: __asm volatile("nop\\n nop"); return other(n - 4) | 64;
    case 4: __asm volatile("dsb"); return other(n * 9) & 31;
    default: return n;
    }
}
"""


def link_program(folder: Path, code: str) -> Path:
    source, image = folder / "program.c", folder / "program.elf"
    source.write_text(PROGRAM % code)
    flags = ["-mcpu=cortex-m4", "-mthumb", "-Os", "-fno-optimize-sibling-calls", "-nostdlib", "-Wl,-ereset"]
    subprocess.run([find_cross(ARM, "gcc"), *flags, str(source), "-o", str(image)], check=True, timeout=60)
    return image


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (RECURSION, "recursion: reset"),
        (POINTER, "through a pointer"),
        (VARIABLE, "only the run knows"),
        (GROWING, "cannot be followed"),
    ],
    ids=["recursion", "pointer", "variable", "growing"],
)
def test_what_has_no_bound_is_refused(tmp_path, code, reason):
    image = link_program(tmp_path, code)
    with pytest.raises(ImageError, match=reason) as caught:
        stack_use(image, BOARDS["netduinoplus2"].chip)
    assert "\n" not in str(caught.value)


def test_a_chain_of_calls_adds_up(tmp_path):
    use = stack_use(link_program(tmp_path, BOUNDED), BOARDS["netduinoplus2"].chip)
    assert use.path[0] == "reset"
    assert 8 <= use.main_bytes <= 16


def test_calls_behind_a_jump_table_are_seen(tmp_path):
    use = stack_use(link_program(tmp_path, TABLE), BOARDS["netduinoplus2"].chip)
    assert use.path == ("reset", "other")
    assert use.main_bytes >= 32
