"""`demo`: the whole study on real images that a dependency ships, offline, in a few minutes."""

import sys
from collections.abc import Callable, Sequence

from lightning_app.commands.parser import Parser


def parser() -> Parser:
    """`demo` has no options but `--help`."""
    return Parser(
        "demo",
        "The whole study on scikit-learn's handwritten digits, offline, in a few minutes. Writes to ./demo. Started"
        " again it keeps what is whole and resumes.",
    )


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    parser().parse(argv)
    print("The whole study on handwritten digits, a few minutes. All files: ./demo", file=sys.stderr)
    # Here and not above: --help doesn't wait for torch, and the first line doesn't either.
    from lightning_app.demo.whole_study import Recipe, run_demo

    return run_demo(Recipe(), run_command)


def run_command(words: Sequence[str]) -> int:
    """Runs one of the commands of which the demo consists."""
    from lightning_app.commands import evaluate, rank, run

    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "evaluate": evaluate.main,
        "rank": rank.main,
        "run": run.main,
    }
    return commands[words[0]](words[1:])
