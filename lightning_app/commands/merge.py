"""`merge`: the shards of one study into one folder."""

from collections.abc import Sequence
from pathlib import Path

from lightning_app.commands.parser import Parser


def parser() -> Parser:
    """What `merge` takes."""
    parser = Parser(
        "merge",
        "Put the shards of one study (run --shard 1/5, 2/5, ...) together: the folder that one run of the whole study"
        " would have left. Each has to be there once, complete, and of the same study.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER",
                        help="the shards' folders, such as outputs/MODEL_shard_*_of_5")  # fmt: skip
    parser.add_argument("--output_dir", type=Path, metavar="DIR",
                        help="results go to DIR/MODEL (default: beside the first shard)")  # fmt: skip
    parser.add_argument("--allow_mixed_environment", action="store_true",
                        help="merge rows that were made in several environments; the summary names them")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="move a study that is there aside")
    return parser


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    arguments = parser().parse(argv)
    # Here and not above: --help doesn't wait for pandas, scipy and matplotlib.
    from lightning_app.study.merge import merge

    return merge(arguments.folders, arguments.output_dir, arguments.allow_mixed_environment, arguments.overwrite)
