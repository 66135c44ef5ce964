import math
from dataclasses import replace

from lightning_app.bench.agreement import Difference
from lightning_app.bench.findings import Findings, Line
from lightning_app.bench.measuring import Spread
from lightning_app.bench.roofline import Roofline
from lightning_app.bench.words import format_difference, words
from lightning_app.settings import BenchSettings

ONE = Spread(1.0, 1.0, 1.0)
PLAIN = Line("plain", 1, 4, 200, {"reached": 1, "censored": 3}, Spread(120.0, 110.0, 130.0), ONE,
             Spread(8.0, 7.5, 9.0), ONE, Spread(4.5, 4.0, 5.0), None, 929_000_000, 0.12, 4, ())  # fmt: skip
SLOTS = replace(PLAIN, engine="slots", slots=16, examples=64, speed_ratio=Spread(12.5, 12.0, 13.0), ms_per_step=None,
                step_ratio=None, fixed_ms_per_example=None, gpu_bytes=3_500_000_000)  # fmt: skip
OFF = Difference("slots", 3, 7, 0.25, 0.5, "censored", "reached")


def findings(*lines: Line, **unavailable: str) -> Findings:
    return Findings(
        BenchSettings(model_name="some"), (3, 24, 32), "32-true", {"device": "a device", "cpu_threads": 1},
        Roofline(2_000_000, 10_000, 1e9, 1e9), lines, unavailable,
    )  # fmt: skip


def test_the_table_has_a_line_an_engine_and_says_what_the_columns_are() -> None:
    text = words(findings(PLAIN, replace(PLAIN, engine="trainer")))
    head, columns, plain, trainer, *rest = text.splitlines()
    assert head.startswith("some at 24 x 32 px, 32-true, on a device, 1 thread: medians of 5 turns")
    assert columns.split()[:2] == ["engine", "at"]
    assert plain.startswith("plain")
    assert "120 (110 to 130)" in plain
    assert plain.endswith("929 MB       12.0 %")
    assert trainer.startswith("trainer")
    assert len(columns) == len(plain) == len(trainer)
    assert "outcomes with plain: 3 censored, 1 reached, after 50 of 30 steps on average" in text
    assert "roof: 500 steps/s" in text
    assert "what the engine has taken of the GPU" not in text
    assert rest[-1] == "trainer: outcomes, counts and losses of 4 examples are those of plain, bit for bit"


def test_on_a_gpu_memory_is_the_engines_and_slots_have_no_fixed_cost() -> None:
    text = words(findings(replace(PLAIN, gpu_bytes=500_000_000), SLOTS))
    assert "3,500 MB" in text
    assert "929 MB" not in text
    assert "what the engine has taken of the GPU" in text
    assert "1 thread" not in text
    (slots,) = (line for line in text.splitlines() if line.startswith("slots  "))
    assert slots.split().count("—") == 3


def test_a_difference_is_told_with_engine_example_step_and_losses() -> None:
    differing = replace(SLOTS, differences=(OFF,) * 7)
    lines = words(findings(PLAIN, differing)).splitlines()
    told = lines.index("slots: 7 of 4 examples are NOT those of plain")
    assert lines[told + 1 :] == [f"  {format_difference(OFF)}"] * 5
    assert format_difference(OFF) == "example 3, step 7: loss 0.25, expected 0.5 (censored, expected reached)"
    assert not findings(PLAIN, differing).are_equal
    assert findings(PLAIN, SLOTS).are_equal


def test_a_step_that_only_one_has_taken_is_told_as_such() -> None:
    assert format_difference(replace(OFF, loss=None, outcome="reached")) == (
        "example 3, step 7: loss no such step, expected 0.5"
    )
    assert "expected no such step" in format_difference(replace(OFF, expected=None))


def test_what_is_unavailable_is_named_and_what_is_unknown_a_dash() -> None:
    nothing = replace(PLAIN, ms_per_step=Spread(math.nan, math.nan, math.nan), process_bytes=None)
    text = words(findings(nothing, slots="step 3 differs"))
    assert "slots is left out: step 3 differs" in text
    assert "nan" not in text


def test_json_has_the_roof_and_the_verdict() -> None:
    content = findings(PLAIN, replace(SLOTS, differences=(OFF,))).as_dict()
    assert content["roof_steps_per_second"] == 500.0
    assert content["are_equal"] is False
    assert isinstance(content["engines"], tuple | list)
    assert content["engines"][1]["differences"][0]["step"] == 7


def test_examples_that_end_early_are_told() -> None:
    text = words(findings(replace(PLAIN, steps=4, outcomes={"diverged": 4})))
    assert "outcomes with plain: 4 diverged, after 1 of 30 steps on average\na smaller --lr would keep them" in text
    assert "every example ended at its first step" in text
    assert not text.endswith("\n")
