"""`rank`: from a correctness matrix to the universal difficulty of every image."""

import hashlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightning_app.commands.parser import Parser
from lightning_app.data.correctness import EXAMPLES
from lightning_app.data.model_names import name_in_pool, split_models
from lightning_app.data.ranking import read_ranking
from lightning_app.errors import BadInputError, printable, say
from lightning_app.files import file_name, json_text, naming, write_atomic
from lightning_app.pool.agreement import EXTREME, agree, reliability
from lightning_app.pool.difficulty import (
    average_ranks,
    mean_loss,
    one_line,
    rank_by_difficulty,
    ranking_text,
    say_ties,
)
from lightning_app.pool.matrix import ACCURACY, IDENTITY, LOSSES, MATRIX, MODELS, Pool, read_pool

SEED = 0
"""Of the random halves."""


class PoolSubset(NamedTuple):
    """Which part of which pool."""

    models_csv: Path | None = None
    examples_csv: Path | None = None
    models: Sequence[str] = ()
    without: Sequence[str] = ()


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
    parser.add_argument("--models", metavar="A,B|FILE", help="rank by these models alone (default: all)")
    parser.add_argument(
        "--without", metavar="A[,B]", help="leave models out, such as the one to be studied: a model that is in the"
        " pool is part of its own difficulty ranking",
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
    asked = parser().parse(argv)
    models = split_models(asked.models, "models") if asked.models is not None else ()
    without = split_models(asked.without, "without") if asked.without is not None else ()
    part = PoolSubset(asked.imagenet_models_csv, asked.matrix_examples_csv, models, without)
    if asked.against is not None:
        if asked.output_csv is not None:
            raise BadInputError("--output_csv: --against only compares and writes nothing; leave one of them out")
        first, second = _ranks(asked.pool, "", part), _ranks(asked.against, "--against: ", PoolSubset())
        _compare(first, asked.pool, second, asked.against)
        return 0
    pool = _pool(asked.pool, "", part)
    file = asked.output_csv or pool.source.parent / f"ranking{_suffix(models, without)}.csv"
    files = _outputs(file, {pool.source, asked.imagenet_models_csv, asked.matrix_examples_csv})
    ranking = rank_by_difficulty(pool)
    found = reliability(pool, SEED)
    table, line = ranking_text(ranking).encode(), one_line(ranking)
    content = {
        "pool": str(pool.source), "models": pool.names, "without": [name_in_pool(name) for name in without],
        "images": len(ranking), "ties": say_ties(ranking), "reliability": {**asdict(found), "seed": SEED},
        # Of the table and the line: a run that is killed among the three files must not say of one what is another's.
        "sha256": [hashlib.sha256(text).hexdigest() for text in (table, (line or "").encode()) if text],
    }  # fmt: skip
    before = file.read_bytes() if file.is_file() else None
    write_atomic(file, table)
    if before not in (None, table):
        _warn(f"{file} was another ranking and is replaced")
    if line is None:
        with naming(files["line"]):
            files["line"].unlink(missing_ok=True)
        _warn("a path can't stand in the one-line form (it has a line break in it), so there is none")
        del files["line"]
    else:
        write_atomic(files["line"], line.encode())
    write_atomic(files["json"], json_text(content).encode())
    models_there = f"{len(pool.names):,} model{'s' * (len(pool.names) > 1)}"
    say(f"{len(ranking):,} images, ranked by the share of {models_there} that get them wrong")
    say(f"Ties: {say_ties(ranking)}")
    say(f"Reliability: {found}")
    say(f"Written: {', '.join(map(str, files.values()))}")
    say(f"Next: steps-to-epsilon plan, and then run, with --examples_csv {shlex.quote(str(file))}")
    return 0


def _outputs(table: Path, inputs: set[Path | None]) -> dict[str, Path]:
    """The files to write; none of them is one that was read, or that `evaluate` wrote.

    Raises:
        BadInputError: If they can't be written there.
    """
    if table.suffix != ".csv" or table.is_dir():
        raise BadInputError(f"--output_csv must be a file that ends in .csv, got {table}")
    if not table.parent.is_dir():
        raise BadInputError(f"--output_csv: there is no folder {table.parent} ({table.parent.absolute()})")
    files = {"table": table, "line": table.with_name(f"{table.stem}_line.csv"), "json": table.with_suffix(".json")}
    read = {file.resolve() for file in inputs if file is not None}
    own = {file.parent / name for file in read for name in (MATRIX, LOSSES, MODELS, EXAMPLES, ACCURACY, IDENTITY)}
    for file in files.values():
        if file.resolve() in read | own:
            raise BadInputError(f"--output_csv {table}: {file} is the pool's own file, choose another name")
    return files


def _pool(place: Path, flag: str, part: PoolSubset) -> Pool:
    if not place.exists():
        what = "evaluate's folder or a matrix (.npy)"
        raise BadInputError(f"{flag}there is no {place} ({place.absolute()}): expected {what}")
    pool = read_pool(place, part.models_csv, part.examples_csv)
    for remark in pool.remarks:
        _warn(remark)
    return pool.of_models(part.models, part.without)


def _ranks(place: Path, flag: str, part: PoolSubset) -> dict[str, float]:
    """Rank by path; images of a pool between which only the path would decide tie."""
    if place.is_dir() or place.suffix == ".npy" or not place.exists():
        pool = _pool(place, flag, part)
        ranks = average_ranks(pool.correct.sum(axis=0, dtype=np.int64), mean_loss(pool))
        return dict(zip(pool.paths, ranks.tolist(), strict=True))
    if part != PoolSubset():
        raise BadInputError(f"{place} is taken for a ranking: options about models are for a pool's folder or matrix")
    return {entry.path: float(entry.rank) for entry in read_ranking(place, "against").paths}


def _compare(first: dict[str, float], a: Path, second: dict[str, float], b: Path) -> None:
    found = agree(first, second)
    say(f"{found.correlation.n:,} images in common, joined by {found.joined_by}; {found.only_first:,} only in {a},"
          f" {found.only_second:,} only in {b}")  # fmt: skip
    say(f"Spearman {found.correlation}")
    say(f"Of the easiest {EXTREME:.0%} of the one {found.easiest:.0%} are among the easiest {EXTREME:.0%} of the"
          f" other, of the hardest {found.hardest:.0%} (by chance {found.chance:.0%})")  # fmt: skip


def _suffix(models: Sequence[str], without: Sequence[str]) -> str:
    left_out = "_".join(file_name(name_in_pool(name)) for name in without)
    suffix = ("_subset" if models else "") + (f"_without_{left_out}" if without else "")
    return suffix if len(suffix) <= 100 else "_subset"


def _warn(text: str) -> None:
    print(f"warning: {printable(text)}", file=sys.stderr)
