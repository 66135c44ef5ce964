"""Reads a correctness matrix, models x examples, and what one model got wrong, joined to the ranking by path."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lightning_app.data.model_names import read_published_names, row_of_model
from lightning_app.data.ranking import RankedPath, Ranking, read_ranking
from lightning_app.errors import BadInputError
from lightning_app.files import OutsideError, require_regular
from lightning_app.settings import StudySettings

EXAMPLES = "examples.csv"
"""Beside a matrix: the paths of its columns."""
NUMBERED = "columns by number"

Numbers = npt.NDArray[np.generic]


@dataclass(frozen=True)
class ModelRow:
    """One model's row of a correctness matrix.

    Args:
        name: The model's name in the list.
        row: Its row, from 0.
        correct: Whether it gets an image right, by the ranking's path.
        unknown: Paths of the ranking that the matrix doesn't have.
        remarks: What the log should say.
        sha256: Of the row as joined; part of a study's identity.
    """

    name: str
    row: int
    correct: dict[str, bool]
    unknown: tuple[str, ...]
    remarks: tuple[str, ...]
    sha256: str

    @property
    def accuracy(self) -> float:
        """The share of the row that is right."""
        return sum(self.correct.values()) / len(self.correct)


def read_model_row(settings: StudySettings, ranking: Ranking) -> ModelRow | None:
    """Reads the model's row and joins it to the ranking by path.

    Returns:
        None without `--correctness_npy`: the model itself is to be asked.

    Raises:
        BadInputError: If the name is unknown, the matrix has a wrong shape, type or value, or shares no path with
            the ranking.
    """
    if settings.correctness_npy is None and settings.model_csv_name is None:
        return None
    needs_matrix = f"--model_csv_name {settings.model_csv_name} needs --correctness_npy, the matrix whose row it names"
    if settings.correctness_npy is None and not settings.imagenet_models_csv.is_file():
        raise BadInputError(needs_matrix)
    names = read_published_names(settings.imagenet_models_csv, "imagenet_models_csv")
    name = settings.model_name if settings.model_csv_name is None else settings.model_csv_name
    row = row_of_model(name, names, "model_csv_name", f"--imagenet_models_csv {settings.imagenet_models_csv}")
    name = names[row]
    if names.count(name) > 1:
        raise BadInputError(f"--imagenet_models_csv {settings.imagenet_models_csv} holds {name!r} more than once")
    if settings.correctness_npy is None:
        raise BadInputError(needs_matrix)
    source = f"--correctness_npy {settings.correctness_npy}"
    matrix, columns = read_matrix(settings.correctness_npy, "--correctness_npy", settings.matrix_examples_csv, ranking)
    if row >= matrix.shape[0]:
        raise BadInputError(f"{source} has {matrix.shape[0]} rows, but {name!r} is name {row + 1} of {len(names)}")
    remarks = []
    if matrix.shape[0] != len(names):
        remarks.append(
            f"{source} has {matrix.shape[0]} rows and {settings.imagenet_models_csv} has {len(names)} names;"
            f" row {row} is taken for {name}"
        )
    values = np.asarray(matrix[row])
    known = {entry.path: bool(values[entry.place]) for entry in columns.paths}
    correct = {entry.path: known[entry.path] for entry in ranking.paths if entry.path in known}
    if not correct:
        raise BadInputError(
            f"{source}: its paths ({columns.file}, such as {columns.paths[0].path!r}) and the ranking's (such as"
            f" {ranking.paths[0].path!r}) have none in common; they are joined by path"
        )
    digest = hashlib.sha256("".join(f"{path}\n{value:d}\n" for path, value in sorted(correct.items())).encode())
    unknown = tuple(entry.path for entry in ranking.paths if entry.path not in known)
    return ModelRow(name, row, correct, unknown, tuple(remarks), digest.hexdigest())


def read_matrix(
    file: Path, flag: str, examples_csv: Path | None, otherwise: Ranking | None = None
) -> tuple[Numbers, Ranking]:
    """Maps a matrix of zeros and ones, models x examples, and reads which paths its columns have.

    Args:
        file: A .npy file.
        flag: What named it, for messages.
        examples_csv: The paths of the columns; None for examples.csv beside the matrix.
        otherwise: The columns where that isn't there; None to call them by their numbers.

    Raises:
        BadInputError: If a file can't be read, a value isn't 0 or 1, or shapes don't fit.
    """
    source = f"{flag} {file}"
    matrix = open_matrix(file, flag)
    places = matrix.shape[1]
    if examples_csv is not None or (beside := file.with_name(EXAMPLES)).is_file():
        columns = read_ranking(examples_csv or beside, "matrix_examples_csv")
    elif otherwise is not None:
        columns = otherwise
    else:
        digits = len(str(places - 1))
        names = [f"column_{i:0{digits}}" for i in range(places)]
        columns = Ranking(beside, tuple(RankedPath(name, i, i + 1) for i, name in enumerate(names)), places, NUMBERED)
    if places != columns.places:
        raise BadInputError(
            f"{source} has {places} columns, but {columns.file} has {columns.places} places:"
            " they must be the same (--matrix_examples_csv names the matrix's own paths)"
        )
    for i, row in enumerate(matrix):  # row by row, so that the matrix stays on the disk
        odd = row[(row != 0) & (row != 1)]
        if odd.size:
            raise BadInputError(f"{source} row {i} holds {odd[0]}: every value must be 0 (wrong) or 1 (right)")
    return matrix, columns


def open_matrix(file: Path, flag: str) -> Numbers:
    """Maps a matrix of numbers, models x examples, without reading it and without unpickling anything.

    Args:
        file: A .npy file.
        flag: What named it, for messages.

    Raises:
        BadInputError: If it isn't there or is anything else.
    """
    source = f"{flag} {file}"
    try:
        require_regular(file)
        matrix = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise BadInputError(f"{flag}: there is no {file} ({file.absolute()})") from None
    except OutsideError as error:
        raise BadInputError(f"{source}: {error}") from None
    # A damaged header makes NumPy raise nearly anything: ValueError, OverflowError, tokenize's errors, ...
    except Exception:
        raise BadInputError(f"{source} is not a NumPy array of numbers (.npy; pickled objects are refused)") from None
    if not isinstance(matrix, np.ndarray):
        matrix.close()
        raise BadInputError(f"{source} is an archive of arrays: expected one .npy array")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise BadInputError(f"{source} has shape {matrix.shape}: expected 2-D, models x examples")
    if matrix.dtype.kind not in "biuf":
        raise BadInputError(f"{source} has type {matrix.dtype}: expected numbers 0 and 1, or booleans")
    return matrix
