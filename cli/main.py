"""The `polyfield` command: finds the command that was named, runs it, turns errors into exit statuses.

Exit status: 0 done, 1 failed, 2 bad input (one sentence on stderr), 130 interrupted, 143 terminated, 129 hung up.
Progress goes to stderr, results to stdout. Commands are loaded only when they are run, torch only when one needs it, so
that help is instant.
"""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from polyfield import __version__, native
from polyfield.cli.arguments import Parser
from polyfield.cli.interrupt import Terminated, interruptible
from polyfield.cli.streams import lead_nowhere, settled
from polyfield.errors import InputError, PolyfieldError, nearest

__all__ = ["COMMANDS", "parser_for", "run"]

COMMANDS = {
    "demo": "the whole tour on the built-in scene, with a report page",
    "train": "fit a radiance field to posed images",
    "fit": "fit a field to an image, a function on the sphere, or a mesh",
    "convert": "turn a radiance field into one of another architecture, without images",
    "compare": "train several fields alike and lay them side by side on a page",
    "eval": "PSNR and SSIM of a run, per view and mean",
    "render": "images, depth or a video of a run along a camera path",
    "mesh": "the surface of a run as a PLY, OBJ or GLB file",
    "inspect": "what is in a scene, a run or a field file, with a picture",
    "doctor": "what was found on this machine, what is missing, and what mends it",
}

_SWITCHES = ("POLYFIELD_ISA", "POLYFIELD_NATIVE")  # in the environment

# The disk's and the machine's troubles: a sentence is all there is to say. Other errors are bugs.
_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
_BAD_PATH = {errno.ENAMETOOLONG, errno.ELOOP}

# What torch, the loader of libraries and the system say when there is no memory, without raising a MemoryError.
_NO_MEMORY = ("allocate memory", "not enough memory", "failed to map segment")


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name.

    Returns:
        The exit status.

    Example:
        >>> run(["--version"])
        polyfield 0.1.0
        0
    """
    with settled():
        return _run(list(arguments))


def _run(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except PolyfieldError as error:
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt as error:
        return _fail("Interrupted.", error.status if isinstance(error, Terminated) else 130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        lead_nowhere(sys.stdout)
        return 1
    except OSError as error:
        if error.errno not in _TROUBLE | _BAD_PATH:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror}.", 2 if error.errno in _BAD_PATH else 1)
    except (MemoryError, RuntimeError, ImportError) as error:
        if not isinstance(error, MemoryError) and not any(t in str(error) for t in _NO_MEMORY):
            raise
        return _fail(
            "There is not enough memory; a higher --downscale or a smaller field needs less.", 1
        )


def parser_for(command: str) -> Parser:
    """Make the argument parser of a command.

    Raises:
        InputError: There is no such command.
    """
    if command not in COMMANDS:
        raise InputError(f"There is no command {command!r}.{nearest(command, COMMANDS)}")
    parser = Parser(prog=f"polyfield {command}", description=_sentence(COMMANDS[command]))
    import_module(f"polyfield.cli.{command}").configure(parser)
    return parser


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        print(_help(), file=sys.stderr)
        return 2
    command, *rest = arguments
    if command in ("-h", "--help", "help"):
        print(_help())
        return 0
    if command in ("-V", "--version"):
        print(f"polyfield {__version__}")
        return 0
    if command.startswith("-"):
        raise InputError(f"The command comes first: polyfield {'|'.join(COMMANDS)} {command} ...")
    parser = parser_for(command)
    if any(word in ("-h", "--help") for word in rest):
        print(parser.format_help(), end="")
        return 0
    parsed = parser.parse_args(rest)
    if command != "doctor":
        # Now, while Ctrl-C still ends the process: an exception thrown into this import may be swallowed by it.
        import_module("torch")
        if any(name in os.environ for name in _SWITCHES):
            native.available()  # refuses switches that say nonsense, before anything is done
    with interruptible():
        status = import_module(f"polyfield.cli.{command}").run(parsed)
        sys.stdout.flush()  # a broken pipe shows here, not at exit
    return int(status)


def _fail(sentence: str, status: int) -> int:
    print(f"polyfield: {' '.join(sentence.split())}", file=sys.stderr)
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: polyfield COMMAND ... (polyfield COMMAND --help tells more)",
            "",
            "Neural fields from posed images, fast on a plain CPU.",
            "",
            "commands:",
            *lines,
            "",
            "  polyfield train scenes/lego --out runs/lego --budget 60s",
            "  polyfield render runs/lego --path orbit --out lego.mp4",
            "  polyfield convert runs/lego --to tensorf --out runs/lego-tensorf",
        ]
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
