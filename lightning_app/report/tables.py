"""The report's tables, for the page and for a terminal."""

import math
import textwrap
from collections.abc import Sequence

from lightning_app.analysis.load import Study
from lightning_app.analysis.statistics import Association, Estimate
from lightning_app.analysis.summary import Summary, ThresholdLine, format_median, format_p
from lightning_app.console.table import aligned
from lightning_app.report.page import Table
from lightning_app.report.text import UNKNOWN

HOW_TO_READ = (
    "Above 0 (C: above .5) harder images take more steps. Not reached counts as more than every number of steps; tied"
    " are examples that need as many steps as another.",
    "95 % intervals, the first the one to cite: Fisher's z with the delete-one jackknife's standard error. Below it, up"
    " to 2,000 examples, the percentile bootstrap of 2,000 draws; clustered by class where 50 classes have two examples"
    " or more.",
)
TERMINAL = 120
"""Characters of a line of prose on the screen."""


def tables(
    studies: Sequence[Study], summaries: Sequence[Summary], agreement: Sequence[tuple[str, str, Estimate]]
) -> list[Table]:
    """All of them: several studies side by side first, then three for each."""
    found = [_side_by_side(studies, summaries), _agreement(agreement)] if len(studies) > 1 else []
    for study, summary in zip(studies, summaries, strict=True):
        of = study.name if len(studies) > 1 else ""
        found += [_association(of, summary, study is studies[0]), _beside(of, summary), _quintiles(of, summary)]
    return [table for table in found if table.rows]


def _caption(of: str, what: str) -> str:
    return f"{of}: {what}" if of else what[0].upper() + what[1:]


def _association(of: str, summary: Summary, first: bool) -> Table:
    rows = []
    reasons = []
    for line in summary.lines:
        rows += _lines(line, summary)
        for kind, found in (("all", line.association), ("without diverged", line.without_diverged)):
            if found is not None and found.spearman.why:
                reasons.append(f"At {line.label}, {kind}: {found.spearman.why}.")
    return Table(
        _caption(of, "steps against universal difficulty"),
        ("loss at or below", "n", "reached", "tied", "median steps", "Spearman", "Kendall's tau-b", "Harrell's C", "p"),
        tuple(rows),
        (
            *(HOW_TO_READ if first else ()),
            f"p at epsilon: {summary.at_epsilon.association.p_by or 'undefined'}.",
            *reasons,
        ),
    )


def _lines(line: ThresholdLine, summary: Summary) -> list[tuple[str, ...]]:
    found = line.association
    head = (f"{found.n:,}", f"{line.reached:,}", f"{found.tied:,}", format_median(line.median_steps, summary))
    rows: list[tuple[str, ...]] = [(line.label, *head, *_three(found), format_p(found.p))]
    for name, key in (("bootstrap", "bootstrap"), (f"clustered by {found.classes} classes", "clustered")):
        intervals = [getattr(each, key) for each in (found.spearman, found.kendall, found.concordance)]
        if any(intervals):
            cells = [
                "—" if ends is None else _interval(ends[0], ends[1], sign)
                for ends, sign in zip(intervals, ("+", "+", ""), strict=True)
            ]
            rows.append((f"  {name}", "", "", "", "", *cells, ""))
    if line.without_diverged is not None:
        rest = line.without_diverged
        rows.append(("  without diverged", f"{rest.n:,}", f"{line.reached:,}", f"{rest.tied:,}", "", *_three(rest),
                     format_p(rest.p)))  # fmt: skip
    return rows


def _three(found: Association) -> tuple[str, str, str]:
    return found.spearman.short(), found.kendall.short(), found.concordance.short("")


def _interval(low: float, high: float, sign: str = "+") -> str:
    return f"({low:{sign}.2f} to {high:{sign}.2f})"


def _beside(of: str, summary: Summary) -> Table:
    return Table(
        _caption(of, "other correlations"),
        ("loss at or below", "Spearman given the initial loss", "Spearman with the steps to epsilon",
         "Pearson of the reached", "n", "where it misleads"),
        tuple(
            (
                line.label, line.partial.short(), line.like_epsilon.short(), _number(line.pearson.value),
                f"{line.pearson.n:,}", line.pearson.misleads,
            )
            for line in summary.lines
        ),
        (
            "Pearson's correlation of steps and rank, over the examples that reached the loss alone, is what was"
            " published before.",
            *(f"Given the initial loss, at {line.label}: {line.partial.why}." for line in summary.lines
              if line.partial.why),
        ),
    )  # fmt: skip


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:+.2f}"


def _quintiles(of: str, summary: Summary) -> Table:
    return Table(
        _caption(of, "steps by difficulty, the easiest fifth first"),
        ("ranks", "n", "reached", "median steps"),
        tuple(
            (
                f"{fifth.from_rank:,g} to {fifth.to_rank:,g}", f"{len(fifth.steps):,}", f"{fifth.reached.sum():,}",
                format_median(fifth.median_steps, summary),
            )
            for fifth in summary.quintiles
        ),
    )  # fmt: skip


def _side_by_side(studies: Sequence[Study], summaries: Sequence[Summary]) -> Table:
    rows = []
    for study, summary in zip(studies, summaries, strict=True):
        line = summary.at_epsilon
        rows.append((
            study.name, f"{summary.epsilon:g}" if summary.epsilon == summary.epsilon else UNKNOWN,
            f"{summary.limit:,}" if summary.says_limit else UNKNOWN, f"{line.association.n:,}", f"{line.not_reached:,}",
            format_median(line.median_steps, summary), *_three(line.association),
            format_p(line.association.p),
            _number(study.metadata.ceiling).replace("undefined", UNKNOWN),
        ))  # fmt: skip
    return Table(
        "Side by side, each at its epsilon",
        ("study", "epsilon", "steps allowed", "n", "not reached", "median steps", "Spearman", "Kendall's tau-b",
         "Harrell's C", "p", "ceiling"),
        tuple(rows),
    )  # fmt: skip


def _agreement(agreement: Sequence[tuple[str, str, Estimate]]) -> Table:
    return Table(
        "How far their step rankings agree",
        ("study", "and", "examples in common", "Spearman of the steps"),
        tuple((one, other, f"{found.n:,}", found.short()) for one, other, found in agreement),
    )


def as_text(table: Table) -> str:
    """A table for a terminal."""
    lines = aligned([table.columns, *table.rows], "<" * len(table.columns))
    notes = [textwrap.fill(note, TERMINAL, break_on_hyphens=False) for note in table.notes]
    return "\n".join([table.caption, *lines, *notes])
