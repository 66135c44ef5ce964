"""Shows a study while it runs: step-loss curves of some examples, and one run over all of them."""

import contextlib
import heapq
import io
import logging
import math
import re
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, get_args

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from lightning_app.data.example import Example
from lightning_app.data.sampling import in_draw_order
from lightning_app.data.stop_rule import Outcome
from lightning_app.files import write_atomic
from lightning_app.store.export import Losses
from lightning_app.store.study_log import ExampleLine, Stored, StoredStudy

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

log = logging.getLogger("lightning_app")

OUTCOME_CODES: dict[str, int] = {outcome: code for code, outcome in enumerate(get_args(Outcome))}
"""The outcome as a number: 0 reached, 1 censored, 2 diverged, 3 error."""

ALL_EXAMPLES = "all_examples"
EVENTS = "events.out.tfevents.0"
"""A run's one file; TensorBoard looks for `tfevents` in the name."""

UNFINISHED = ".writing"
"""Without `tfevents` in its name, so that TensorBoard passes it over."""

EVERY_STEP_UP_TO = 100
SPACING = 1.01

Values = Mapping[str, float]


def shown_steps(count: int) -> list[int]:
    """The steps (from 1) that a curve shows: all up to 100, then every 1 %, and the last.

    295 points for 1,000 steps and 753 for 100,000: TensorBoard's page keeps 1,000 points of a curve, chosen at random,
    so that every step of a long one would lose some of those that matter. The step log has them all.

    Args:
        count: Steps taken.
    """
    steps = list(range(1, min(count, EVERY_STEP_UP_TO) + 1))
    while steps and steps[-1] < count:
        steps.append(min(count, math.ceil(steps[-1] * SPACING)))
    return steps


def shown_examples(examples: Iterable[Example], seed: int, count: int) -> frozenset[str]:
    """The paths of the examples whose curves are shown: the first in draw order, so that more includes fewer.

    Args:
        examples: Of the study.
        seed: Of the draw.
        count: How many; -1 for all.
    """
    drawn = in_draw_order(examples, seed)
    return frozenset(example.path for example in (drawn if count < 0 else drawn[:count]))


def curve_name(line: ExampleLine, index: int, digits: int) -> str:
    """Names an example's curve by rank and outcome, such as `rank_00412_reached_example_7`.

    Args:
        line: The finished example.
        index: Its place in the difficulty-sorted sample.
        digits: To which the rank's whole part is filled up, so that names sort by difficulty.
    """
    whole, _, part = str(line.rank).partition(".")
    rank = whole.zfill(digits) + (f".{part}" if part else "")
    return f"rank_{rank}_{line.outcome}_example_{index}"


CURVE_NAME = re.compile(r"rank_[\d.e+]+_[a-z]+_example_\d+")


def points(losses: Losses) -> Iterator[tuple[int, Values]]:
    """The points of a curve: a step, its loss and the loss's base-10 logarithm; non-finite values are left out."""
    for step in shown_steps(len(losses)):
        loss = losses[step - 1]
        values = {"loss": loss, "log10_loss": math.log10(loss) if loss > 0 else -math.inf}
        yield step, {name: value for name, value in values.items() if math.isfinite(value)}


def example_values(stored: Stored) -> Values:
    """What the run over all examples says of one; an `error` has an outcome alone."""
    line = stored.line
    values = {"outcome": float(OUTCOME_CODES[line.outcome])}
    if line.steps:
        values["steps"] = float(line.steps)
        if math.isfinite(stored.final_loss):
            values["final_loss"] = stored.final_loss
    return values


class TensorBoardFolder:
    """A folder for `tensorboard --logdir`: a run a curve, all with the same tags, so that they share one chart.

    An event file is written whole when its example ends, by TensorBoard's own record writer: `SummaryWriter` takes
    seven times as long, and its thread competes with the next example's training.

    Args:
        folder: Made with the first example.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"TensorBoard in {folder}"
        self.folder = folder
        self._all: BinaryIO | None = None
        self._points: dict[int, Values] = {}

    def lacking(self, shown: Collection[str], there: Collection[str]) -> Collection[str]:
        """Which curves of examples that were done before this command it has to be given again: those without a run.

        Runs of no row, such as those of old numbers, are taken away; step logs stay.

        Args:
            shown: Names of those that are to be seen.
            there: Names of all that belong to a row.
        """
        for run in self.folder.iterdir() if self.folder.is_dir() else ():
            if run.name not in there and CURVE_NAME.fullmatch(run.name):
                for name in (EVENTS, UNFINISHED):
                    (run / name).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # somebody put something else into it
                    run.rmdir()
        return [name for name in shown if not (self.folder / name / EVENTS).is_file()]

    def curve(self, name: str, losses: Losses) -> None:
        """Writes one run, when its example ends."""
        self._write(name, "step_loss", points(losses))

    def example(self, index: int, values: Values) -> None:
        """Adds a point to the run over all examples."""
        if self._all is None:
            self._all = self._file(ALL_EXAMPLES).open("wb")
            self._all.write(_records([_beginning()]))
        self._all.write(_records([_event("study", index, values)]))
        self._all.flush()
        self._points[index] = values

    def close(self, status: str) -> None:
        """Closes the run over all examples, in the order of their numbers: TensorBoard draws its line as it stands."""
        if self._all is None:
            return
        self._all.close()
        if list(self._points) != sorted(self._points):
            self._write(ALL_EXAMPLES, "study", sorted(self._points.items()))

    def _write(self, run: str, group: str, points: Iterable[tuple[int, Values]]) -> None:
        events = [_beginning(), *(_event(group, step, values) for step, values in points)]
        write_atomic(self._file(run), _records(events), UNFINISHED, flush=False)

    def _file(self, run: str) -> Path:
        self.folder.mkdir(exist_ok=True)  # and no parents: a study's folder that was moved away stays away
        (self.folder / run).mkdir(exist_ok=True)
        return self.folder / run / EVENTS


class LightningLogger:
    """Any other logger of Lightning's: one experiment, a metric a curve.

    The curves are kept until the study ends and are then logged side by side, step by step: a logger with a column a
    metric would write all of its file again for every new one, and some services want steps that only grow.

    Args:
        logger: As `--trainer.logger` made it.
    """

    def __init__(self, logger: "Logger") -> None:
        self.name = type(logger).__name__
        self.logger = logger
        self._curves: dict[str, Losses] = {}

    def lacking(self, shown: Collection[str], there: Collection[str]) -> Collection[str]:
        """All: a logger begins anew with every command."""
        return shown

    def curve(self, name: str, losses: Losses) -> None:
        """Keeps the curve."""
        self._curves[name] = array("d", losses)

    def example(self, index: int, values: Values) -> None:
        """Logs the example's values; their step is its index."""
        self.logger.log_metrics(_tagged("study", values), index)

    def close(self, status: str) -> None:
        """Logs the curves and tells the logger that the study is over: `success` or `failed`."""
        each = [_metrics(name, losses) for name, losses in self._curves.items()]
        for step, metrics in groupby(heapq.merge(*each, key=itemgetter(0)), key=itemgetter(0)):
            together = {tag: value for _, values in metrics for tag, value in values.items()}
            if together:
                self.logger.log_metrics(together, step)
        self.logger.save()
        self.logger.finalize(status)


CurveLogger = TensorBoardFolder | LightningLogger
"""Where a study is shown."""


class Curves:
    """Hands finished examples to loggers. One that fails is left out from then on: the study matters more.

    Args:
        loggers: Where the study is shown.
        shown: Paths of the examples whose curves are.
        digits: Of a rank in a curve's name.
    """

    def __init__(self, loggers: Sequence[CurveLogger], shown: frozenset[str], digits: int) -> None:
        self.loggers = list(loggers)
        self.shown = shown
        self.digits = digits

    def __enter__(self) -> "Curves":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "success" if kind is None else "failed"
        self._tell_all(lambda logger: logger.close(status))

    def keep(self, study: StoredStudy, coming: Collection[str] = ()) -> None:
        """Shows the examples that were done before this command.

        Args:
            study: What is there.
            coming: Paths of those that are about to be trained again, and shown then.
        """
        places = study.places()
        done = {path: stored for path, stored in study.examples.items() if path not in coming}
        there = {curve_name(stored.line, places[path], self.digits): path for path, stored in done.items()}
        shown = [name for name, path in there.items() if path in self.shown and done[path].line.steps]

        def tell(logger: CurveLogger) -> None:
            for name in logger.lacking(shown, there):
                logger.curve(name, study.losses_of(there[name]))
            for path, stored in done.items():
                logger.example(places[path], example_values(stored))

        self._tell_all(tell)

    def add(self, stored: Stored, index: int, losses: Losses) -> None:
        """Shows a finished example.

        Args:
            stored: The example.
            index: Its place in the difficulty-sorted sample.
            losses: Of each step; none for an `error`.
        """
        values = example_values(stored)
        self._tell_all(lambda logger: logger.example(index, values))
        if len(losses) and stored.line.path in self.shown:
            name = curve_name(stored.line, index, self.digits)
            self._tell_all(lambda logger: logger.curve(name, losses))

    def _tell_all(self, tell: Callable[[CurveLogger], None]) -> None:
        for logger in list(self.loggers):
            try:
                tell(logger)
            except Exception as error:  # every logger has errors of its own
                self.loggers.remove(logger)
                log.warning("%s failed and gets no more curves: %s", logger.name, " ".join(str(error).split()))


def _metrics(name: str, losses: Losses) -> Iterator[tuple[int, Values]]:
    for step, values in points(losses):
        yield step, _tagged(f"step_loss/{name}", values)


def _tagged(group: str, values: Values) -> dict[str, float]:
    return {f"{group}/{name}": value for name, value in values.items()}


def _beginning() -> Event:
    return Event(wall_time=time.time(), file_version="brain.Event:2")


def _event(group: str, step: int, values: Values) -> Event:
    tagged = [Summary.Value(tag=tag, simple_value=value) for tag, value in _tagged(group, values).items()]
    return Event(wall_time=time.time(), step=step, summary=Summary(value=tagged))


def _records(events: Iterable[Event]) -> bytes:
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    for event in events:
        writer.write(event.SerializeToString())
    return stream.getvalue()
