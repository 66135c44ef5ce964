"""A study's statistics at every threshold, and the table and sentences that say them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import get_args

import numpy as np
import pandas as pd
from scipy import stats

from lightning_app.analysis.load import Study, threshold_column
from lightning_app.analysis.statistics import (
    Association,
    Estimate,
    Floats,
    Paired,
    associate,
    not_reached_on_top,
    pairs_to_see,
    partial_spearman,
    smallest_visible,
    spearman,
)
from lightning_app.console.table import aligned
from lightning_app.data.stop_rule import THRESHOLDS, Outcome

OUTCOMES: tuple[str, ...] = get_args(Outcome)
QUINTILES = 5
NEGLIGIBLE = 0.05
"""The share that may be left out without a word."""
SMALL_CORRELATIONS = (0.10, 0.15)
"""The size of the published effects; a sample should see them."""


@dataclass(frozen=True)
class Pearson:
    """Pearson's correlation of steps and rank over the reached examples alone, as it was published before.

    Args:
        n: Reached examples.
        value: NaN where undefined.
        why: Why it is undefined, else empty.
        misleads: Why it is not to be trusted here; empty where nothing speaks against it.
    """

    n: int
    value: float
    why: str
    misleads: str


@dataclass(frozen=True)
class ThresholdLine:
    """The study at one threshold.

    Args:
        name: `1e-2`, `ln2`, the number itself for one that is not on the ladder, or `epsilon`.
        threshold: The loss; NaN where the table's maker doesn't say.
        reached: Examples that came to it, of those of which it is known.
        not_reached: Censored or diverged before.
        median_steps: With not-reached on top; infinite where at least half did not reach it, NaN without examples.
        association: Steps against universal difficulty, not-reached on top.
        without_diverged: The same without the diverged, where there are any.
        pearson: As it was published before.
        partial: Spearman's correlation given the initial loss.
        like_epsilon: Spearman's correlation of the steps to this threshold with those to epsilon.
    """

    name: str
    threshold: float
    reached: int
    not_reached: int
    median_steps: float
    association: Association
    without_diverged: Association | None
    pearson: Pearson
    partial: Estimate
    like_epsilon: Estimate

    @property
    def correlation(self) -> Estimate:
        """Spearman's."""
        return self.association.spearman

    @property
    def label(self) -> str:
        """The threshold for people."""
        return (
            "ln 2" if self.name == "ln2" else f"{self.threshold:g}" if self.threshold == self.threshold else "epsilon"
        )

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "threshold": self.threshold,
            "reached": self.reached,
            "not_reached": self.not_reached,
            "median_steps": self.median_steps,
            **self.association.as_dict(),
            "without_diverged": self.without_diverged and self.without_diverged.as_dict(),
            "pearson_of_reached": asdict(self.pearson),
            "spearman_given_initial_loss": self.partial.as_dict(),
            "spearman_with_steps_to_epsilon": self.like_epsilon.as_dict(),
        }  # fmt: skip


@dataclass(frozen=True)
class Quintile:
    """About a fifth of the examples by difficulty, the first the easiest.

    Args:
        from_rank: Its easiest rank.
        to_rank: Its hardest.
        steps: To epsilon, not reached on top, shape (n,).
        reached: Which came to it, shape (n,).
        median_steps: As of a threshold.
    """

    from_rank: float
    to_rank: float
    steps: Floats
    reached: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    median_steps: float

    def survival(self) -> tuple[Floats, Floats]:
        """The share that is not there yet after so many steps: Kaplan and Meier's, 1 - ECDF for one limit.

        Returns:
            Steps and shares, each of shape (distinct counts,), from step 0.
        """
        data = stats.CensoredData(self.steps[self.reached], right=self.steps[~self.reached] - 1)
        curve = stats.ecdf(data).sf
        at = np.isin(curve.quantiles, self.steps[self.reached])
        return np.append(0.0, curve.quantiles[at]), np.append(1.0, curve.probabilities[at])


@dataclass(frozen=True)
class Summary:
    """A study's statistics at its end.

    Args:
        epsilon: Of the study; NaN where its maker doesn't say.
        limit: Steps after which an example was given up; where limits differ, the smallest, at which all are cut.
        says_limit: Whether the study says so; else it is the most steps that any example took.
        counts: Examples by outcome, as they stood at the limit.
        lines: From the largest threshold down to epsilon, which is last.
        quintiles: By difficulty; none for fewer than five examples or where all are equally difficult.
    """

    epsilon: float
    limit: int
    says_limit: bool
    counts: dict[str, int]
    lines: tuple[ThresholdLine, ...]
    quintiles: tuple[Quintile, ...] = ()

    @property
    def at_epsilon(self) -> ThresholdLine:
        """The line of the study's own threshold."""
        return self.lines[-1]

    def as_dict(self) -> dict[str, object]:
        """For the summary and for `--json`; undefined and infinite are null there."""
        n = self.at_epsilon.association.n
        return {
            "epsilon": self.epsilon,
            "limit": self.limit if self.says_limit else None,
            "n": n,
            "outcomes": self.counts,
            "thresholds": {line.name: line.as_dict() for line in self.lines},
            "quintiles": [
                {"from_rank": fifth.from_rank, "to_rank": fifth.to_rank, "n": len(fifth.steps),
                 "reached": int(fifth.reached.sum()), "median_steps": fifth.median_steps}
                for fifth in self.quintiles
            ],
            "smallest_visible_correlation": smallest_visible(n),
            "examples_to_see": {f"{rho:.2f}": pairs_to_see(rho) for rho in SMALL_CORRELATIONS},
        }  # fmt: skip


def summarize(study: Study) -> Summary:
    """Computes a study's statistics; `error` rows are left out of all but the counts.

    A study that was given more steps and then stopped has rows that were censored at fewer: then every row is taken as
    it stood at the smallest limit.

    Args:
        study: Its table, epsilon and limit.
    """
    columns = _columns(study)
    thresholds = {name: THRESHOLDS[name] if name in THRESHOLDS else float(name) for name in columns}
    names = [*sorted(columns, key=lambda name: -thresholds[name]), "epsilon"]
    thresholds["epsilon"], columns["epsilon"] = study.epsilon, "total_steps_to_epsilon"
    lines = tuple(_line(study, name, thresholds[name], columns[name]) for name in names)
    counts = {outcome: int((study.outcomes == outcome).sum()) for outcome in OUTCOMES}
    counts["error"] = len(study.frame) - len(study.trained)
    return Summary(study.epsilon, study.limit_in_force, study.says_limit, counts, lines, _quintiles(study))


def _columns(study: Study) -> dict[str, str]:
    """The columns of the thresholds above epsilon that the study has looked at, by the threshold's name."""
    ladder = {name: f"steps_to_{name}" for name, threshold in THRESHOLDS.items() if not threshold <= study.epsilon}
    looked_at = {
        name: column for name, column in ladder.items() if column in study.frame and study.frame[column].notna().any()
    }
    known = {THRESHOLDS[name] for name in looked_at} | {study.epsilon}
    return {**looked_at, **{f"{more!r}": threshold_column(more) for more in study.extra if more not in known}}


def _line(study: Study, name: str, threshold: float, column: str) -> ThresholdLine:
    limit, every = study.limit_in_force, study.steps_to(column)
    known = ~np.isnan(every)  # a table that was put together of several studies may not know of all
    trained, steps, to_epsilon = study.trained[known], every[known], study.steps_to()[known]
    on_top = not_reached_on_top(steps, limit)
    rank, labels, initial_loss = (
        trained[name].to_numpy(dtype=np.float64) if name in trained else np.full(len(trained), math.nan)
        for name in ("universal_difficulty_rank", "label", "initial_loss")
    )
    reached = steps >= 0
    diverged = (study.outcomes[known] == "diverged") & ~reached
    association = associate(on_top, rank, labels)
    without = associate(on_top[~diverged], rank[~diverged], labels[~diverged]) if diverged.any() else None
    has_loss = np.isfinite(initial_loss)
    partial = partial_spearman(on_top[has_loss], rank[has_loss], initial_loss[has_loss])
    if len(trained) and not has_loss.any():
        partial = Estimate(0, math.nan, why="the table has no initial_loss")
    return ThresholdLine(
        name, threshold, int(reached.sum()), int((~reached).sum()),
        float(np.median(np.where(reached, steps, math.inf))) if len(steps) else math.nan,
        association, without, _pearson_of_reached(steps, rank, association.spearman), partial,
        spearman(on_top, not_reached_on_top(to_epsilon, limit)),
    )  # fmt: skip


def _pearson_of_reached(steps: Floats, rank: Floats, rho: Estimate) -> Pearson:
    reached = steps >= 0
    n, missed = int(reached.sum()), int((~reached).sum())
    left_out = f"leaves out the {missed:,} not reached" if missed > NEGLIGIBLE * len(steps) else ""
    if why := Paired(steps[reached], rank[reached]).why_undefined("number of steps", "difficulty"):
        return Pearson(n, math.nan, why, left_out)
    value = float(stats.pearsonr(steps[reached], rank[reached]).statistic)
    if rho.low <= value <= rho.high or math.isnan(rho.low):
        return Pearson(n, value, "", left_out)
    how = "of the other sign than" if value * rho.value < 0 else "outside the interval of"
    return Pearson(n, value, "", f"{left_out and left_out + '; '}it is {how} the rank correlation")


def _quintiles(study: Study) -> tuple[Quintile, ...]:
    """Fifths by rank; examples of one rank stay together, so that the order of the rows says nothing."""
    steps, limit = study.steps_to(), study.limit_in_force
    if len(steps) < QUINTILES:
        return ()
    rank = study.trained["universal_difficulty_rank"].to_numpy(dtype=np.float64)
    fifth = np.floor((stats.rankdata(rank) - 0.5) / len(rank) * QUINTILES)
    groups = [fifth == k for k in np.unique(fifth)]
    if len(groups) == 1:
        return ()
    return tuple(
        Quintile(
            float(rank[group].min()), float(rank[group].max()), not_reached_on_top(steps[group], limit),
            steps[group] >= 0, float(np.median(np.where(steps[group] < 0, math.inf, steps[group]))),
        )
        for group in groups
    )  # fmt: skip


def step_rankings_agree(studies: Sequence[Study]) -> list[tuple[str, str, Estimate]]:
    """How far every two studies order the examples alike that both have trained: Spearman's correlation of the steps.

    Args:
        studies: With names that differ.
    """
    by_path = [
        pd.Series(not_reached_on_top(study.steps_to(), study.limit_in_force), index=study.trained["path"].to_numpy())
        for study in studies
    ]
    found = []
    for i, one in enumerate(studies):
        for j in range(i + 1, len(studies)):
            both = pd.concat([by_path[i], by_path[j]], axis=1, join="inner").to_numpy(dtype=np.float64)
            found.append((one.name, studies[j].name, spearman(both[:, 0], both[:, 1])))
    return found


MIN_PAIRS = 5
"""Examples, of which something may be said."""


def format_summary(summary: Summary) -> str:
    """The table of a study's end and, where most examples did not reach epsilon, what to change."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary.counts.items())
    rows = [("loss at or below", "reached", "median steps", "Spearman with difficulty")]
    for line in summary.lines:
        median = format_median(line.median_steps, summary)
        rows.append(
            (line.label, str(line.reached), median, f"{line.correlation}{format_p(line.association.p, ', p ')}")
        )
        if line.without_diverged is not None:
            rows.append(("without diverged", "", "", str(line.without_diverged.spearman)))
    lines = [f"Outcomes: {counts}", "", *aligned(rows, ">>><")]
    lines.append("Above 0: harder images take more steps. Not reached counts as more than every number of steps.")
    advice = _advice(summary)
    return "\n".join([*lines, *(["", advice] if advice else [])])


def format_median(median: float, summary: Summary) -> str:
    """A median of steps for people.

    Args:
        median: Infinite where at least half have not reached it.
        summary: Of the study.
    """
    if math.isinf(median):
        return f"> {summary.limit:,}" if summary.says_limit else "not reached"
    return "none" if math.isnan(median) else f"{median:,g}"


def format_p(p: float, before: str = "") -> str:
    """A p value for people; nothing where it is undefined.

    Args:
        p: The value.
        before: What stands before it, such as `p `; then with an equals sign.
    """
    if math.isnan(p):
        return ""
    return before + ("< 0.001" if p < 0.001 else f"{'= ' if before else ''}{p:.3f}")


def answer(summary: Summary) -> str:
    """The study's answer in a sentence."""
    line = summary.at_epsilon
    found = line.correlation
    to = format_loss(summary.epsilon)
    if found.n < MIN_PAIRS:
        return f"too few images to say whether harder ones take more steps (n = {found.n})"
    if math.isnan(found.value):
        within = f" in {summary.limit:,} steps" if summary.says_limit else ""
        why = found.why if line.reached else f"none came to {to}{within}"
        return f"nothing can be said of whether harder images take more steps: {why} (n = {found.n:,})"
    if math.isnan(found.low):
        return f"whether harder images take more steps to {to} can't be told: Spearman {found}, {found.why}"
    if found.low > 0:
        said = "harder images tend to take more steps"
    elif found.high < 0:
        said = "harder images tend to take fewer steps"
    else:
        said = f"{found.n:,} images can't tell whether harder ones take more steps"
    return f"{said} to {to}: Spearman {found}"


def format_loss(epsilon: float) -> str:
    """An epsilon for people, also one that nobody knows."""
    return f"a loss of {epsilon:g}" if epsilon == epsilon else "its epsilon"


def _advice(summary: Summary) -> str:
    """A plain sentence for a study in which most examples did not reach epsilon."""
    n, missed, diverged = summary.at_epsilon.association.n, summary.at_epsilon.not_reached, summary.counts["diverged"]
    if missed * 2 <= n:
        return ""
    if diverged * 2 > missed:
        return f"Most examples did not reach epsilon, and {diverged} of {n} diverged: choose a smaller --lr."
    better = [line for line in summary.lines[:-1] if line.name != "ln2" and line.reached * 2 > n]
    within_reach = (
        f"--epsilon {better[-1].threshold:g} was reached by {better[-1].reached} of {n} in the same steps"
        if better
        else "no threshold below ln 2 was reached by half of them in these steps, so try a larger --lr"
    )
    return (
        f"Most examples ({missed} of {n}) did not reach {format_loss(summary.epsilon)} in"
        f" {summary.limit} steps, so this says little about their order. Below a loss of about 1e-2 plain SGD on one"
        " image needs ten times the steps for a tenth of the loss: choose a larger --epsilon, a larger --lr or more"
        f" --max_steps_per_example ({within_reach})."
    )
