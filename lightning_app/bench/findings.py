"""What a bench has found, in numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lightning_app.bench.agreement import Difference
from lightning_app.bench.measuring import Entrant, Spread, spread
from lightning_app.bench.roofline import Roofline
from lightning_app.settings import BenchSettings


@dataclass(frozen=True)
class Line:
    """One engine beside the first.

    Args:
        engine: Its name.
        slots: Examples that it trains at once.
        examples: That it trained.
        steps: All their steps.
        outcomes: How they ended, and how many.
        steps_per_second: Example-steps a second, all that an example costs included.
        speed_ratio: Of it, to the first engine's.
        ms_per_step: What one step more costs; None with more than one slot, where examples share their time.
        step_ratio: Of it, to the first engine's; None where either has none.
        fixed_ms_per_example: What an example costs beside its steps; None as above.
        gpu_bytes: What the engine has taken of a CUDA GPU; None elsewhere.
        process_bytes: The most that the process held, with what all engines share; None where the system can't tell.
        share_of_roof: Of the steps a second that the device could take.
        compared: Examples that the first engine has trained on too.
        differences: Those whose losses, counts or outcomes are not the first engine's.
    """

    engine: str
    slots: int
    examples: int
    steps: int
    outcomes: Mapping[str, int]
    steps_per_second: Spread
    speed_ratio: Spread
    ms_per_step: Spread | None
    step_ratio: Spread | None
    fixed_ms_per_example: Spread | None
    gpu_bytes: int | None
    process_bytes: int | None
    share_of_roof: float
    compared: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Findings:
    """All of it.

    Args:
        settings: Of the bench.
        input_size: Of an image as the model sees it, (3, H, W).
        precision: Lightning's name.
        environment: Versions, device, threads.
        roofline: A step's work, and the device.
        engines: In the order that was asked for; the first is what the others are compared with.
        unavailable: Those that don't work here, with the reason.
    """

    settings: BenchSettings
    input_size: tuple[int, ...]
    precision: str
    environment: Mapping[str, object]
    roofline: Roofline
    engines: tuple[Line, ...]
    unavailable: Mapping[str, str]

    @property
    def are_equal(self) -> bool:
        """Whether all engines' outcomes, counts and losses are the same."""
        return not any(line.differences for line in self.engines)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            **asdict(self),
            "roof_steps_per_second": self.roofline.steps_per_second,
            "are_equal": self.are_equal,
        }


def line_of(entrant: Entrant, first: Entrant, roofline: Roofline) -> Line:
    """Sums an engine's repeats up.

    Ratios are taken within a repeat: what slows the machine for a while slows both.

    Args:
        entrant: The engine.
        first: That it is compared with.
        roofline: Of the same step.
    """
    ours, theirs = entrant.repeats, first.repeats
    pairs = list(zip(ours, theirs, strict=True))
    is_alone = entrant.slots == 1
    both_are = is_alone and first.slots == 1
    rate = spread([repeat.steps_per_second for repeat in ours])
    return Line(
        engine=entrant.name,
        slots=entrant.slots,
        examples=ours[0].examples,
        steps=ours[0].steps,
        outcomes=entrant.outcomes,
        steps_per_second=rate,
        speed_ratio=spread([our.steps_per_second / their.steps_per_second for our, their in pairs]),
        ms_per_step=spread([repeat.ms_per_step for repeat in ours]) if is_alone else None,
        step_ratio=spread([our.ms_per_step / their.ms_per_step for our, their in pairs]) if both_are else None,
        fixed_ms_per_example=spread([repeat.fixed_ms for repeat in ours]) if is_alone else None,
        gpu_bytes=entrant.gpu_bytes,
        process_bytes=entrant.process_bytes,
        share_of_roof=rate.median / roofline.steps_per_second,
        compared=min(ours[0].examples, theirs[0].examples),
        differences=tuple(entrant.differing),
    )
