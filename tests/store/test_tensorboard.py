import csv
import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_app.data.example import Example, Rank
from lightning_app.data.stop_rule import Outcome
from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.store.study_log import Stored, example_line
from lightning_app.store.tensorboard import (
    ALL_EXAMPLES,
    EVENTS,
    Curves,
    LightningLogger,
    TensorBoardFolder,
    curve_name,
    points,
    shown_examples,
    shown_steps,
)
from tests.store import studies


def example(index: int, rank: Rank = 1) -> Example:
    return Example(index, f"a/{index}.jpg", Path("a.jpg"), 0, rank)


def trajectory(losses: list[float], outcome: Outcome = "reached", index: int = 0, rank: Rank = 1) -> Trajectory:
    return Trajectory(example(index, rank), outcome, losses, 1, 1, 0.5, 0.1)


def add(curves: Curves, result: Trajectory | Failure) -> None:
    losses = result.losses if isinstance(result, Trajectory) else []
    stored = Stored(example_line(result, 1), losses[-1] if losses else math.nan, 1, 0, 0)
    curves.add(stored, result.example.index, losses)


def scalars(run: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard's own reader finds in a run: value by step, by tag."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


@given(st.integers(0, 200_000))
def test_a_curve_shows_its_beginning_whole_its_end_and_no_more_than_the_page_keeps(count: int) -> None:
    steps = shown_steps(count)
    assert steps[:100] == list(range(1, min(count, 100) + 1))
    assert (steps[-1] == count) if count else not steps
    assert all(a < b <= math.ceil(1.01 * a) for a, b in pairwise(steps))
    assert len(steps) <= 1000


def test_a_curve_holds_the_loss_and_its_logarithm_and_leaves_out_what_is_not_finite() -> None:
    assert list(points([100.0, 0.01, 0.0, math.inf, math.nan])) == [
        (1, {"loss": 100.0, "log10_loss": 2.0}),
        (2, {"loss": 0.01, "log10_loss": -2.0}),
        (3, {"loss": 0.0}),
        (4, {}),
        (5, {}),
    ]


def test_names_tell_rank_and_outcome_and_sort_by_difficulty() -> None:
    censored, reached = trajectory([1.0], "censored", rank=412), trajectory([1.0], "reached", rank=12.5)
    assert curve_name(example_line(censored, 1), 7, 5) == "rank_00412_censored_example_7"
    assert curve_name(example_line(reached, 1), 0, 5) == "rank_00012.5_reached_example_0"


def test_more_curves_include_fewer_whatever_the_order_of_the_examples() -> None:
    examples = [example(i) for i in range(30)]
    few, more = shown_examples(examples, 42, 5), shown_examples(reversed(examples), 42, 12)
    assert (len(few), len(more)) == (5, 12)
    assert few < more < shown_examples(examples, 42, -1) == {e.path for e in examples}
    assert shown_examples(examples, 43, 5) != few
    assert shown_examples(examples, 42, 0) == frozenset()


def test_tensorboard_reads_every_curve_and_the_run_over_all_examples() -> None:
    losses = [1 / k for k in range(1, 301)]
    results: list[Trajectory | Failure] = [
        trajectory(losses, "censored", 0, 3),
        trajectory([2.0, math.nan], "diverged", 1, 14),
        Failure(example(2, 15), "torn"),
        trajectory([1.0, 0.001], "reached", 3, 92),
    ]
    with Curves([TensorBoardFolder(Path("tb"))], frozenset({"a/0.jpg", "a/1.jpg", "a/2.jpg"}), 2) as curves:
        for result in results:
            add(curves, result)
            assert scalars(Path("tb") / ALL_EXAMPLES)  # there at once, not at the end
    names = {"rank_03_censored_example_0", "rank_14_diverged_example_1"}
    assert {run.name for run in Path("tb").iterdir()} == {ALL_EXAMPLES, *names}
    curve = scalars(Path("tb/rank_03_censored_example_0"))
    assert list(curve) == ["step_loss/loss", "step_loss/log10_loss"]
    assert list(curve["step_loss/loss"]) == shown_steps(300)
    for step, loss in curve["step_loss/loss"].items():
        assert loss == pytest.approx(1 / step, rel=1e-6)
        assert curve["step_loss/log10_loss"][step] == pytest.approx(-math.log10(step), abs=1e-6)
    assert scalars(Path("tb/rank_14_diverged_example_1"))["step_loss/loss"] == {1: 2.0}
    every = scalars(Path("tb") / ALL_EXAMPLES)
    assert every["study/outcome"] == {0: 1, 1: 2, 2: 3, 3: 0}
    assert every["study/steps"] == {0: 300, 1: 2, 3: 2}
    assert every["study/final_loss"] == pytest.approx({0: 1 / 300, 3: 0.001})


def test_what_is_there_is_shown_but_not_what_is_trained_again() -> None:
    sample = [studies.example(index) for index in range(6)]
    study, _ = studies.begun(Path("study"), sample, limit=2)
    for index, losses in ((5, [1.0, 0.5]), (1, [1.0, 0.9]), (0, [0.4])):
        study.commit(studies.trajectory(sample[index], losses))
    study, plan = studies.begun(Path("study"), sample, limit=3)
    assert plan.coming == {"1.jpg"}
    stale = Path("tb/rank_7_reached_example_5")
    for run in (stale, Path("tb/rank_2_censored_example_1"), Path("tb/mine")):
        run.mkdir(parents=True)
        (run / EVENTS).write_bytes(b"")
    with Curves([TensorBoardFolder(Path("tb"))], frozenset({"1.jpg", "5.jpg"}), 1) as curves:
        curves.keep(study.study, plan.coming)
        names = {"mine", "rank_6_reached_example_5", ALL_EXAMPLES}
        assert {run.name for run in Path("tb").iterdir()} == names
        result = studies.trajectory(sample[1], [1.0, 0.9, 0.4])
        curves.add(study.commit(result), 1, result.losses)
    assert {run.name for run in Path("tb").iterdir()} == names | {"rank_2_reached_example_1"}
    assert list(scalars(Path("tb/rank_6_reached_example_5"))["step_loss/loss"].values()) == [1.0, 0.5]
    assert list(scalars(Path("tb") / ALL_EXAMPLES)["study/steps"].items()) == [(0, 1), (1, 3), (5, 2)]


def test_another_logger_gets_the_same_curves_step_by_step() -> None:
    logger = LightningLogger(CSVLogger("logs", name="", version=""))
    with Curves([logger], frozenset({"a/0.jpg", "a/2.jpg"}), 3) as curves:
        add(curves, trajectory([2.0, 1.0, 0.5], "reached", 0, 7))
        add(curves, trajectory([3.0], "censored", 1, 8))
        add(curves, trajectory([4.0, math.inf], "diverged", 2, 9))
    with Path("logs/metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    expected = {"007_reached_example_0": [(1, 2.0), (2, 1.0), (3, 0.5)], "009_diverged_example_2": [(1, 4.0)]}
    for name, curve in expected.items():
        tag = f"step_loss/rank_{name}/loss"
        assert [(int(row["step"]), float(row[tag])) for row in rows if row[tag]] == curve
    assert [(int(row["step"]), float(row["study/steps"])) for row in rows if row["study/steps"]] == [
        (0, 3), (1, 1), (2, 2),
    ]  # fmt: skip
    assert [int(row["step"]) for row in rows[3:]] == [1, 2, 3]  # the curves side by side: steps only grow


class Witness(CSVLogger):
    """Remembers how it was told to end."""

    status = ""

    def finalize(self, status: str) -> None:
        self.status = status


def test_a_logger_is_told_how_the_study_ended() -> None:
    good, bad = Witness("logs"), Witness("logs")
    with Curves([LightningLogger(good)], frozenset(), 1):
        pass
    with pytest.raises(ZeroDivisionError), Curves([LightningLogger(bad)], frozenset(), 1):
        raise ZeroDivisionError
    assert (good.status, bad.status) == ("success", "failed")


class Broken(CSVLogger):
    """A logger whose service is gone."""

    calls = 0

    def log_metrics(self, metrics: object, step: object = None) -> None:
        Broken.calls += 1
        raise ConnectionError("no route\nto the service")


def test_a_logger_that_fails_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    Broken.calls = 0
    with Curves([LightningLogger(Broken("logs"))], frozenset(), 1) as curves:
        add(curves, trajectory([1.0], index=0))
        add(curves, trajectory([1.0], index=1))
    assert [r.message for r in caplog.records] == ["Broken failed and gets no more curves: no route to the service"]
    assert Broken.calls == 1


def test_a_folder_that_can_not_be_made_does_not_end_the_study(caplog: pytest.LogCaptureFixture) -> None:
    Path("tb").write_text("a file in its place")
    with Curves([TensorBoardFolder(Path("tb"))], frozenset(), 1) as curves:
        add(curves, trajectory([1.0]))
    assert "TensorBoard in tb failed and gets no more curves: " in caplog.text


def test_the_others_go_on() -> None:
    with Curves([LightningLogger(Broken("logs")), TensorBoardFolder(Path("tb"))], frozenset(), 1) as curves:
        add(curves, trajectory([1.0], index=0))
        add(curves, trajectory([1.0], index=1))
    assert scalars(Path("tb") / ALL_EXAMPLES)["study/steps"] == {0: 1, 1: 1}
