"""`plan`: a pilot that `run` keeps, and what it says."""

import json
import re
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lightning_app.cli import main
from lightning_app.store.study_folder import StudyFolder
from tests.commands.test_run import rows, without_seconds

FOLDER = Path("outputs/tiny")


@pytest.fixture
def flags(study: list[str]) -> list[str]:
    """A study of 16 of the wrong examples, of which the first 10 of the draw are the pilot."""
    flags = [word for word in study[1:] if word != "run"]
    flags[flags.index("--max_examples") + 1] = "16"
    return flags


def plan(flags: list[str], *more: str) -> int:
    return main(["plan", *flags, "--pilot_examples", "10", *more])


def test_the_study_keeps_the_pilot_and_ends_as_without_one(flags: list[str]) -> None:
    assert plan(flags) == 0
    pilot = {row["path"]: row for row in rows(FOLDER)}
    assert len(pilot) == 10
    assert main(["run", *flags]) == 0
    table = rows(FOLDER)
    assert len(table) == 16
    kept = [row for row in table if row["path"] in pilot]
    assert [row["seconds"] for row in kept] == [pilot[row["path"]]["seconds"] for row in kept]
    assert main(["run", *flags, "--output_dir", "fresh"]) == 0
    assert without_seconds(rows(Path("fresh/tiny"))) == without_seconds(table)


def test_the_forecast_is_on_the_screen_and_in_a_file(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(flags) == 0
    err = capsys.readouterr().err
    found = json.loads((FOLDER / "plan.json").read_text())
    table = rows(FOLDER)
    assert found["pilot_examples"] == 10
    assert found["left"] == 6
    assert list(found["thresholds"]) == ["ln2", "epsilon"]
    share = sum(row["outcome"] == "reached" for row in table) / 10
    assert found["thresholds"]["epsilon"]["share"]["value"] == share
    assert found["pilot_seconds"] == pytest.approx(sum(float(row["seconds"]) for row in table))
    sizes = [f.stat().st_size for f in (FOLDER / "step_logs").iterdir()]
    sizes += [len(line) for line in (FOLDER / "study.jsonl").read_bytes().splitlines(keepends=True)[-10:]]
    assert found["step_log_bytes"]["value"] == pytest.approx(6 / 10 * sum(sizes), rel=1e-6)
    assert found["samples"][-1]["examples"] == 16
    for words in ("Forecast for 6 more examples", "Recommended: ", f"{FOLDER}/plan.json"):
        assert words in err
    assert "Recommended: " in next(FOLDER.glob("plan_*.log")).read_text()
    assert "Outcomes:" not in err  # the summary of a study that is not one


def test_a_study_that_would_be_mostly_censored_is_said_first(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan([*flags, "--epsilon", "1e-6"]) == 0
    assert re.search(r"warning: .* 100 % .* censored or diverge\nForecast for 6", capsys.readouterr().err)


def test_a_second_plan_trains_nothing_and_says_the_same(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def forecast() -> str:
        err = capsys.readouterr().err
        return err[err.index("Forecast for") :]

    assert plan(flags) == 0
    first, table = forecast(), (FOLDER / "single_example_results.csv").read_bytes()
    assert plan(flags) == 0
    second = forecast()
    assert (FOLDER / "single_example_results.csv").read_bytes() == table
    assert [line for line in second.splitlines() if "asking" not in line and " s" not in line] == [
        line for line in first.splitlines() if "asking" not in line and " s" not in line
    ]


def test_config_is_the_studys(flags: list[str]) -> None:
    assert plan(flags) == 0
    config = yaml.safe_load((FOLDER / "config.yaml").read_text())
    assert config["max_examples"] == 16
    assert config["max_steps_per_example"] == 30
    assert not {"pilot_examples", "pilot_minutes"} & set(config)
    assert main(["run", "--config", str(FOLDER / "config.yaml")]) == 0
    assert len(rows(FOLDER)) == 16


def test_a_slow_pilot_gets_fewer_steps_and_the_study_trains_it_on(
    flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_app.study.plan.steps_a_second", lambda *ignored: 0.25)
    monkeypatch.setattr("lightning_app.study.plan.MIN_STEPS", 5)
    long = [*flags, "--epsilon", "1e-9", "--max_steps_per_example", "1000000"]
    assert plan(long) == 0  # 80 % of ten minutes, one for each example
    found = json.loads((FOLDER / "plan.json").read_text())
    assert (found["pilot_steps"], found["max_steps_per_example"], found["pilot_examples"]) == (12, 1_000_000, 10)
    assert {row["steps_run"] for row in rows(FOLDER)} == {"12"}
    assert main(["run", *long, "--max_steps_per_example", "13", "--max_examples", "2"]) == 0
    assert Counter(row["steps_run"] for row in rows(FOLDER)) == {"12": 8, "13": 2}


def test_a_pilot_whose_time_runs_out_forecasts_from_what_is_there(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(flags, "--pilot_minutes", "1e-6") == 1
    err = capsys.readouterr().err
    assert "--pilot_minutes 1e-06 are over: 1 of the pilot's 10 examples are trained" in err
    assert "No forecast" in err
    assert len(rows(FOLDER)) == 1
    monkeypatch.setattr("lightning_app.study.plan.steps_a_second", lambda *ignored: 1000.0)
    assert plan(flags, "--pilot_minutes", "1e-6") == 0
    err = capsys.readouterr().err
    assert "Forecast for 14 more examples from the curves of 2" in err  # 8 of the pilot among them
    assert "a forecast from 2 examples says little" in err


def test_stopped_in_the_middle_it_keeps_a_random_part(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = StudyFolder.commit
    order: list[str] = []

    def then_stop(self: StudyFolder, result: Any) -> Any:
        order.append(result.example.path)
        if len(order) == 3:
            signal.raise_signal(signal.SIGTERM)
        return commit(self, result)

    monkeypatch.setattr(StudyFolder, "commit", then_stop)
    assert plan(flags) == 143
    assert "stopped by SIGTERM" in capsys.readouterr().err
    assert {row["path"] for row in rows(FOLDER)} == set(order)
    assert not (FOLDER / "plan.json").exists()
    assert plan(flags) == 0
    assert len(order) == 10
    assert main(["run", *flags, "--max_examples", "3", "--output_dir", "three"]) == 0
    assert {row["path"] for row in rows(Path("three/tiny"))} == set(order[:3])  # the first of the draw


def test_an_image_that_cannot_be_read_is_an_error_both_times(flags: list[str], photographs: Path) -> None:
    images = Path(shutil.copytree(photographs, "images"))
    flags[flags.index("--root_dir") + 1] = str(images)
    assert plan(flags) == 0
    unread = rows(FOLDER)[0]["path"].split("/")[-2:]
    images.joinpath(*unread).write_bytes(b"no image")
    for _ in range(2):
        assert plan(flags, "--output_dir", "other") == 3
        assert sum(row["outcome"] == "error" for row in rows(Path("other/tiny"))) == 1
    assert json.loads(Path("other/tiny/plan.json").read_text())["pilot_examples"] == 9


def test_a_study_that_is_done_keeps_its_summary_and_its_goal(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *flags]) == 0
    before = {name: (FOLDER / name).read_bytes() for name in ("study.jsonl", "training_summary.json", "run.json")}
    capsys.readouterr()
    assert plan(flags, "--max_steps_per_example", "3000", "--epsilon", "0.1") == 0
    assert {name: (FOLDER / name).read_bytes() for name in before} == before
    assert main(["run", *flags]) == 0
    assert plan(flags) == 0
    assert "Forecast for 0 more examples" in capsys.readouterr().err


def test_with_a_matrix_it_is_known_how_many_there_are(flags: list[str], ranking: Path) -> None:
    paths = ranking.read_text().split()
    np.save("m.npy", np.array([[i % 4 == 0 for i in range(len(paths))]]))
    Path("m.csv").write_text("tiny")
    flags[flags.index("--max_examples") + 1] = "-1"
    assert plan(flags, "--correctness_npy", "m.npy", "--imagenet_models_csv", "m.csv") == 0
    found = json.loads((FOLDER / "plan.json").read_text())
    assert (found["available"], found["left"]) == (30, 20)


def test_a_dry_run_trains_nothing(flags: list[str]) -> None:
    assert plan(flags, "--dry_run") == 0
    assert all(file.name.startswith("predictions-") for file in FOLDER.iterdir())
