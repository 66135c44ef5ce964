"""`rank`: from a correctness matrix to the universal difficulty of every image."""

from collections.abc import Sequence
from pathlib import Path

from lightning_app.commands.parser import Parser
from lightning_app.errors import BadInputError


def parser() -> Parser:
    """What `rank` takes."""
    parser = Parser(
        "rank",
        "Rank images by universal difficulty, the share of a pool's models that get them wrong. Ties, which are many,"
        " go by the mean loss over the models, then by path. Writes a table (path, rank, rank_average, n_correct,"
        " n_models, mean_loss) and the published one-line form, both for run's --examples_csv, and says how reliable"
        " the ranking is. With --against it compares two rankings and writes nothing.",
    )
    parser.add_argument(
        "pool", type=Path, help="the folder that evaluate wrote, or any matrix models x images of 0/1 (.npy)"
        " (with --against also a ranking)",
    )  # fmt: skip
    parser.add_argument(
        "--imagenet_models_csv", type=Path, metavar="FILE",
        help="the models of the matrix's rows, on one line (default: models.csv beside the matrix)",
    )  # fmt: skip
    parser.add_argument(
        "--matrix_examples_csv", type=Path, metavar="FILE",
        help="the paths of the matrix's columns (default: examples.csv beside the matrix)",
    )  # fmt: skip
    parser.add_argument(
        "--models", action="append", metavar="A,B|FILE", help="rank by these models alone (default: all)"
    )
    parser.add_argument(
        "--without", action="append", metavar="A[,B]",
        help="leave models out, such as the one to be studied (may be given again): a model that is in the pool is part"
        " of its own difficulty ranking",
    )  # fmt: skip
    parser.add_argument(
        "--output_csv", type=Path, metavar="FILE",
        help="the table; the one-line form and the figures go beside it as FILE_line.csv and FILE.json (default:"
        " ranking.csv in the pool's folder, with --without M ranking_without_M.csv, with --models ranking_subset.csv)",
    )  # fmt: skip
    parser.add_argument(
        "--against", type=Path, metavar="RANKING",
        help="compare with another ranking (a pool's folder, a matrix, or a ranking in any form) and write nothing",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    arguments = parser().parse(argv)
    if arguments.against is not None and arguments.output_csv is not None:
        raise BadInputError("--output_csv: --against only compares and writes nothing; leave one of them out")
    # Here and not above: --help doesn't wait for pandas and scipy.
    from lightning_app.data.model_names import split_models
    from lightning_app.pool.rank import PoolSubset, compare, rank

    models, without = (
        split_models(",".join(given), flag) if given else ()  # an option that is given again adds to the first
        for flag, given in (("models", arguments.models), ("without", arguments.without))
    )
    part = PoolSubset(arguments.imagenet_models_csv, arguments.matrix_examples_csv, models, without)
    if arguments.against is not None:
        compare(arguments.pool, part, arguments.against)
    else:
        rank(arguments.pool, part, arguments.output_csv)
    return 0
