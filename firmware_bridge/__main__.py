"""`python -m firmware_bridge`, also installed as `bpd-bridge`; the verbs are in command_line.py."""

import signal
import sys


def main() -> None:
    """Console entry point; exits with 0, 1 (error), 2 (wrong usage), 130 (interrupted), or 129, 143 (other signals)."""
    # The daemon's way to arm a device that waits for it; what comes while packages load is forgotten, not fatal.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        # Imported here: an interrupt while packages still load ends in one line, too.
        from firmware_bridge.standard_streams import open_standard_streams

        open_standard_streams()
        from firmware_bridge.command_line import command_line

        code = command_line()
    except KeyboardInterrupt as interrupt:
        # Whoever knows better what was left behind says so in the interrupt. No verb but `run` arms a device, and
        # files are replaced whole, one by one.
        print(f"error: interrupted; {str(interrupt) or 'nothing was armed, every file is whole'}", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
