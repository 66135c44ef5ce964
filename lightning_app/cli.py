"""The command line's front door. It imports nothing heavy: `--help` and `--version` answer at once."""

import difflib
import errno
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from lightning_app import __version__
from lightning_app.console.process import settle_process, streams_that_last
from lightning_app.errors import BAD_INPUT, FAILED, BadInputError, StorageError, WorkersError, is_text, printable

PROG = "steps-to-epsilon"

COMMANDS = {
    "demo": "the whole study on real images that come along, offline, in a few minutes; start here",
    "evaluate": "timm models over a folder of images: who gets what right (the correctness matrix)",
    "rank": "from the matrix to a ranking by universal difficulty; how reliable it is, how far two agree",
    "plan": "a pilot and a forecast before the hours are spent; takes the flags of run",
    "run": "the study: train on each wrong example alone until its loss reaches epsilon, count the steps",
    "report": "statistics, pictures and a page, from results folders or from any CSV of results",
    "merge": "the shards of one study (run --shard) into one folder",
    "status": "where a study stands, also while it runs",
    "bench": "the engines side by side on this machine: steps a second, and a check that they agree",
    "fit": "one example: --data.path IMAGE",
    "validate": "a model's accuracy over --root_dir",
}
"""Each command with a line of help, in the order of the help."""

HELP = f"""usage: {PROG} COMMAND [OPTIONS]

How many SGD steps on one image does it take to drive a pretrained classifier's loss to epsilon,
and does that follow the image's universal difficulty?

commands:
{chr(10).join(f"  {name:<10}{line}" for name, line in COMMANDS.items())}

{PROG} COMMAND --help shows a command's options; {PROG} --version the version.

quick start:
  {PROG} demo
  {PROG} run --config quickstart --root_dir IMAGENET_VAL
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: The words after the program's name; those of the process by default.

    Returns:
        The exit code: 0 done, 2 bad input, 3 done but some examples are errors, 128 and a signal's
        number stopped by it.
    """
    with streams_that_last():
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(words: list[str]) -> int:
    name = f"{PROG} {printable(words[0])}" if words else PROG
    try:
        exit_code = _run(words)
        sys.stdout.flush()
        return exit_code
    except BrokenPipeError:  # who read the output, such as head, has seen enough
        return 128 + signal.SIGPIPE
    except BadInputError as error:
        print(f"{name}: error: {printable(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except (StorageError, WorkersError) as error:
        print(f"{name}: error: {printable(str(error))}", file=sys.stderr)
        return FAILED
    except OSError as error:
        file = printable(str(error.filename))
        if error.errno == errno.ENAMETOOLONG:
            print(f"{name}: error: {file[:80]}... is too long for a file's name", file=sys.stderr)
        elif error.errno in (errno.EACCES, errno.EPERM):
            print(f"{name}: error: {file} can't be used: {error.strerror}", file=sys.stderr)
        else:
            raise
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if words else BAD_INPUT
    if words[0] in ("-V", "--version"):
        print(f"{PROG} {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        offers = difflib.get_close_matches(name, COMMANDS)
        raise BadInputError(f"there is no such command; {'near: ' if offers else ''}{', '.join(offers or COMMANDS)}")
    for word in words:
        if not is_text(word):
            raise BadInputError(f"{word!r} is no text in UTF-8, or holds a NUL character")
    settle_process()
    exit_code: int = import_module(f"lightning_app.commands.{name}").main(words[1:])
    return exit_code
