"""`python -m polyfield` and the `polyfield` command."""

import signal
import sys


def main() -> int:
    """Run the command line and return its exit status."""
    # Until a command begins its work, Ctrl-C simply ends the process: there is nothing yet to save or to say.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from polyfield.cli.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
