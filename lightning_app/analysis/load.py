"""Reads results back: a study's folder, or any CSV that has the seed's columns. For the analysis and for notebooks."""

import logging
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_app.analysis.foreign_csv import read_results_csv
from lightning_app.analysis.statistics import Floats, not_reached_on_top
from lightning_app.data.environment import Content
from lightning_app.data.stop_rule import NEVER, THRESHOLDS
from lightning_app.errors import BadInputError
from lightning_app.files import read_regular
from lightning_app.store.export import COLUMNS, COUNTS, TEXT_COLUMNS, Row, first_steps, rows_of, step_log_name
from lightning_app.store.files import READ, RESULTS, STEP_LOGS, left_without_store, require_no_links
from lightning_app.store.study_log import STORE, StoredStudy, read_study

THEIR_LOG = re.compile(r"(example_\d+_).*_steps\.csv", re.DOTALL)


class LossSource(Protocol):
    """The losses of a study's examples."""

    def has(self, index: int, path: str) -> bool:
        """Whether those of a trained example are there.

        Args:
            index: Its `example_index`.
            path: Its path.
        """

    def of(self, index: int, path: str) -> Floats:
        """Those of an example, shape (steps,).

        Args:
            index: Its `example_index`.
            path: Its path.

        Raises:
            OSError: If they aren't there.
            ValueError: If what is there is something else.
        """


class StoredLosses:
    """Those of a study of ours; see `LossSource`."""

    def __init__(self, study: StoredStudy) -> None:
        self._study = study

    def has(self, index: int, path: str) -> bool:
        """Every trained example has them."""
        return True

    def of(self, index: int, path: str) -> Floats:
        """Read from the log."""
        line = self._study.examples[path].line
        if line.outcome == "error":
            raise FileNotFoundError(f"{path!r} is an error and has no losses: {line.reason}")
        return self._study.losses_of(path)


class StepLogs:
    """A folder of step logs; see `LossSource`.

    Args:
        folder: With a CSV an example.
        by_number: Whether the files may have names of their maker's own behind `example_N_`.
    """

    def __init__(self, folder: Path, by_number: bool) -> None:
        self._folder = folder
        names = sorted(os.listdir(folder))
        self._names = {name: name for name in names}
        if by_number:
            numbered = [(found[1], name) for name in names if (found := THEIR_LOG.fullmatch(name))]
            begins = [begin for begin, _ in numbered]
            self._names |= {begin: name for begin, name in numbered if begins.count(begin) == 1}

    def has(self, index: int, path: str) -> bool:
        """Whether there is such a file."""
        return self._name(index, path) is not None

    def of(self, index: int, path: str) -> Floats:
        """Read from its file."""
        name = self._name(index, path)
        if name is None:
            raise FileNotFoundError(f"{path!r} has no step log in {self._folder}")
        return read_step_log(read_regular(self._folder / name, links=False))

    def _name(self, index: int, path: str) -> str | None:
        return self._names.get(step_log_name(index, path)) or self._names.get(f"example_{index}_")


def step_logs_beside(table: Path) -> StepLogs | None:
    """The step logs beside a table, if there are any.

    By their number alone only beside a table of the seed's name: beside any other they may be another study's.
    """
    try:
        return StepLogs(table.parent / STEP_LOGS, table.name == RESULTS)
    except OSError:
        return None


def read_step_log(data: bytes) -> Floats:
    """The losses of a step log: a CSV of step (from 1) and loss.

    Raises:
        ValueError: If it isn't one, or its steps are not 1, 2, 3, ...
    """
    header, *lines = data.split(b"\n")
    if header.rstrip() != b"step,loss":
        raise ValueError("line 1 is not the header of a step log")
    while lines and not lines[-1].strip():
        lines.pop()
    if lines and not (lines[0].startswith(b"1,") and lines[-1].startswith(b"%d," % len(lines))):
        raise ValueError("its steps are not 1, 2, 3, ...")
    return np.array([float(line[line.index(b",") + 1 :]) for line in lines])


@dataclass(frozen=True)
class Metadata:
    """What a study's folder says beside its table; what it doesn't say is None or empty.

    Args:
        model_name: As it was given.
        select: Which examples were drawn.
        lr: Learning rate.
        root_dir: Where its images were.
        examples: In its sample.
        left: Of them, those still to be trained.
        easiest_part: Whether those that are done are the easiest ones.
        in_its_ranking: Whether the model itself is one of those that made its ranking.
        reliability: Of the ranking.
        ceiling: About the largest correlation that anything can have with it.
        environments: What differs between those that the rows were made in, such as `torch 2.11.0 and 2.15.0`; mostly
            nothing.
    """

    model_name: str = ""
    select: str = ""
    lr: float | None = None
    root_dir: Path | None = None
    examples: int | None = None
    left: int = 0
    easiest_part: bool = False
    in_its_ranking: bool | None = None
    reliability: float = math.nan
    ceiling: float = math.nan
    environments: tuple[str, ...] = ()


def metadata_of(study: StoredStudy) -> Metadata:
    """Gathers what a study says of itself beside its rows."""
    settings, ranking = study.command.settings, study.command.ranking or {}
    model_name, root_dir = settings.get("model_name"), settings.get("root_dir")
    optimizer, in_it = study.identity.get("optimizer"), ranking.get("model_is_in_it")
    lr = optimizer.get("lr") if isinstance(optimizer, dict) else None
    done = [path in study.examples for _, path in study.target.examples]  # easiest first
    return Metadata(
        model_name=str(model_name or ""),
        select=str(study.identity.get("select", "")),
        lr=lr if isinstance(lr, int | float) else None,
        root_dir=Path(root_dir) if isinstance(root_dir, str) else None,
        examples=len(done),
        left=study.left,
        easiest_part=not all(done) and done == sorted(done, reverse=True),
        in_its_ranking=in_it if isinstance(in_it, bool) else None,
        reliability=_number(ranking.get("reliability")),
        ceiling=_number(ranking.get("ceiling")),
        environments=_differences(study.environments_in_use),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _differences(environments: Sequence[Content]) -> tuple[str, ...]:
    keys = dict.fromkeys(key for environment in environments for key in environment)
    values = {key: dict.fromkeys(str(environment.get(key)) for environment in environments) for key in keys}
    return tuple(f"{key} {' and '.join(found)}" for key, found in values.items() if len(found) > 1)


log = logging.getLogger("lightning_app")


@dataclass(frozen=True)
class Study:
    """Results, as the analysis takes them.

    Args:
        name: For people; unique in a report.
        place: The folder or the CSV.
        frame: The table: numbers as float64 (NaN for an empty cell), path and outcome as text. Rows that are not in the
            study's sample are left out, `error` rows are there.
        epsilon: NaN where the table's maker doesn't say.
        limit: Steps that an example was allowed; where the table doesn't say, the most that any row took.
        says_limit: Whether it does.
        extra: More thresholds than the ladder's, each with a column `steps_to_…`.
        losses: Where those of each step are; None where the table is alone.
        metadata: What else is known.
    """

    name: str
    place: Path
    frame: pd.DataFrame
    epsilon: float
    limit: int
    says_limit: bool = True
    extra: tuple[float, ...] = ()
    losses: LossSource | None = None
    metadata: Metadata = field(default_factory=Metadata)

    @cached_property
    def is_trained(self) -> npt.NDArray[np.bool_]:
        """Which rows have numbers: all but `error`."""
        return (self.frame["outcome"] != "error").to_numpy()

    @cached_property
    def trained(self) -> pd.DataFrame:
        """The rows that have numbers."""
        return self.frame[self.is_trained].reset_index(drop=True)

    @cached_property
    def limit_in_force(self) -> int:
        """The smallest number of steps at which an example was given up; all rows are taken as they stood there."""
        given_up = self.trained[self.trained["outcome"] == "censored"]
        earlier = given_up["steps_run"].min() if "steps_run" in given_up else math.nan
        return self.limit if math.isnan(earlier) else int(min(self.limit, earlier))

    def steps_to(self, column: str = "total_steps_to_epsilon") -> Floats:
        """Counts of steps as the statistics take them: of every trained row, not reached by the limit as -1.

        Args:
            column: Of the threshold; NaN stays where it wasn't recorded.
        """
        steps = self.trained[column].to_numpy(dtype=np.float64)
        return np.where(steps > self.limit_in_force, NEVER, steps)

    @cached_property
    def outcomes(self) -> npt.NDArray[np.object_]:
        """How every trained row stood at the limit in force."""
        run = self.trained["steps_run"] if "steps_run" in self.trained else pd.Series(0.0, index=self.trained.index)
        diverged = (self.trained["outcome"] == "diverged") & ~(run > self.limit_in_force)
        return np.where(self.steps_to() >= 0, "reached", np.where(diverged, "diverged", "censored")).astype(object)

    @cached_property
    def without_losses(self) -> int:
        """How many trained rows have no losses of each step."""
        there = [self.losses is not None and self.losses.has(*key) for key in self._keys]
        return int((self.is_trained & ~np.array(there, dtype=bool)).sum())

    def losses_of(self, place: int) -> Floats:
        """The loss of each step of an example.

        Args:
            place: Of its row in the frame, from 0.

        Raises:
            OSError: If they aren't there.
            ValueError: If what is there is something else.
        """
        if self.losses is None:
            raise FileNotFoundError(f"no losses lie beside {self.place}")
        losses = self.losses.of(*self._keys[place])
        steps = self._steps_run[place]
        return losses if math.isnan(steps) else losses[: int(steps)]

    @cached_property
    def _keys(self) -> list[tuple[int, str]]:
        return list(zip(self.frame["example_index"].astype(int), self.frame["path"], strict=True))

    @cached_property
    def _steps_run(self) -> Floats:
        if "steps_run" not in self.frame:
            return np.full(len(self.frame), math.nan)
        return self.frame["steps_run"].to_numpy(dtype=np.float64)


def open_study(place: Path, epsilons: Sequence[float] = ()) -> Study:
    """Reads a study's folder, also while it runs, or a CSV.

    Args:
        place: The folder, its table, or any CSV with the seed's columns; of those `path`, `total_steps_to_epsilon` and
            `universal_difficulty_rank` have to be there.
        epsilons: More thresholds, to be looked up in the losses.

    Raises:
        BadInputError: If it can't be read or used, naming file, line and column.
    """
    for epsilon in epsilons:
        if not 0 < epsilon < math.inf:
            raise BadInputError(f"--epsilon must be a loss > 0, got {epsilon}")
    folder = place.parent if place.name == RESULTS else place
    if not os.path.lexists(place):
        raise BadInputError(f"there is no {place} ({place.absolute()}): expected a results folder or a CSV")
    if os.path.lexists(folder / STORE):
        study = _of_folder(folder, epsilons)
    elif place.is_dir():
        if not (place / RESULTS).is_file():
            raise BadInputError(_no_results(place))
        require_no_links(place, READ)
        study = _of_csv(place / RESULTS)
    else:
        study = _of_csv(place)
    for epsilon in epsilons:
        study = _with_threshold(study, epsilon)
    return study


def _no_results(place: Path) -> str:
    inside = sorted({str(file.parent) for name in (RESULTS, STORE) for file in place.glob(f"*/{name}")})
    offer = f"; these below it do: {', '.join(inside)}" if inside else ""
    return f"{place} holds no {RESULTS}{offer}"


def _of_folder(folder: Path, epsilons: Sequence[float]) -> Study:
    """Reads a study of ours, and the steps to more thresholds on the same way through its losses."""
    try:
        stored = read_study(folder)
        rows, found = ([], []) if stored is None else _sampled(stored, epsilons)
    except (OSError, ValueError) as error:
        raise BadInputError(f"{folder} holds a study that can't be read: {error}") from None
    if stored is not None and stored.torn:
        log.warning(
            "%s ends in the middle of a line, which is left out: a run was killed, or is writing it", stored.file
        )
    if stored is None and (found_there := left_without_store(folder)) is not None:
        raise BadInputError(f"{folder} holds {found_there}")
    if stored is None or not rows:
        raise BadInputError(f"{folder}: no example of this study is done yet")
    columns = {threshold_column(epsilon): steps for epsilon, steps in zip(epsilons, np.array(found).T, strict=True)}
    return Study(
        folder.resolve().name, folder, frame_of(rows).assign(**columns), stored.epsilon,
        stored.target.max_steps_per_example, losses=StoredLosses(stored), metadata=metadata_of(stored),
    )  # fmt: skip


def _sampled(stored: StoredStudy, epsilons: Sequence[float]) -> tuple[list[Row], list[Sequence[float]]]:
    """The rows of the sample, and the steps of each to more thresholds."""
    rows: list[Row] = []
    found: list[Sequence[float]] = []
    for row, losses in rows_of(stored):
        if row["path"] in stored.sampled:
            rows.append(row)
            found.append([math.nan] * len(epsilons) if losses is None else first_steps(losses, epsilons))
    return rows, found


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as the analysis takes them: numbers as float64, NaN for an empty cell."""
    rows = list(rows)
    return pd.DataFrame(
        {
            name: np.array([row[name] for row in rows], dtype=object if name in TEXT_COLUMNS else np.float64)
            for name in COLUMNS
        }
    )


def _of_csv(file: Path) -> Study:
    frame = read_results_csv(file)
    name = file.resolve().parent.name if file.name == RESULTS else file.stem
    steps, run = (frame.get(column, pd.Series(dtype=float)) for column in ("total_steps_to_epsilon", "steps_run"))
    limit = int(np.nanmax([1, *steps, *run]))
    says_limit = "steps_run" in frame and bool((frame["outcome"] == "censored").any())
    return Study(name, file, frame, math.nan, limit, says_limit, losses=step_logs_beside(file))


def threshold_column(threshold: float) -> str:
    """The column of a threshold that is not one of the ladder's."""
    return f"steps_to_{threshold!r}"


def _with_threshold(study: Study, epsilon: float) -> Study:
    """Adds a threshold: of a table from where it is recorded, else from the losses."""
    if epsilon < study.epsilon:
        raise BadInputError(f"--epsilon {epsilon:g}: {study.place} has trained to {study.epsilon:g} and no further")
    name = next((name for name, threshold in THRESHOLDS.items() if threshold == epsilon), "")
    column = f"steps_to_{name}"
    if isinstance(study.losses, StoredLosses):
        found = study.frame[threshold_column(epsilon)].to_numpy(dtype=np.float64)
    elif column in study.frame and study.trained[column].notna().all():
        found = study.frame[column].to_numpy(dtype=np.float64)
    else:
        found = _from_losses(study, epsilon)
    return replace(study, frame=study.frame.assign(**{threshold_column(epsilon): found}), extra=(*study.extra, epsilon))


def _from_losses(study: Study, epsilon: float) -> Floats:
    if study.losses is None:
        raise BadInputError(
            f"--epsilon {epsilon:g} needs the loss of each step, and {study.place} has no step logs beside it"
        )
    frame = study.frame
    found = np.full(len(frame), math.nan)
    for place in np.flatnonzero(study.is_trained).tolist():
        path = frame["path"].iat[place]
        try:
            (found[place],) = first_steps(study.losses_of(place), [epsilon])
        except (OSError, ValueError) as error:
            raise BadInputError(f"--epsilon {epsilon:g}: the losses of {path!r} can't be read: {error}") from None
        if found[place] == NEVER and frame["outcome"].iat[place] == "reached":
            raise BadInputError(f"--epsilon {epsilon:g}: {study.place} has not trained so far: {path!r} ended above")
    return found


def load_results(*places: str | Path, epsilon: float | None = None) -> pd.DataFrame:
    """Results of one or several studies as one frame, a row an example.

    The table's own columns (counts as Int64 with <NA> for an empty cell, -1 for never reached), behind `study` (its
    name), and then `epsilon`, `limit`, `steps` and `not_reached`. Steps are those to epsilon; not reached (censored or
    diverged, `not_reached` is True) ties at limit + 1, as rank statistics take it. Of an `error` they are missing.

    Args:
        places: Results folders, or CSV files with the seed's columns.
        epsilon: Another, larger threshold: then `steps` and `not_reached` are to this one, from the losses.

    Raises:
        BadInputError: If one of them can't be read or used.
    """
    epsilons = [] if epsilon is None else [float(epsilon)]
    frames = [_public(study, *epsilons) for study in open_studies([Path(place) for place in places], epsilons)]
    return pd.concat(frames, ignore_index=True)


def open_studies(places: Sequence[Path], epsilons: Sequence[float] = ()) -> list[Study]:
    """Several studies under names that tell them apart.

    Raises:
        BadInputError: If one of them can't be read, or none is given.
    """
    if not places:
        raise BadInputError("expected one or more results folders or CSV files")
    studies = [open_study(place, epsilons) for place in places]
    if len({study.place.resolve() for study in studies}) < len(studies):
        raise BadInputError(f"a study is given twice: {', '.join(map(str, places))}")
    names = [study.name for study in studies]
    return [study if names.count(study.name) == 1 else replace(study, name=str(study.place)) for study in studies]


OURS = ("study", "epsilon", "limit", "steps", "not_reached")


def _public(study: Study, epsilon: float | None = None) -> pd.DataFrame:
    limit = study.limit_in_force
    frame = study.frame[[name for name in study.frame if name not in OURS]]
    columns = [name for name in COLUMNS if name in frame] + [name for name in frame if name not in COLUMNS]
    table = frame[columns].astype({name: "Int64" for name in COUNTS if name in frame})
    table.insert(0, "study", study.name)
    steps = study.steps_to("total_steps_to_epsilon" if epsilon is None else threshold_column(epsilon))
    there = table.index[study.is_trained]
    return table.assign(
        epsilon=study.epsilon if epsilon is None else epsilon,
        limit=limit,
        steps=pd.Series(not_reached_on_top(steps, limit), index=there).astype("Int64").reindex(table.index),
        not_reached=pd.Series(steps < 0, index=there).astype("boolean").reindex(table.index),
    )


def load_steps(place: str | Path, example: int | str) -> pd.DataFrame:
    """One example's loss curve: `step` (from 1) and `loss`.

    Args:
        place: A results folder, or a CSV with `step_logs/` beside it.
        example: Its example_index, or its path.

    Raises:
        BadInputError: If there is no such example, or it has no step log.
    """
    study = open_study(Path(place))
    column = "path" if isinstance(example, str) else "example_index"
    found = np.flatnonzero((study.frame[column] == example).to_numpy())
    if not found.size:
        raise BadInputError(f"{place} has no example whose {column} is {example!r}")
    try:
        losses = study.losses_of(int(found[0]))
    except (OSError, ValueError) as error:
        raise BadInputError(f"{place}: {error}") from None
    return pd.DataFrame({"step": np.arange(1, len(losses) + 1), "loss": np.asarray(losses, dtype=np.float64)})
