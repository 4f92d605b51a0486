"""Let atheris look for bytes that break the host's side: `python tests/firmware_bridge/fuzz_host.py -runs=N`.

atheris is not among the developers' packages (it builds libFuzzer's runtime into the interpreter's calls): install it
into an environment of its own, beside this package. Without it the program says so and ends with 1. What `fuzz` in
benchmarks/bridge_fuzz.py asserts is asserted here for inputs that coverage leads to. The first byte decides: even, the
bytes are the wire's; odd, they are bodies, each behind a byte with its length, and their checksums are made right.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def bodies_of(data: bytes) -> bytes:
    """Frames of the bodies in `data`."""
    from hardware.framing import frame_body

    frames, place = b"", 0
    while place < len(data):
        size = data[place] % 80
        frames += frame_body(data[place + 1 : place + 1 + size])
        place += 1 + size
    return frames


def one_input(data: bytes) -> None:
    """A conversation that hears `data`, in two reads; raises what should not have been raised."""
    from benchmarks.bridge_fuzz import Fed, log
    from firmware_bridge.device.conversation import Conversation
    from firmware_bridge.logs.recorder import Recorder
    from hardware.framing import encode_frame
    from hardware.protocol import Acknowledge

    if not data:
        return
    wire = data[1:] if data[0] % 2 == 0 else bodies_of(data[1:])
    link = Fed()
    recorder = Recorder(Path("unused"), capacity_bytes=0)
    recorder.tap = log
    conversation = Conversation(link, recorder)
    messages = []
    cut = data[0] % (len(wire) + 1)
    last = Acknowledge(1, 2, 3)
    for piece in (wire[:cut], wire[cut:] + b"\0" + encode_frame(last, 0)):
        link.data = piece
        messages += conversation.receive(0.0)
        conversation.answer()
        recorder.pump()
    assert messages[-1] == last
    segments = sum(map(bool, wire.split(b"\0"))) + 1
    decoder = conversation._decoder
    assert decoder.frames + decoder.rejected == segments
    assert decoder.frames == len(messages) + conversation._undecodable + conversation.counters().out_of_order


def main() -> None:
    """Run libFuzzer with its own options."""
    try:
        import atheris
    except ImportError:
        sys.exit("error: atheris is not installed, expected it in this environment; pip install atheris==3.0.0")
    with atheris.instrument_imports(
        include=["hardware.framing", "hardware.codec", "firmware_bridge.device.conversation"]
    ):
        import firmware_bridge.device.conversation  # noqa: F401
        import hardware.codec
        import hardware.framing  # noqa: F401
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
