"""The command `mixtura`, also as `python -m mixtura`: it ends quietly when a signal asks it to, from its start on."""

import sys

from mixtura import interrupts


def main() -> int:
    """Run the command and return its exit code."""
    # Before anything large is imported: that takes long enough for somebody to press Ctrl-C.
    interrupts.end_at_once()
    from mixtura.cli import main as run

    code = run()
    # What is left to do is the interpreter's, which would tell of an interrupt with a traceback.
    interrupts.end_at_once()
    return code


if __name__ == "__main__":
    sys.exit(main())
