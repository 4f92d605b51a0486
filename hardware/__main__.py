"""`python -m hardware`, also installed as `bpd-hardware`; the verbs are in command_line.py."""

import sys


def main() -> None:
    """Console entry point; ends the process: 0 done, 1 error, 2 wrong usage, 130 interrupted."""
    try:
        # Imported here: an interrupt while packages still load ends in one line, too.
        from hardware.command_line import command_line

        code = command_line()
    except KeyboardInterrupt as interrupt:
        # Whoever knows better what was left behind says so in the interrupt.
        print(f"error: interrupted; {str(interrupt) or 'earlier files are unchanged'}", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
