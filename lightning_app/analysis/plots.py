"""The study's pictures, large enough to be read at half size."""

import contextlib
import io
import textwrap
from collections.abc import Iterator, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_app.analysis.load import Study
from lightning_app.analysis.statistics import Floats
from lightning_app.analysis.summary import Summary, format_loss

BLUE, ORANGE = "#0072B2", "#D55E00"  # two of Okabe and Ito's colours, told apart by every kind of colour vision
BY_DIFFICULTY = "viridis"
VISIBLE_BLUES = ListedColormap(mpl.colormaps["Blues"].resampled(256)(np.linspace(0.3, 1, 256)))
"""Its lightest is told from the paper."""
Which = npt.NDArray[np.bool_]
MAX_POINTS = 5_000
"""Above, points would hide each other, and areas are coloured by how many they hold."""
MAX_CURVES = 200
NO_DATE: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
"""The same study gives the same file."""


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    """Matplotlib's own, whatever a user has set for theirs: some count when a picture is made, some when it's saved."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.hashsalt"] = "steps-to-epsilon"
        yield


@_own_settings()
def as_file(figure: Figure, kind: str = "png") -> bytes:
    """A picture as the content of a file.

    Args:
        figure: The picture; as PNG of 1200 x 900 pixels.
        kind: `png`, `svg` or `pdf`.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=NO_DATE[kind])
    return buffer.getvalue()


@_own_settings()
def steps_vs_difficulty(study: Study, summary: Summary) -> Figure:
    """Draws total SGD steps to epsilon against the universal difficulty rank.

    Not reached (censored or diverged) stands as open triangles at the limit; `error` rows have no place. Above 5,000
    points the reached ones are counted in hexagons, and beside them is the share of each range of ranks that was not
    reached.

    Args:
        study: The results.
        summary: Their statistics.
    """
    steps, rank = study.steps_to(), study.trained["universal_difficulty_rank"].to_numpy(dtype=np.float64)
    reached, missed = steps >= 0, steps < 0
    steps = np.maximum(steps, 1)  # a logarithm has no place for 0
    figure, many = _figure(), reached.sum() + missed.sum() > MAX_POINTS
    axes = figure.subplots()
    within = f" in {summary.limit:,} steps" if summary.says_limit else ""
    labels = f"reached ({reached.sum():,})", f"not reached{within} ({missed.sum():,})"
    axes.set_xlim(0.9, summary.limit * 1.25)  # before the scale, which complains of points that all lie at the limit
    axes.set_xscale("log")
    if many:
        _draw_many(figure, axes, steps, rank, reached, missed, labels)
    else:
        if reached.any():
            axes.scatter(steps[reached], rank[reached], s=30, color=BLUE, alpha=0.7, linewidths=0, label=labels[0])
        if missed.any():
            axes.scatter(
                np.full(missed.sum(), summary.limit), rank[missed], s=45, marker=">", facecolors="none",
                edgecolors=ORANGE, linewidths=1.2, label=labels[1],
            )  # fmt: skip
            axes.axvline(summary.limit, color=ORANGE, linewidth=0.8, linestyle=":")
        if reached.any() or missed.any():
            _legend_below(figure)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _name_axes(axes, f"Total SGD steps to {format_loss(summary.epsilon)}", "Universal difficulty rank (1 = easiest)")
    figure.suptitle(f"{_title(study.name)}\nSpearman {summary.at_epsilon.correlation}", fontsize=14)
    return figure


def _draw_many(
    figure: Figure, axes: Axes, steps: Floats, rank: Floats, reached: Which, missed: Which, labels: tuple[str, str]
) -> None:
    """More points than can be told apart."""
    if reached.any():
        cells = axes.hexbin(
            steps[reached], rank[reached], xscale="log", gridsize=50, bins="log", mincnt=1, cmap=VISIBLE_BLUES,
            extent=(0, np.log10(axes.get_xlim()[1]), rank.min() - 0.5, rank.max() + 0.5),
        )  # fmt: skip
        figure.colorbar(cells, ax=axes, location="bottom", shrink=0.6, label=f"{labels[0]}: images in a cell")
    if missed.any():
        edges = np.linspace(rank.min() - 0.5, rank.max() + 0.5, 21)
        here = missed | reached
        shares = np.histogram(rank[missed], edges)[0] / np.maximum(np.histogram(rank[here], edges)[0], 1)
        beside = axes.inset_axes((1.05, 0, 0.16, 1), sharey=axes)
        beside.barh((edges[1:] + edges[:-1]) / 2, shares, height=np.diff(edges) * 0.9, color=ORANGE)
        beside.set_xlim(0, 1)
        beside.tick_params(labelleft=False, labelsize=11)
        beside.set_title(textwrap.fill(labels[1], 14), fontsize=11)
        beside.set_xlabel("share", fontsize=11)


@_own_settings()
def loss_curves(study: Study, summary: Summary, seed: int = 0) -> Figure | None:
    """Draws the loss curves of up to 200 examples, a seeded sample, coloured by difficulty; thresholds as lines.

    Returns:
        None where no example has a step log.
    """
    frame = study.frame  # its places are those of the step logs
    places = np.flatnonzero(study.is_trained)
    drawn = np.sort(np.random.default_rng(seed).permutation(places)[:MAX_CURVES])
    ranks = frame["universal_difficulty_rank"].to_numpy(dtype=np.float64)
    curves, ranks_drawn = [], []
    for place in drawn.tolist():
        try:
            losses = np.asarray(study.losses_of(place), dtype=np.float64)
        except (OSError, ValueError):
            continue
        finite = np.isfinite(losses) & (losses > 0)
        if finite.any():
            curve = np.column_stack([np.arange(1, len(losses) + 1), losses])[finite]
            curves.append(curve if len(curve) > 1 else np.vstack([curve, curve * [1.05, 1]]))  # a line needs two
            ranks_drawn.append(ranks[place])
    if not curves:
        return None
    figure = _figure()
    axes = figure.subplots()
    lines = LineCollection(curves, cmap=BY_DIFFICULTY, linewidths=0.8, alpha=0.7)
    lines.set_array(np.array(ranks_drawn))
    axes.add_collection(lines)
    axes.set_xlim(0.9, summary.limit * 1.25)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.autoscale(axis="y")
    for line in summary.lines:
        if line.threshold == line.threshold:
            style = "-" if line is summary.at_epsilon else ":"
            axes.axhline(line.threshold, color="0.3", linewidth=1, linestyle=style)
            axes.annotate(line.label, (1, line.threshold), xycoords=("axes fraction", "data"), fontsize=11,
                          textcoords="offset points", xytext=(3, -4))  # fmt: skip
    figure.colorbar(lines, ax=axes, location="bottom", shrink=0.6, label="universal difficulty rank (1 = easiest)")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _name_axes(axes, "SGD step", "loss before the step")
    trained = len(places)
    of = f"{len(curves)} of {trained:,} images" if len(curves) < trained else f"{trained} images"
    figure.suptitle(f"{_title(study.name)}\nLoss curves of {of}", fontsize=14)
    return figure


@_own_settings()
def survival(study: Study, summary: Summary) -> Figure | None:
    """Draws which share of each fifth of the examples by difficulty has not come to epsilon after so many steps.

    Returns:
        None for fewer than five examples.
    """
    if not summary.quintiles:
        return None
    figure = _figure()
    axes = figure.subplots()
    axes.set_xlim(0.9, summary.limit * 1.25)
    axes.set_xscale("log")
    colours = mpl.colormaps[BY_DIFFICULTY](np.linspace(0, 0.9, len(summary.quintiles)))
    for fifth, colour in zip(summary.quintiles, colours, strict=True):
        steps, share = fifth.survival()
        axes.step(
            np.append(np.maximum(steps, 0.9), summary.limit), np.append(share, share[-1]), where="post", color=colour,
            linewidth=2, label=f"ranks {fifth.from_rank:,g} to {fifth.to_rank:,g} ({len(fifth.steps):,})",
        )  # fmt: skip
    axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _name_axes(axes, "SGD steps", f"share not yet at {format_loss(summary.epsilon)}")
    _legend_below(figure)
    figure.suptitle(f"{_title(study.name)}\nEasiest to hardest fifth of the images", fontsize=14)
    return figure


@_own_settings()
def correlation_over_thresholds(studies: Sequence[Study], summaries: Sequence[Summary]) -> Figure | None:
    """Draws Spearman's correlation at every threshold with its 95 % interval, a line a study.

    Returns:
        None where no correlation is defined.
    """
    thresholds = sorted(
        {line.threshold for summary in summaries for line in summary.lines if line.threshold == line.threshold},
        reverse=True,
    )
    defined = any(line.correlation.value == line.correlation.value for c in summaries for line in c.lines)
    if not thresholds or not defined:
        return None
    figure = _figure()
    axes = figure.subplots()
    axes.axhline(0, color="0.4", linewidth=1)
    colours = [BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
    for k, (study, summary) in enumerate(zip(studies, summaries, strict=True)):
        lines = [line for line in summary.lines if line.threshold == line.threshold]
        # Side by side, so that intervals don't hide each other.
        places = np.array([thresholds.index(line.threshold) for line in lines]) + 0.08 * (k - (len(studies) - 1) / 2)
        rho, low, high = np.array([[each.correlation.value, each.correlation.low, each.correlation.high]
                                   for each in lines]).reshape(-1, 3).T  # fmt: skip
        colour = colours[k % len(colours)]
        axes.errorbar(places, rho, yerr=np.array([rho - low, high - rho]), color=colour, marker="o", capsize=4,
                      linewidth=1.5, label=_in_legend(study.name))  # fmt: skip
        ceiling = study.metadata.ceiling
        if ceiling == ceiling:
            axes.axhline(ceiling, color=colour, linewidth=1, linestyle=":")
    names = {line.threshold: line.label for summary in summaries for line in summary.lines}
    axes.set_xticks(range(len(thresholds)), [names[threshold] for threshold in thresholds])
    axes.set_xlim(-0.5, len(thresholds) - 0.5)
    _name_axes(axes, "loss at or below", "Spearman of steps and difficulty")
    if any(study.metadata.ceiling == study.metadata.ceiling for study in studies):
        dotted = Line2D([], [], color="0.4", linewidth=1, linestyle=":", label="about the most this ranking allows")
        handles = [*axes.get_legend_handles_labels()[0], dotted]
        figure.legend(handles=handles, fontsize=12, loc="outside lower center", ncols=2, frameon=False)
    else:
        _legend_below(figure)
    figure.suptitle(
        "Correlation over the thresholds, 95 % intervals\nabove 0: harder images take more steps", fontsize=14
    )
    return figure


def _title(name: str) -> str:
    return _plain(textwrap.fill(name, 60))


def _in_legend(name: str) -> str:
    """A name that begins with _ would have no place in a legend."""
    short = name if len(name) <= 60 else f"{name[:59]}…"
    return _plain(f" {short}" if short.startswith("_") else short)


def _plain(text: str) -> str:
    """A name's dollars are no formula."""
    return text.replace("$", r"\$")


def _figure() -> Figure:
    return Figure(figsize=(8, 6), dpi=150, layout="constrained")


def _name_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=14)
    axes.set_ylabel(y, fontsize=14)
    axes.tick_params(labelsize=13)


def _legend_below(figure: Figure) -> None:
    # Below the axes: wherever it stood inside, it would hide points of some study.
    figure.legend(fontsize=13, loc="outside lower center", ncols=2, frameon=False)
