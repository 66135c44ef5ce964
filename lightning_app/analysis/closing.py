"""What a finished study says, in numbers and in plain words."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from lightning_app.analysis.statistics import Correlation, not_reached_on_top, spearman
from lightning_app.results.records import TEXT_COLUMNS
from lightning_app.training.trajectory import NEVER, THRESHOLDS, Outcome

OUTCOMES: tuple[str, ...] = get_args(Outcome)


def load_results(file: Path) -> pd.DataFrame:
    """Reads `single_example_results.csv`: text columns as text, all others as numbers, empty cells as NaN."""
    header = pd.read_csv(file, nrows=0).columns
    numbers = [name for name in header if name not in TEXT_COLUMNS]
    frame = pd.read_csv(
        file,
        dtype=dict.fromkeys(TEXT_COLUMNS, str),
        keep_default_na=False,
        na_values={name: ["", "nan"] for name in numbers},
        float_precision="round_trip",
    )
    return frame


@dataclass(frozen=True)
class ThresholdLine:
    """The study at one threshold.

    Args:
        name: `1e-2`, `ln2`, or `epsilon`.
        threshold: The loss.
        reached: Examples that came to it.
        median_steps: With not-reached on top; infinite where at least half did not reach it, NaN without examples.
        correlation: Steps against universal difficulty, not-reached on top.
    """

    name: str
    threshold: float
    reached: int
    median_steps: float
    correlation: Correlation


@dataclass(frozen=True)
class Closing:
    """A study's closing statistics.

    Args:
        epsilon: Of the study.
        limit: Steps after which an example was given up; where limits differ, the smallest, at which all are cut.
        counts: Examples by outcome.
        lines: From the largest threshold down to epsilon, which is last.
    """

    epsilon: float
    limit: int
    counts: dict[str, int]
    lines: tuple[ThresholdLine, ...]

    @property
    def at_epsilon(self) -> ThresholdLine:
        """The line of the study's own threshold."""
        return self.lines[-1]

    def as_dict(self) -> dict[str, object]:
        """For the summary."""
        return {
            line.name: {
                "threshold": line.threshold,
                "n": line.correlation.n,
                "reached": line.reached,
                "median_steps": line.median_steps,
                "spearman": line.correlation.rho,
                "spearman_low": line.correlation.low,
                "spearman_high": line.correlation.high,
            }
            for line in self.lines
        }


def close(frame: pd.DataFrame, epsilon: float, limit: int) -> Closing:
    """Computes the closing statistics; `error` rows are left out of all but the counts.

    A study that was given more steps and then stopped has rows that were censored at fewer: then every row is taken as
    it stood at the smallest limit.

    Args:
        frame: The results.
        epsilon: Of the study.
        limit: Its max_steps_per_example.
    """
    trained = frame[frame["outcome"] != "error"]
    earlier = trained.loc[trained["outcome"] == "censored", "steps_run"].min()
    limit = int(min(limit, earlier)) if earlier == earlier else limit
    rank = trained["universal_difficulty_rank"].to_numpy(dtype=np.float64)
    columns = {name: f"steps_to_{name}" for name, threshold in THRESHOLDS.items() if threshold > epsilon}
    thresholds = {**{name: THRESHOLDS[name] for name in columns}, "epsilon": epsilon}
    columns["epsilon"] = "total_steps_to_epsilon"
    lines = []
    for name, column in columns.items():
        steps = trained[column].to_numpy(dtype=np.float64)
        steps = np.where(steps > limit, NEVER, steps)
        lines.append(
            ThresholdLine(
                name,
                thresholds[name],
                int((steps > 0).sum()),
                float(np.median(np.where(steps < 0, math.inf, steps))) if len(steps) else math.nan,
                spearman(not_reached_on_top(steps, limit), rank),
            )
        )
    counts = {outcome: int((frame["outcome"] == outcome).sum()) for outcome in OUTCOMES}
    return Closing(epsilon, limit, counts, tuple(lines))


def words(closing: Closing) -> str:
    """The closing table and, where most examples did not reach epsilon, what to change."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in closing.counts.items())
    lines = [
        f"Outcomes: {counts}",
        "",
        f"{'loss at or below':>16}  {'reached':>7}  {'median steps':>12}  Spearman with difficulty",
    ]
    for line in closing.lines:
        label = f"{line.threshold:g}" if line.name != "ln2" else "ln 2"
        median = f"> {closing.limit}" if math.isinf(line.median_steps) else f"{line.median_steps:g}"
        lines.append(f"{label:>16}  {line.reached:>7}  {median:>12}  {line.correlation}")
    lines.append("Above 0: harder images take more steps. Not reached counts as more than every number of steps.")
    advice = _advice(closing)
    return "\n".join([*lines, *(["", advice] if advice else [])])


def answer(closing: Closing) -> str:
    """The study's answer in a sentence."""
    found = closing.at_epsilon.correlation
    if math.isnan(found.low):
        return f"too few images to say whether harder ones take more steps (n = {found.n})"
    if found.low > 0:
        said = "harder images tend to take more steps"
    elif found.high < 0:
        said = "harder images tend to take fewer steps"
    else:
        said = f"{found.n} images can't tell whether harder ones take more steps"
    return f"{said} to a loss of {closing.epsilon:g}: Spearman {found}"


def _advice(closing: Closing) -> str:
    """A plain sentence for a study in which most examples did not reach epsilon."""
    n = closing.at_epsilon.correlation.n
    missed, diverged = n - closing.at_epsilon.reached, closing.counts["diverged"]
    if missed * 2 <= n:
        return ""
    if diverged * 2 > missed:
        return f"Most examples did not reach epsilon, and {diverged} of {n} diverged: choose a smaller --lr."
    better = [line for line in closing.lines[1:-1] if line.reached * 2 > n]
    within_reach = (
        f"--epsilon {better[-1].threshold:g} was reached by {better[-1].reached} of {n} in the same steps"
        if better
        else "no threshold below ln 2 was reached by half of them in these steps, so try a larger --lr"
    )
    return (
        f"Most examples ({missed} of {n}) did not reach a loss of {closing.epsilon:g} in"
        f" {closing.limit} steps, so this says little about their order. Below a loss of about 1e-2 plain SGD on one"
        " image needs ten times the steps for a tenth of the loss: choose a larger --epsilon, a larger --lr or more"
        f" --max_steps_per_example ({within_reach})."
    )
