"""What a bench has found: in numbers, and in words."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from lightning_app.bench.measure import Candidate, FirstDifference, Spread
from lightning_app.bench.roofline import Roofline
from lightning_app.console.table import aligned
from lightning_app.settings import BenchSettings

MAX_NAMED = 5
"""Differences of an engine; JSON has all."""
FEW_STEPS = 10


@dataclass(frozen=True)
class Findings:
    """All of it.

    Args:
        settings: Of the bench.
        input_size: Of an image as the model sees it, (3, H, W).
        precision: Lightning's name.
        environment: Versions, device, threads.
        roofline: A step's work, and the device.
        engines: Measured; the first is what the others are compared with.
        unavailable: Those that don't work here, with the reason.
    """

    settings: BenchSettings
    input_size: tuple[int, ...]
    precision: str
    environment: Mapping[str, object]
    roofline: Roofline
    engines: Sequence[Candidate]
    unavailable: Mapping[str, str]

    @property
    def are_equal(self) -> bool:
        """Whether all engines' outcomes, counts and losses are the same."""
        return not any(candidate.differing for candidate in self.engines)

    @property
    def no_roof(self) -> str | None:
        """Why there is no share of the roof: its work is not known, or an engine took more steps than it allows."""
        roof = self.roofline.steps_per_second
        if roof is None:
            return f"a step's work is not known, {', '.join(self.roofline.uncounted)} can't be counted"
        fastest = max(self.engines, key=lambda candidate: max(candidate.rates))
        if max(fastest.rates) <= roof:
            return None
        return (
            f"{fastest.name} took {_rate(max(fastest.rates))} steps/s, where large matrix products and copies allow"
            f" {_rate(roof)} (small weights stay in a cache, some convolutions take fewer operations than are counted,"
            " and a busy machine measures low)"
        )

    def share_of_roof(self, candidate: Candidate) -> float | None:
        """An engine's steps a second, of those that the device could take."""
        roof = None if self.no_roof else self.roofline.steps_per_second
        return None if roof is None else candidate.steps_per_second.median / roof

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        lines = [
            {
                "engine": candidate.name,
                "slots": candidate.slots,
                "examples": len(candidate.ended),
                "steps": candidate.steps,
                "outcomes": candidate.outcomes,
                "steps_per_second": asdict(candidate.steps_per_second),
                "speed_ratio": asdict(candidate.speed_ratio(self.engines[0])),
                "gpu_bytes": candidate.gpu_bytes,
                "share_of_roof": self.share_of_roof(candidate),
                "compared": candidate.compared(self.engines[0]),
                "differences": [asdict(difference) for difference in candidate.differing],
            }
            for candidate in self.engines
        ]
        return {
            "settings": asdict(self.settings),
            "input_size": self.input_size,
            "precision": self.precision,
            "environment": self.environment,
            "roofline": asdict(self.roofline),
            "engines": lines,
            "unavailable": self.unavailable,
            "roof_steps_per_second": None if self.no_roof else self.roofline.steps_per_second,
            "no_roof": self.no_roof,
            "are_equal": self.are_equal,
        }


def format_findings(findings: Findings) -> str:
    """The table, and whether the engines agree."""
    settings, first, roof = findings.settings, findings.engines[0], findings.roofline.steps_per_second
    height, width = findings.input_size[-2:]
    is_gpu = first.gpu_bytes is not None
    threads = "" if is_gpu else f", {findings.environment['cpu_threads']} thread"
    rows = [("engine", "at once", "examples", "steps", "steps/s", f"x {first.name}", "GPU memory", "of the roof")]
    for candidate in findings.engines:
        share = findings.share_of_roof(candidate)
        rows.append((
            candidate.name,
            str(candidate.slots),
            f"{len(candidate.ended):,}",
            f"{candidate.steps:,}",
            _spread(candidate.steps_per_second, _rate),
            _spread(candidate.speed_ratio(first), "{:.2f}".format),
            f"{(candidate.gpu_bytes or 0) / 1e6:,.0f} MB",
            "" if share is None else f"{100 * share:.1f} %",
        ))  # fmt: skip
    shown = [True] * 6 + [is_gpu, findings.no_roof is None]
    lines = [
        f"{settings.model_name} at {height} x {width} px, {findings.precision}, on {findings.environment['device']}"
        f"{threads}: medians of {settings.repeats} turns (smallest to largest)",
        *aligned([tuple(itertools.compress(row, shown)) for row in rows], "<" + ">" * (sum(shown) - 1)),
        *(f"{name} is left out: {why}" for name, why in findings.unavailable.items()),
        "",
        *_ends(first, settings.max_steps_per_example),
        f"no share of the roof: {findings.no_roof}"
        if findings.no_roof
        else f"roof: {_rate(roof or 0)} steps/s, by this device's large matrix products and copies",
        *_agreement(findings.engines),
    ]
    return "\n".join(lines)


def _ends(first: Candidate, limit: int) -> list[str]:
    """How the examples ended: where they end early there are few steps, and the times are noise."""
    ends = ", ".join(f"{count} {outcome}" for outcome, count in first.outcomes.items())
    average = first.steps / len(first.ended)
    lines = [f"outcomes with {first.name}: {ends}, after {average:.3g} of {limit} steps on average"]
    if "diverged" in first.outcomes:
        lines.append("a smaller --lr would keep them from diverging")
    if average < FEW_STEPS:
        lines.append("with so few steps much of the time is an example's own: its image, the weights, an optimiser")
    return lines


def _spread(values: Spread, say: Callable[[float], str]) -> str:
    median, low, high = map(say, (values.median, values.low, values.high))
    return median if low == high else f"{median} ({low} to {high})"


def _rate(steps: float) -> str:
    return f"{steps:,.0f}" if steps >= 100 else f"{steps:.3g}"


def _agreement(engines: Sequence[Candidate]) -> list[str]:
    first, lines = engines[0], []
    for candidate in engines:
        expected = "those of its first turn" if candidate is first else f"those of {first.name}"
        name, compared, differing = candidate.name, candidate.compared(first), candidate.differing
        if differing:
            lines.append(f"{name}: {len(differing)} of {compared} examples are NOT {expected}")
            lines += [f"  {format_difference(difference)}" for difference in differing[:MAX_NAMED]]
        elif candidate is not first:
            lines.append(f"{name}: outcomes, counts and losses of {compared} examples are {expected}, bit for bit")
    return lines


def format_difference(difference: FirstDifference) -> str:
    """Where and how far."""
    ours = "no such step" if difference.loss is None else repr(difference.loss)
    theirs = "no such step" if difference.expected is None else repr(difference.expected)
    outcomes = (
        ""
        if difference.outcome == difference.expected_outcome
        else f" ({difference.outcome}, expected {difference.expected_outcome})"
    )
    return f"example {difference.example}, step {difference.step}: loss {ours}, expected {theirs}{outcomes}"
