"""The pool's files: who gets what right, and how large each loss is. No torch."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lightning_app.data.correctness import EXAMPLES, NUMBERED, Numbers, open_matrix, read_matrix
from lightning_app.data.model_names import read_published_names, row_of_model
from lightning_app.errors import BadInputError
from lightning_app.files import csv_text, naming, write_atomic

MATRIX, LOSSES, MODELS = "correctness.npy", "losses.npy", "models.csv"
ACCURACY, IDENTITY = "accuracy.csv", "evaluate.json"


@dataclass(frozen=True)
class Pool:
    """What a pool of models says of a set of images.

    Args:
        source: Where it was read.
        names: The models.
        paths: The images.
        correct: 1 where a model is right, else 0; shape (models, images).
        losses: Cross-entropies, same shape; None where the pool has none.
        labels: Class indices of the images; None where they are not to be handed on.
        remarks: What the user should hear.
    """

    source: Path
    names: tuple[str, ...]
    paths: tuple[str, ...]
    correct: Numbers
    losses: Numbers | None = None
    labels: tuple[int, ...] | None = None
    remarks: tuple[str, ...] = ()

    def of_models(self, models: Sequence[str], without: Sequence[str]) -> "Pool":
        """A part of the pool.

        Args:
            models: Those to take, as the pool or `run` names them; none for all.
            without: Those to leave out.

        Raises:
            BadInputError: If one isn't in the pool, or none is left.
        """
        taken = [row_of_model(name, self.names, "models", self.source) for name in models] or list(
            range(len(self.names))
        )
        if len(set(taken)) < len(taken):
            raise BadInputError(f"--models {','.join(models)}: two of them are one model of {self.source}")
        left_out = {row_of_model(name, self.names, "without", self.source) for name in without}
        for name in (self.names[row] for row in left_out.difference(taken)):
            raise BadInputError(f"--without {name}: it is not among --models, so there is nothing to leave out")
        rows = [row for row in taken if row not in left_out]
        if not rows:
            raise BadInputError(f"--without: none of the pool's {len(taken)} models is left")
        if rows == list(range(len(self.names))):
            return self
        return replace(
            self,
            names=tuple(self.names[row] for row in rows),
            correct=self.correct[rows],
            losses=None if self.losses is None else self.losses[rows],
        )


def read_pool(place: Path, models_csv: Path | None, examples_csv: Path | None) -> Pool:
    """Reads what `evaluate` wrote, or a published matrix.

    Args:
        place: The folder, or the matrix itself.
        models_csv: The list of models; None for models.csv beside the matrix.
        examples_csv: The paths of the columns; None for examples.csv beside the matrix, and where that isn't there
            columns are named by their number.

    Raises:
        BadInputError: If a file can't be read, a value isn't 0 or 1, or shapes don't fit.
    """
    file = place / MATRIX if place.is_dir() else place
    if place.is_dir() and not file.is_file():
        raise BadInputError(
            f"{place} holds no {MATRIX}: expected a folder that evaluate has finished, or a matrix (.npy)"
        )
    matrix, columns = read_matrix(file, "the matrix", examples_csv)
    names, remarks = _names(len(matrix), models_csv or file.with_name(MODELS), f"the matrix {file}")
    correct = np.array(matrix[: len(names)], dtype=np.uint8)
    losses = _losses(file.with_name(LOSSES), matrix.shape, len(names))
    if columns.form == NUMBERED:
        remarks.append(
            f"there is no {EXAMPLES} beside the matrix: its columns are called {columns.paths[0].path} and so on"
            " (--matrix_examples_csv names their paths)"
        )
    if len(columns.paths) < columns.places:
        remarks.append(f"{columns.places - len(columns.paths)} columns have no path and are left out")
    entries = sorted(columns.paths, key=lambda entry: entry.place)
    places = [entry.place for entry in entries]
    if places != list(range(columns.places)):
        correct, losses = correct[:, places], None if losses is None else losses[:, places]
    known = [entry.label for entry in entries if entry.label is not None]
    labels = tuple(known) if len(known) == len(entries) else None
    return Pool(file, names, tuple(entry.path for entry in entries), correct, losses, labels, tuple(remarks))


def _names(rows: int, file: Path, source: str) -> tuple[tuple[str, ...], list[str]]:
    names = read_published_names(file, "imagenet_models_csv")
    if not any(names):
        raise BadInputError(f"--imagenet_models_csv {file} names no model")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInputError(f"--imagenet_models_csv {file} holds {twice!r} more than once")
    if len(names) > rows:
        raise BadInputError(f"{source} has {rows} rows, but {file} has {len(names)} names")
    remark = (
        f"{source} has {rows} rows and {file} has {len(names)} names: the first {len(names)} rows are theirs, the"
        " others are left out"
    )
    return tuple(names), [remark] if len(names) < rows else []


def _losses(file: Path, shape: tuple[int, ...], rows: int) -> Numbers | None:
    if not file.is_file():
        return None
    losses = open_matrix(file, "the losses")
    if losses.shape != shape:
        raise BadInputError(f"{file} has shape {losses.shape}, the matrix {shape}: they must be the same")
    return losses[:rows]


def write_pool(folder: Path, pool: Pool) -> None:
    """Writes a pool's files; the matrix goes first and comes last, so that it is there only with all the others.

    Args:
        folder: Gets correctness.npy (uint8), losses.npy (float32), models.csv (one line) and examples.csv.
        pool: Its rows in the order of `models.csv`.

    Raises:
        StorageError: If a file can't be written.
    """
    with naming(folder / MATRIX):
        (folder / MATRIX).unlink(missing_ok=True)
    if pool.losses is not None:
        write_atomic(folder / LOSSES, _npy(pool.losses.astype(np.float32)))
    write_atomic(folder / MODELS, csv_text([pool.names]).encode())
    header = ["path"] if pool.labels is None else ["path", "label"]
    columns = [pool.paths] if pool.labels is None else [pool.paths, pool.labels]
    write_atomic(folder / EXAMPLES, csv_text([header, *zip(*columns, strict=True)]).encode())
    write_atomic(folder / MATRIX, _npy(pool.correct.astype(np.uint8)))


def _npy(array: Numbers) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
