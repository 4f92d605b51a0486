"""A microcontroller in this process: its real image runs on Unicorn, and registers are Python functions.

What QEMU does not model (clock tree, timers, reset causes) can be put behind the very instructions that will run on
the chip, and thousands of damaged images can be started in a minute. Interrupts come while the image sleeps.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import unicorn
from unicorn import arm_const

from hardware.board import Chip
from hardware.codec import decode_body
from hardware.framing import FrameDecoder, encode_frame
from hardware.protocol import PROTOCOL_VERSION, Acknowledge, Arm, Config, Hello, HelloReply, Message, Mode, Result

# Two buses of peripherals and the system control space: start and size.
REGISTERS = ((0x4000_0000, 0x0010_0000), (0x5000_0000, 0x0010_0000), (0xE000_E000, 0x1000))
EXTERNAL = 16  # vectors before the first external interrupt
_RETURN = 0x1000_0000  # where handlers come back to; no chip here has anything there
_PAGE = 4096
_PATIENCE_US = 5_000_000


class UnicornChip:
    """`reads` and `writes` map register addresses to functions: () -> value and value -> None."""

    def __init__(self, chip: Chip, binary: bytes) -> None:
        self.chip = chip
        self.binary = binary
        self.reads: dict[int, Callable[[], int]] = {}
        self.writes: dict[int, Callable[[int], None]] = {}
        self.ports: list[UnicornPort] = []
        self._uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        model = arm_const.UC_CPU_ARM_CORTEX_M0 if "M0" in chip.title else arm_const.UC_CPU_ARM_CORTEX_M4
        self._uc.ctl_set_cpu_model(model)
        flash = -(-len(binary) // _PAGE) * _PAGE
        self._uc.mem_map(chip.flash_origin, flash, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        for start, size in (
            (chip.ram_origin, chip.ram_bytes),
            *REGISTERS,
            (_RETURN, _PAGE),
        ):
            self._uc.mem_map(start, size)
        self._uc.mem_write(chip.flash_origin, binary)
        self._fresh = self._uc.context_save()
        for start, size in REGISTERS:
            self._uc.hook_add(unicorn.UC_HOOK_MEM_READ, self._on_read, begin=start, end=start + size - 1)
            self._uc.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._on_write, begin=start, end=start + size - 1)

    def flip(self, offset: int, bit: int) -> None:
        """Change one bit of the flash; a second call changes it back."""
        address = self.chip.flash_origin + offset
        byte = self._uc.mem_read(address, 1)[0] ^ (1 << bit)
        self._uc.mem_write(address, bytes([byte]))
        # Translated addresses: whatever mode a damaged image left behind may refuse the translation, silently.
        self._uc.context_restore(self._fresh)
        self._uc.ctl_remove_cache(address, address + 1)

    def register(self, address: int) -> int:
        """What was last written to a register that has no function."""
        return int.from_bytes(self._uc.mem_read(address, 4), "little")

    def set_register(self, address: int, value: int) -> None:
        """What the image will read from a register that has no function."""
        self._uc.mem_write(address, value.to_bytes(4, "little"))

    def reset(self) -> None:
        """Start again: registers and memory are cleared, the stack pointer and entry come from the vector table."""
        for start, size in REGISTERS:
            self._uc.mem_write(start, bytes(size))
        self._uc.mem_write(self.chip.ram_origin, bytes(self.chip.ram_bytes))
        for port in self.ports:
            port.clear()
        self._uc.context_restore(self._fresh)  # a damaged image may leave any mode behind
        self._uc.reg_write(arm_const.UC_ARM_REG_SP, self._vector(0))
        self._pc = self._vector(1)

    def run(self, timeout_us: int) -> None:
        """Run until the image sleeps. Raises unicorn.UcError for a fault, TimeoutError after `timeout_us`."""
        self._uc.emu_start(self._pc | 1, _RETURN, timeout=timeout_us)
        self._pc = self._uc.reg_read(arm_const.UC_ARM_REG_PC)
        if self._uc.query(unicorn.UC_QUERY_TIMEOUT):
            raise TimeoutError

    def interrupt(self, number: int) -> None:
        """Let the handler of an external interrupt run while the image sleeps."""
        saved = self._uc.context_save()
        self._uc.reg_write(arm_const.UC_ARM_REG_LR, _RETURN | 1)
        self._uc.emu_start(self._vector(EXTERNAL + number) | 1, _RETURN, timeout=100_000)
        self._uc.context_restore(saved)

    def _vector(self, number: int) -> int:
        return int.from_bytes(self._uc.mem_read(self.chip.flash_origin + 4 * number, 4), "little")

    def _on_read(self, uc: unicorn.Uc, _access: int, address: int, size: int, _value: int, _data: object) -> None:
        if address in self.reads:
            uc.mem_write(address, (self.reads[address]() & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def _on_write(self, _uc: unicorn.Uc, _access: int, address: int, _size: int, value: int, _data: object) -> None:
        if address in self.writes:
            self.writes[address](value & 0xFFFF_FFFF)


class UnicornPort:
    """A serial port of such a chip: `sent` is what the image sent; `receive` hands it bytes. Heirs put its registers
    in place."""

    def __init__(self, chip: UnicornChip, interrupt: int) -> None:
        self.sent = bytearray()
        chip.ports.append(self)
        self._chip = chip
        self._interrupt = interrupt
        self._waiting: deque[int] = deque()

    def clear(self) -> None:
        """Forget what was sent and what waits."""
        self.sent.clear()
        self._waiting.clear()

    def receive(self, data: Iterable[int]) -> None:
        """Deliver bytes while the image sleeps: as if its handler were so slow that the next one is always there."""
        self._waiting.extend(data)
        self._chip.interrupt(self._interrupt)

    def _take(self) -> int:
        return self._waiting.popleft() if self._waiting else 0

    def _send(self, value: int) -> None:
        self.sent.append(value & 0xFF)


class UnicornUsart(UnicornPort):
    """A USART of an STM32F4."""

    def __init__(self, chip: UnicornChip, base: int, interrupt: int) -> None:
        super().__init__(chip, interrupt)
        chip.reads[base] = lambda: 0x80 | (0x20 if self._waiting else 0)  # TXE, RXNE
        chip.reads[base + 4] = self._take
        chip.writes[base + 4] = self._send


class UnicornUart(UnicornPort):
    """The UART of an nRF51."""

    def __init__(self, chip: UnicornChip, base: int, interrupt: int) -> None:
        super().__init__(chip, interrupt)
        chip.reads[base + 0x108] = lambda: int(bool(self._waiting))  # RXDRDY
        chip.reads[base + 0x11C] = lambda: 1  # TXDRDY
        chip.reads[base + 0x518] = self._take
        chip.writes[base + 0x51C] = self._send


class LinkedBoard(ABC):
    """A board with such a chip and a host on its link; heirs put the rest of its registers in place and say how it is
    homed."""

    def __init__(self, chip: UnicornChip, link: UnicornPort) -> None:
        self.chip = chip
        self.link = link
        self._decoder = FrameDecoder()

    def run(self) -> None:
        """Until the image sleeps."""
        self.chip.run(_PATIENCE_US)

    def heard(self) -> list[Message]:
        """What the image has said since the last time."""
        data = bytes(self.link.sent)
        self.link.sent.clear()
        return [decode_body(body)[1] for body in self._decoder.feed(data)]

    def tell(self, message: Message) -> list[Message]:
        """Send it; the answers, with whatever was said before and not heard yet."""
        self.link.receive(encode_frame(message, 0))
        self.run()
        return self.heard()

    @abstractmethod
    def home(self, *how: object) -> object:
        """Move axis and rod as a person would who homes this board."""

    def arm(self, *how: object, mode: Mode = Mode.DEVICE) -> None:
        """Hello to ARM; `how` goes to `home`."""
        reply = self.tell(Hello(PROTOCOL_VERSION, 1))[0]
        assert isinstance(reply, HelloReply)
        self.home(*how)
        self.tell(Config(reply.device_nonce, mode, 10, 0))
        assert self.tell(Arm(reply.device_nonce, 5)) == [Acknowledge(Arm.TYPE, 0, Result.OK)]


def independent_watchdog_ms(chip: UnicornChip) -> tuple[float, float]:
    """How long an STM32F4 lives after its watchdog was fed for the last time, with the slowest and the fastest
    oscillator that the data sheets allow."""
    clocks = chip.register(0x4000_3008) * (4 << chip.register(0x4000_3004))
    return clocks / 17.0, clocks / 47.0


def binary_of(image: Path) -> bytes:
    """What lies in flash, written beside the ELF file by the build."""
    return image.with_suffix(".bin").read_bytes()
