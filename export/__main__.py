"""`python -m export`, also installed as `bpd-export`; the verbs are in command_line.py."""

import sys


def main() -> None:
    """Console entry point; ends the process: 0 done, 1 error, 2 wrong usage, 130 interrupted."""
    try:
        # Imported here: an interrupt while packages still load ends in one line, too.
        from export.command_line import command_line

        code = command_line()
    except KeyboardInterrupt:
        print("error: interrupted; every file is whole, run it again", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
