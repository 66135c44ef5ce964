import json
from dataclasses import replace

import pytest

from lightning_app.bench.findings import Findings, format_difference, format_findings
from lightning_app.bench.measure import Candidate, FirstDifference
from lightning_app.bench.roofline import Roofline
from lightning_app.bench.runners import EngineResult
from lightning_app.data.stop_rule import Outcome
from lightning_app.files import json_text
from lightning_app.settings import BenchSettings

ROOFLINE = Roofline(2_000_000, (), 10_000, 1e9, 1e9)  # 500 steps/s
OFF = FirstDifference("slots", 3, 7, 0.25, 0.5, "censored", "reached")


def candidate(name: str, *rates: float, steps: int = 25, outcome: Outcome = "censored", **more: object) -> Candidate:
    ended = {i: EngineResult(outcome if i else "reached", [1.0] * steps) for i in range(4)}
    made = Candidate(name, lambda *_: {}, 1, [], rates=list(rates), ended=ended)
    return replace(made, **more)  # type: ignore[arg-type]


PLAIN = candidate("plain", 120.0, 110.0, 130.0)
SLOTS = candidate("slots", 240.0, 220.0, 130.0, slots=16)


def findings(*engines: Candidate, roofline: Roofline = ROOFLINE, **unavailable: str) -> Findings:
    where = {"device": "a device", "cpu_threads": 1}
    return Findings(BenchSettings(model_name="some"), (3, 24, 32), "32-true", where, roofline, engines, unavailable)


def test_the_table_has_a_line_an_engine() -> None:
    head, columns, plain, slots, missing, *rest = format_findings(
        findings(PLAIN, SLOTS, trainer="it is tired")
    ).splitlines()
    assert head.startswith("some at 24 x 32 px, 32-true, on a device, 1 thread: medians of 5 turns")
    assert columns.startswith("engine")
    assert " ".join(plain.split()) == "plain 1 4 100 120 (110 to 130) 1.00 24.0 %"
    assert " ".join(slots.split()) == "slots 16 4 100 220 (130 to 240) 2.00 (1.00 to 2.00) 44.0 %"
    assert len(columns) == len(plain) == len(slots)
    assert missing == "trainer is left out: it is tired"
    assert rest[1:] == [
        "outcomes with plain: 3 censored, 1 reached, after 25 of 30 steps on average",
        "roof: 500 steps/s, by this device's large matrix products and copies",
        "slots: outcomes, counts and losses of 4 examples are those of plain, bit for bit",
    ]


def test_memory_is_that_of_a_gpu() -> None:
    assert "memory" not in format_findings(findings(PLAIN))
    text = format_findings(findings(replace(PLAIN, gpu_bytes=500_000_000), replace(SLOTS, gpu_bytes=3_500_000_000)))
    assert "GPU memory" in text
    assert "3,500 MB" in text
    assert "1 thread" not in text


@pytest.mark.parametrize(
    ("roofline", "why"),
    [
        (replace(ROOFLINE, uncounted=("aten.mkldnn_rnn_layer",)), "aten.mkldnn_rnn_layer can't be counted"),
        (
            replace(ROOFLINE, flops=4_500_000),
            "slots took 240 steps/s, where large matrix products and copies allow 22",
        ),
    ],
)
def test_a_roof_that_is_none_gives_no_share(roofline: Roofline, why: str) -> None:
    found = findings(PLAIN, SLOTS, roofline=roofline)
    text, content = format_findings(found), found.as_dict()
    assert "%" not in text
    assert "of the roof " not in text.splitlines()[1]
    assert f"no share of the roof: {found.no_roof}" in text
    assert why in str(content["no_roof"])
    assert content["roof_steps_per_second"] is None
    assert [line["share_of_roof"] for line in content["engines"]] == [None, None]  # type: ignore[attr-defined]


def test_a_difference_is_told_with_engine_example_step_and_losses() -> None:
    differing = findings(PLAIN, replace(SLOTS, differing=[OFF] * 7))
    lines = format_findings(differing).splitlines()
    told = lines.index("slots: 7 of 4 examples are NOT those of plain")
    assert lines[told + 1 :] == [f"  {format_difference(OFF)}"] * 5
    assert format_difference(OFF) == "example 3, step 7: loss 0.25, expected 0.5 (censored, expected reached)"
    assert format_difference(replace(OFF, loss=None, outcome="reached")).endswith("loss no such step, expected 0.5")
    assert "plain: 1 of 4 examples are NOT those of its first turn" in format_findings(
        findings(replace(PLAIN, differing=[OFF]))
    )


def test_json_has_the_numbers_and_the_verdict() -> None:
    content = json.loads(json_text(findings(PLAIN, replace(SLOTS, differing=[OFF])).as_dict()))
    assert content["are_equal"] is False
    assert (content["roof_steps_per_second"], content["no_roof"]) == (500.0, None)
    slots = content["engines"][1]
    assert slots["steps_per_second"] == {"median": 220.0, "low": 130.0, "high": 240.0}
    assert slots["speed_ratio"] == {"median": 2.0, "low": 1.0, "high": 2.0}
    assert slots["outcomes"] == {"censored": 3, "reached": 1}
    assert slots["share_of_roof"] == 0.44
    assert slots["differences"][0]["step"] == 7
    assert findings(PLAIN, SLOTS).are_equal


def test_examples_that_end_early_are_told() -> None:
    text = format_findings(findings(candidate("plain", 9.0, steps=1, outcome="diverged")))
    assert "outcomes with plain: 3 diverged, 1 reached, after 1 of 30 steps on average\na smaller --lr" in text
    assert "with so few steps" in text
