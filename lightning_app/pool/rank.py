"""`rank`, in the order of its steps: the pool, the ranking, how reliable it is, the files."""

import hashlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightning_app.data.correctness import EXAMPLES
from lightning_app.data.model_names import name_in_pool
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


def rank(place: Path, part: PoolSubset, output_csv: Path | None) -> None:
    """Ranks a pool's images, writes the ranking, and prints how reliable it is.

    Args:
        place: The pool's folder, or its matrix.
        part: Which part of it.
        output_csv: The table; by default it lies beside the matrix.

    Raises:
        BadInputError: If the pool can't be read, or the files can't be written there.
        StorageError: If the disk doesn't take them.
    """
    pool = _pool(place, "", part)
    file = output_csv or pool.source.parent / f"ranking{_suffix(part)}.csv"
    files = _outputs(file, {pool.source, part.models_csv, part.examples_csv})
    ranking = rank_by_difficulty(pool)
    found = reliability(pool, SEED)
    table, line = ranking_text(ranking).encode(), one_line(ranking)
    content = {
        "pool": str(pool.source), "models": pool.names, "without": [name_in_pool(name) for name in part.without],
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


def compare(a: Path, part: PoolSubset, b: Path) -> None:
    """Prints how far two rankings agree; either is a pool's folder, a matrix, or a ranking in any form.

    Args:
        a: One of them.
        part: Which part of it, where it is a pool.
        b: The other, of `--against`.

    Raises:
        BadInputError: If one can't be read.
    """
    found = agree(_ranks(a, "", part), _ranks(b, "--against: ", PoolSubset()))
    say(f"{found.correlation.n:,} images in common, joined by {found.joined_by}; {found.only_first:,} only in {a},"
          f" {found.only_second:,} only in {b}")  # fmt: skip
    say(f"Spearman {found.correlation}")
    say(f"Of the easiest {EXTREME:.0%} of the one {found.easiest:.0%} are among the easiest {EXTREME:.0%} of the"
          f" other, of the hardest {found.hardest:.0%} (by chance {found.chance:.0%})")  # fmt: skip


def _outputs(table: Path, inputs: set[Path | None]) -> dict[str, Path]:
    """The files to write; none of them is one that was read, or that `evaluate` wrote."""
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


def _suffix(part: PoolSubset) -> str:
    left_out = "_".join(file_name(name_in_pool(name)) for name in part.without)
    suffix = ("_subset" if part.models else "") + (f"_without_{left_out}" if part.without else "")
    return suffix if len(suffix) <= 100 else "_subset"


def _warn(text: str) -> None:
    print(f"warning: {printable(text)}", file=sys.stderr)
