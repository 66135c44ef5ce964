"""What a bench has found, in words."""

import math
from collections.abc import Callable, Sequence

from lightning_app.bench.agreement import Difference
from lightning_app.bench.findings import Findings, Line
from lightning_app.bench.measuring import Spread

MAX_NAMED = 5
"""Differences of an engine; JSON has all."""


def words(findings: Findings) -> str:
    """The table, how to read it, and whether the engines agree."""
    settings, roofline = findings.settings, findings.roofline
    first = findings.engines[0].engine
    height, width = findings.input_size[-2:]
    is_cpu = all(line.gpu_bytes is None for line in findings.engines)
    threads = findings.environment["cpu_threads"] if is_cpu else None
    device = f"{findings.environment['device']}{f', {threads} thread' if threads else ''}"
    rows = [
        ("engine", "at once", "examples", "steps", "steps/s", f"x {first}", "ms/step", f"x {first}",
         "fixed ms/example", "memory", "of the roof"),
        *map(_row, findings.engines),
    ]  # fmt: skip
    lines = [
        f"{settings.model_name} at {height} x {width} px, {findings.precision}, on {device}: medians of"
        f" {settings.repeats} turns (smallest to largest)",
        *_aligned(rows),
        *(f"{name} is left out: {why}" for name, why in findings.unavailable.items()),
        *_ends(findings),
        "",
        f"steps/s: steps of all examples over all of the time. x {first}: the ratio to {first}'s, turn by turn.",
        "ms/step: what one step more costs. fixed ms/example: what an example costs beside its steps (its image, the"
        " weights, an optimiser). Both where examples are trained one at a time.",
        "memory: "
        + ("the most that this process held, with all engines' networks." if is_cpu
           else "what the engine has taken of the GPU."),
        f"roof: {roofline.steps_per_second:,.0f} steps/s is the most that this device could take from its memory (a"
        " model that stays in a cache can do better). A step is"
        f" {roofline.flops / 1e9:.3g} GFLOP (a large matrix product runs at {roofline.flops_per_second / 1e9:,.0f}"
        f" GFLOP/s) and moves {roofline.bytes / 1e6:,.3g} MB or more (a large copy runs at"
        f" {roofline.bytes_per_second / 1e9:,.0f} GB/s).",
        "",
        *_agreement(findings),
    ]  # fmt: skip
    return "\n".join(lines).rstrip()


def _ends(findings: Findings) -> list[str]:
    """How the examples ended: where they end early there are few steps, and the times are noise."""
    first, limit = findings.engines[0], findings.settings.max_steps_per_example
    ends = ", ".join(f"{count} {outcome}" for outcome, count in sorted(first.outcomes.items()))
    lines = [
        f"outcomes with {first.engine}: {ends}, after {first.steps / first.examples:.3g} of {limit} steps on average"
    ]
    if "diverged" in first.outcomes:
        lines.append("a smaller --lr would keep them from diverging")
    if first.steps == first.examples:
        lines.append("— : every example ended at its first step, so that a step's time can't be told from an example's")
    return lines


def _row(line: Line) -> tuple[str, ...]:
    memory = line.process_bytes if line.gpu_bytes is None else line.gpu_bytes
    return (
        line.engine,
        str(line.slots),
        f"{line.examples:,}",
        f"{line.steps:,}",
        _spread(line.steps_per_second, _rate),
        f"{line.speed_ratio.median:.2f}",
        _median(line.ms_per_step, "{:.2f}".format),
        _spread(line.step_ratio, "{:.3f}".format),
        _median(line.fixed_ms_per_example, "{:.2f}".format),
        "—" if memory is None else f"{memory / 1e6:,.0f} MB",
        f"{100 * line.share_of_roof:.1f} %",
    )


def _spread(values: Spread | None, say: Callable[[float], str]) -> str:
    median = _median(values, say)
    if values is None or math.isnan(values.median) or values.low == values.high:
        return median
    return f"{median} ({say(values.low)} to {say(values.high)})"


def _median(values: Spread | None, say: Callable[[float], str]) -> str:
    return "—" if values is None or math.isnan(values.median) else say(values.median)


def _rate(steps: float) -> str:
    return f"{steps:,.0f}" if steps >= 100 else f"{steps:.3g}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _agreement(findings: Findings) -> list[str]:
    first = findings.engines[0]
    lines = []
    for line in findings.engines:
        expected = "those of its first turn" if line is first else f"those of {first.engine}"
        if line.differences:
            lines.append(f"{line.engine}: {len(line.differences)} of {line.compared} examples are NOT {expected}")
            lines += [f"  {format_difference(difference)}" for difference in line.differences[:MAX_NAMED]]
        elif line is not first:
            lines.append(
                f"{line.engine}: outcomes, counts and losses of {line.compared} examples are {expected}, bit for bit"
            )
    return lines


def format_difference(difference: Difference) -> str:
    """Where and how far."""
    ours = "no such step" if difference.loss is None else repr(difference.loss)
    theirs = "no such step" if difference.expected is None else repr(difference.expected)
    outcomes = (
        ""
        if difference.outcome == difference.expected_outcome
        else f" ({difference.outcome}, expected {difference.expected_outcome})"
    )
    return f"example {difference.example}, step {difference.step}: loss {ours}, expected {theirs}{outcomes}"
