"""`bench` from its flags to its table."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import Precision

from lightning_app.bench import bench as the_bench
from lightning_app.bench.bench import how_many_examples
from lightning_app.bench.runners import by_plain_loop
from lightning_app.cli import main
from lightning_app.engines.slots.how_many import SlotsUnavailableError
from lightning_app.errors import BadInputError
from lightning_app.settings import BenchSettings
from lightning_app.training.classifier import Classifier
from lightning_app.training.pretrained import Transform

QUICK = ("--examples", "2", "--repeats", "2", "--max_steps_per_example", "12", "--lr", "0.05", "--epsilon", "0.2",
         "--trainer.accelerator", "cpu")  # fmt: skip


@pytest.fixture(autouse=True)
def quick_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own tests measure it."""
    monkeypatch.setattr("lightning_app.bench.roofline.fastest", lambda *_: 0.01)


def bench(model: str, *more: str) -> int:
    return main(["bench", "--model_name", model, *QUICK, *more])


def test_all_engines_are_measured_and_equal(tiny_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tiny_model, "--json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [line["engine"] for line in found["engines"]] == ["plain", "trainer", "slots"]
    assert found["are_equal"] is True
    assert found["input_size"] == [3, 32, 32]
    assert found["precision"] == "32-true"
    assert found["environment"]["cpu_threads"] == 1
    assert found["settings"]["repeats"] == 2
    assert found["roofline"]["flops"] > 1e6
    assert len({line["steps"] for line in found["engines"]}) == 1
    assert 2 < found["engines"][0]["steps"] <= 24
    for line in found["engines"]:
        assert (line["slots"], line["examples"], line["compared"], line["differences"]) == (1, 2, 2, [])
        assert line["steps_per_second"]["low"] <= line["steps_per_second"]["median"]
        assert line["gpu_bytes"] is None
    assert "Engine: slots" in printed.err
    assert "busy" not in printed.err  # what an engine says of a study, at every turn


def test_the_table_and_an_order_of_ones_own(tiny_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tiny_model, "--engines", "slots, plain", "--repeats", "1") == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ["slots", "plain"]
    assert "plain: outcomes, counts and losses of 2 examples are those of slots, bit for bit" in out


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_engines_agree_in_other_precisions(tiny_model: str, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tiny_model, "--json", "--repeats", "1", "--examples", "1", "--trainer.precision", precision) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["precision"], found["are_equal"], len(found["engines"])) == (precision, True, 3)


def test_a_planted_difference_ends_with_1_and_is_named(
    tiny_model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain loop of this test takes steps that are a millionth larger; slots have passed their own check before."""

    def off(classifier: Classifier, transform: Transform, precision: Precision, device: torch.device) -> Any:
        classifier.lr *= 1 + 1e-6
        return by_plain_loop(classifier, transform, precision, device)

    monkeypatch.setattr(the_bench, "by_plain_loop", off)
    assert bench(tiny_model, "--engines", "plain,slots", "--repeats", "1") == 1
    out = capsys.readouterr().out
    assert "slots: 2 of 2 examples are NOT those of plain" in out
    assert "example 0, step 2: loss" in out


def no_slots(*_: object) -> None:
    raise SlotsUnavailableError("step 3 has another loss")


def test_slots_that_do_not_work_are_left_out(
    tiny_model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_bench, "make_slots_engine", no_slots)
    assert bench(tiny_model, "--engines", "plain,slots", "--repeats", "1", "--json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["unavailable"] == {"slots": "step 3 has another loss"}
    assert [line["engine"] for line in found["engines"]] == ["plain"]
    assert "warning: slots don't work here: step 3 has another loss" in printed.err
    assert bench(tiny_model, "--engines", "slots") == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--engines", "plain,fast"), "--engines must be some of plain, trainer, slots, each once, got plain,fast"),
        (("--engines", "plain,plain"), "--engines must be some of plain, trainer, slots, each once, got plain,plain"),
        (("--engines", ""), "--engines must be some of plain, trainer, slots, each once, got "),
        (("--examples", "0"), "--examples must be >= 1, got 0"),
        (("--repeats", "0"), "--repeats must be >= 1, got 0"),
        (("--slots", "0"), "--slots must be >= 1, got 0"),
        (("--slots", "2"), "--slots 2: there is one slot without a CUDA GPU, and this is cpu"),
        (("--slots", "2", "--engines", "plain"), "--slots 2 needs slots among --engines, got plain"),
        (("--max_steps_per_example", "0"), "--max_steps_per_example must be from 1 to"),
        (("--trainer.precision", "16-mixed"), "--trainer.precision 16-mixed needs a GPU"),
        (("--trainer.devices", "2"), "is 2 devices, and this command uses one: choose one"),
        (("--trainer.logger", "false"), "trainer.logger"),
    ],
)
def test_a_bad_flag_is_one_error(flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *QUICK, *flags]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.strip().count("\n") == 0
    assert printed.out == ""


def test_a_model_that_is_not_there_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("local-dir:nowhere") == 2
    assert "--model_name local-dir:nowhere can't be loaded" in capsys.readouterr().err


def test_many_slots_get_examples_enough_to_fill_them() -> None:
    settings = BenchSettings(examples=6)
    assert [how_many_examples(slots, settings) for slots in (1, 2, 16)] == [6, 8, 64]
    assert how_many_examples(2, BenchSettings(examples=100)) == 100


def test_nothing_is_left_in_the_folder(
    tiny_model: str, in_a_folder_of_its_own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert bench(tiny_model, "--engines", "plain", "--repeats", "1") == 0
    assert not list(temporary.iterdir())
    assert not list(in_a_folder_of_its_own.iterdir())


def test_the_environment_is_told_before_anything_is_measured(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> dict[str, object]:
        raise BadInputError("an environment that is unknown")

    monkeypatch.setattr(the_bench, "environment", unknown)
    monkeypatch.setattr(the_bench, "load_pretrained", None)
    assert bench(tiny_model) == 2


def test_memory_is_what_a_gpu_has_no_more(
    tiny_model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([1000, 300])
    monkeypatch.setattr(the_bench, "free_bytes", lambda device: next(free))
    assert bench(tiny_model, "--engines", "plain", "--repeats", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["engines"][0]["gpu_bytes"] == 700


@pytest.mark.gpu
def test_slots_of_a_gpu_are_full_and_equal(tiny_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--json", "--engines", "plain,slots,trainer", "--slots", "4", "--trainer.accelerator", "gpu")
    assert bench(tiny_model, *flags) == 0
    plain, slots, trainer = json.loads(capsys.readouterr().out)["engines"]
    assert [line["examples"] for line in (plain, slots, trainer)] == [2, 16, 2]
    assert (slots["slots"], slots["compared"], slots["differences"]) == (4, 2, [])
    assert slots["gpu_bytes"] > plain["gpu_bytes"] >= 0
    assert trainer["speed_ratio"]["median"] > 0
