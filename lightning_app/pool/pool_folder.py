"""What `evaluate` leaves behind: a table a model as soon as it is done, the matrix when all are."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_app.data.correctness import EXAMPLES
from lightning_app.errors import BadInputError
from lightning_app.files import (
    OutsideError,
    csv_text,
    file_name,
    json_as,
    json_text,
    naming,
    read_regular,
    refuse_links,
    write_atomic,
)
from lightning_app.pool.matrix import ACCURACY, IDENTITY, LOSSES, MATRIX, MODELS
from lightning_app.pool.predict import ModelPredictions

TABLES = "tables"
TABLE_COLUMNS = ("path", "label", "predicted", "correct", "probability", "loss", "top5")


@dataclass(frozen=True)
class Member:
    """One model of the pool that is done; its table holds what it says of each image.

    Args:
        name: In the pool.
        model_name: As it was asked for.
        files_sha256: Of the files of a `local-dir:` model, else None: with others it is asked again.
        weights_sha256: Of its parameters and buffers.
        classes: How many it tells apart.
        label_rule: Where the labels came from.
        transform: timm's settings of its evaluation transform.
        images: That it could read.
        right: Of them; it orders the list.
        top1: Accuracy, by torchmetrics.
        top5: Likewise.
        mean_loss: Mean cross-entropy; None where it is not finite.
        seconds: That it took.
        environment: Where it was asked.
        label_names: What its own configuration calls its classes; empty where it doesn't say.
    """

    name: str
    model_name: str
    files_sha256: str | None
    weights_sha256: str
    classes: int
    label_rule: str
    transform: dict[str, object]
    images: int
    right: int
    top1: float
    top5: float
    mean_loss: float | None
    seconds: float
    environment: dict[str, object]
    label_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class CorrectnessTable:
    """A table, read back: of every image whether it could be read, 1 if it is right, its loss (NaN where unread)."""

    readable: npt.NDArray[np.bool_]
    correct: npt.NDArray[np.uint8]
    losses: npt.NDArray[np.float32]


class PoolFolder:
    """The folder of `--output_dir`.

    Args:
        folder: There already, and held by this process alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self, identity: dict[str, object]) -> None:
        """Writes what the tables depend on beside the models, or sees that what is there is the same.

        Raises:
            BadInputError: If the folder holds other answers, or files of something else under the same names, or links
                in their place.
        """
        try:
            refuse_links(self.folder, (MATRIX, LOSSES, MODELS, EXAMPLES, ACCURACY, IDENTITY, TABLES))
        except OutsideError as error:
            raise BadInputError(f"--output_dir: {error}; choose another folder") from None
        file = self.folder / IDENTITY
        if file.is_file():
            try:
                before = json_as(dict[str, object], read_regular(file, links=False))
            except (OSError, ValueError) as error:
                raise BadInputError(f"--output_dir: {file} can't be read: {error}") from None
            changed = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
            if changed and self.done():
                what = "; ".join(
                    f"{key}: {before.get(key)} then, {identity.get(key)} now"
                    if not key.endswith("_sha256")
                    else f"another {key.removesuffix('_sha256')}"
                    for key in changed
                )
                raise BadInputError(
                    f"--output_dir: {self.folder} holds answers about something else ({what}): choose another folder"
                )
            if not changed:
                return
        foreign = [name for name in (MATRIX, LOSSES, MODELS, EXAMPLES) if (self.folder / name).exists()]
        if any((self.folder / TABLES).glob("*")):
            foreign.append(TABLES)
        if foreign and not file.is_file():
            raise BadInputError(
                f"--output_dir: {self.folder} holds {', '.join(foreign)}, which evaluate has not written (there is no"
                f" {IDENTITY}): choose another folder"
            )
        write_atomic(file, json_text(identity).encode())  # first: it says that what comes later is ours

    def done(self) -> dict[str, Member]:
        """The models that are done, by name."""
        members: dict[str, Member] = {}
        for file in sorted((self.folder / TABLES).glob("*.json")):
            try:
                member = json_as(Member, read_regular(file, links=False))
            except (OSError, OutsideError):
                continue  # it is asked again
            if file == self._table(member.name).with_suffix(".json") and self._table(member.name).is_file():
                members[member.name] = member
        return members

    def put(self, member: Member, paths: Sequence[str], labels: Sequence[int], asked: ModelPredictions) -> None:
        """Writes a model's table, and then that it is done.

        Raises:
            StorageError: If they can't be written.
        """
        said = self._table(member.name).with_suffix(".json")
        with naming(said):
            said.parent.mkdir(exist_ok=True)
            said.unlink(missing_ok=True)
        columns = zip(
            paths, labels, asked.readable.tolist(), asked.predicted.tolist(), asked.correct.tolist(),
            asked.losses.astype(np.float64).tolist(), asked.top5.tolist(), strict=True,
        )  # fmt: skip
        rows = [
            (path, label, predicted, right, float(np.exp(-loss)), loss, top5) if read else (path, label, *[None] * 5)
            for path, label, read, predicted, right, loss, top5 in columns
        ]
        write_atomic(self._table(member.name), csv_text([TABLE_COLUMNS, *rows]).encode())
        write_atomic(said, json_text(asdict(member)).encode())

    def read_table(self, member: Member, paths: Sequence[str], labels: Sequence[int]) -> CorrectnessTable:
        """Reads a model's table back.

        Raises:
            BadInputError: If it isn't what was written about these images with these labels.
        """
        file = self._table(member.name)
        try:
            frame = pd.read_csv(
                io.BytesIO(read_regular(file, links=False)), usecols=["path", "label", "correct", "loss"],
                dtype={"path": str}, keep_default_na=False, na_values={"correct": [""], "loss": [""]},
            )  # fmt: skip
            if frame["path"].tolist() != list(paths):
                raise ValueError("its paths are not those of the images")
            if frame["label"].tolist() != list(labels):
                raise ValueError("its labels are not those of the images")
            correct, losses = frame["correct"].to_numpy(np.float64), frame["loss"].to_numpy(np.float32)
        except (OSError, ValueError) as error:
            raise BadInputError(
                f"--output_dir: {file} can't be read: {error}. Remove it and rerun the command: it asks the model again"
            ) from None
        return CorrectnessTable(~np.isnan(correct), (correct == 1).astype(np.uint8), losses)

    def write_accuracy(self, members: Sequence[Member]) -> None:
        """Writes accuracy.csv, best first."""
        header = ("model", "images", "right", "top1", "top5", "mean_loss", "model_name")
        rows = [(m.name, m.images, m.right, m.top1, m.top5, m.mean_loss, m.model_name) for m in members]
        write_atomic(self.folder / ACCURACY, csv_text([header, *rows]).encode())

    def _table(self, name: str) -> Path:
        return self.folder / TABLES / f"{file_name(name)}.csv"


def best_first(members: Sequence[Member]) -> list[Member]:
    """The order of the matrix's rows: the most accurate first, ties by name."""
    return sorted(members, key=lambda member: (-member.right / max(member.images, 1), member.name))
