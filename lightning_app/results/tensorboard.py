"""Shows a study while it runs: step-loss curves of some examples, and one run over all of them."""

import io
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, get_args

from lightning.pytorch.loggers import Logger
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from lightning_app.inputs.example import Example
from lightning_app.inputs.sampling import draw_key
from lightning_app.training.trajectory import Failure, Outcome, Trajectory

log = logging.getLogger("lightning_app")

OUTCOME_CODES: dict[str, int] = {outcome: code for code, outcome in enumerate(get_args(Outcome))}
"""The outcome as a number: 0 reached, 1 censored, 2 diverged, 3 error."""

ALL_EXAMPLES = "all_examples"
EVENTS = "events.out.tfevents.0"
"""A run's one file; TensorBoard looks for `tfevents` in the name."""

EVERY_STEP_UP_TO = 100
SPACING = 1.01

Values = Mapping[str, float]


def shown_steps(count: int) -> list[int]:
    """The steps (from 1) that a curve shows: all up to 100, then every 1 %, and the last.

    330 points for 1,000 steps and 800 for 100,000: TensorBoard's page keeps 1,000 points of a curve, chosen at random,
    so that a longer one would lose some of those that matter. The step log has every step.

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
    paths = sorted((example.path for example in examples), key=lambda path: draw_key(path, seed))
    return frozenset(paths if count < 0 else paths[:count])


def curve_name(result: Trajectory, digits: int) -> str:
    """Names an example's curve by rank and outcome, such as `rank_00412_reached_example_7`.

    Args:
        result: The finished example.
        digits: To which the rank's whole part is filled up, so that names sort by difficulty.
    """
    whole, _, part = str(result.example.rank).partition(".")
    rank = whole.zfill(digits) + (f".{part}" if part else "")
    return f"rank_{rank}_{result.outcome}_example_{result.example.index}"


def curve_points(losses: Sequence[float]) -> list[tuple[int, Values]]:
    """The points of a curve: step, and the loss as it is and as its base-10 logarithm; non-finite values left out."""
    points: list[tuple[int, Values]] = []
    for step in shown_steps(len(losses)):
        loss = losses[step - 1]
        values = {"loss": loss, "log10_loss": math.log10(loss) if loss > 0 else -math.inf}
        points.append((step, {name: value for name, value in values.items() if math.isfinite(value)}))
    return points


def example_values(result: Trajectory | Failure) -> Values:
    """What the run over all examples says of one; an `error` has an outcome alone."""
    values = {"study/outcome": float(OUTCOME_CODES[result.outcome])}
    if isinstance(result, Trajectory):
        values["study/steps"] = float(len(result.losses))
        if math.isfinite(result.losses[-1]):
            values["study/final_loss"] = result.losses[-1]
    return values


class Viewer(Protocol):
    """Where curves are shown."""

    name: str

    def curve(self, name: str, points: Sequence[tuple[int, Values]]) -> None:
        """Shows one example's curve; called when the example ends."""

    def example(self, index: int, values: Values) -> None:
        """Adds an example to the run over all of them."""

    def close(self) -> None:
        """Writes down what is left."""


class TensorBoardFolder:
    """A folder for `tensorboard --logdir`: a run a curve, all with the same tags, so that they share one chart.

    An event file is written whole when its example ends, by TensorBoard's own record writer: `SummaryWriter` takes
    seven times as long, and its thread competes with the next example's training.

    Args:
        folder: Made if it isn't there.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"TensorBoard in {folder}"
        self.folder = folder
        self._all = self._file(ALL_EXAMPLES).open("wb")
        self._all.write(_records([Event(wall_time=time.time(), file_version="brain.Event:2")]))
        self._all.flush()

    def curve(self, name: str, points: Sequence[tuple[int, Values]]) -> None:
        """Writes one run."""
        events = [Event(wall_time=time.time(), file_version="brain.Event:2")]
        events += [
            _event(step, {f"step_loss/{tag}": value for tag, value in values.items()}) for step, values in points
        ]
        self._file(name).write_bytes(_records(events))

    def example(self, index: int, values: Values) -> None:
        """Adds a point to the run over all examples."""
        self._all.write(_records([_event(index, values)]))
        self._all.flush()

    def close(self) -> None:
        """Closes the run over all examples."""
        self._all.close()

    def _file(self, run: str) -> Path:
        (self.folder / run).mkdir(parents=True, exist_ok=True)
        return self.folder / run / EVENTS


class LightningLogger:
    """Any other logger of Lightning's: one experiment, a metric a curve.

    Args:
        logger: As `--trainer.logger` made it.
    """

    def __init__(self, logger: Logger) -> None:
        self.name = type(logger).__name__
        self.logger = logger

    def curve(self, name: str, points: Sequence[tuple[int, Values]]) -> None:
        """Logs the curve under its name."""
        for step, values in points:
            self.logger.log_metrics({f"step_loss/{name}/{tag}": value for tag, value in values.items()}, step)
        self.logger.save()

    def example(self, index: int, values: Values) -> None:
        """Logs the example's values; their step is its index."""
        self.logger.log_metrics(dict(values), index)

    def close(self) -> None:
        """Tells the logger that the study is over."""
        self.logger.save()
        self.logger.finalize("success")


class Curves:
    """Hands finished examples to the viewers. One that fails is left out from then on: the study matters more.

    Args:
        viewers: Where curves are shown.
        shown: Paths of the examples whose curves are.
        digits: Of a rank in a curve's name.
    """

    def __init__(self, viewers: Sequence[Viewer], shown: frozenset[str], digits: int) -> None:
        self.viewers = list(viewers)
        self.shown = shown
        self.digits = digits

    def __enter__(self) -> "Curves":
        return self

    def __exit__(self, *error: object) -> None:
        self._tell_all(lambda viewer: viewer.close())

    def add(self, result: Trajectory | Failure) -> None:
        """Shows a finished example."""
        values = example_values(result)
        self._tell_all(lambda viewer: viewer.example(result.example.index, values))
        if isinstance(result, Trajectory) and result.example.path in self.shown:
            name, points = curve_name(result, self.digits), curve_points(result.losses)
            self._tell_all(lambda viewer: viewer.curve(name, points))

    def _tell_all(self, tell: Callable[[Viewer], None]) -> None:
        for viewer in list(self.viewers):
            try:
                tell(viewer)
            except Exception as error:  # every logger has errors of its own
                self.viewers.remove(viewer)
                log.warning("%s failed and gets no more curves: %s", viewer.name, " ".join(str(error).split()))


def _event(step: int, values: Values) -> Event:
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
    return Event(wall_time=time.time(), step=step, summary=summary)


def _records(events: Iterable[Event]) -> bytes:
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    for event in events:
        writer.write(event.SerializeToString())
    return stream.getvalue()
