"""The demo, made small, and where `make demo` was here, what it made."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from lightning_app.cli import main
from lightning_app.commands.demo import run_command
from lightning_app.demo.digits import DIGITS, SmallNetwork
from lightning_app.demo.whole_study import POOL, Recipe, format_results, run_demo
from lightning_app.errors import BadInputError
from tests import oracle
from tests.commands.test_run import agrees_with_the_oracle, cut_after, rows, without_seconds

REPOSITORY = Path(__file__).parents[2]
STUDY = Path("demo/outputs/digits_mambaout")
FLAGS = ("--max_examples", "4", "--max_steps_per_example", "12", "--lr", "0.01")
SMALL = Recipe(
    training_images=96,
    epochs=8,
    networks=(
        SmallNetwork("digits_mambaout", "test_efficientnet"),
        SmallNetwork("digits_resnet", "test_resnet"),
        SmallNetwork("digits_vit", "test_vit", {"img_size": 32}),
    ),
    run_flags=FLAGS,
)


class Said(NamedTuple):
    """What the small demo left behind when it was run once."""

    folder: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """The demo as a command, in a process of its own: pytest keeps warnings to itself."""
    folder = tmp_path_factory.mktemp("made")
    small = "import lightning_app.demo.whole_study as w, tests.commands.test_demo as t; w.Recipe = lambda: t.SMALL"
    script = f"{small}; from lightning_app.cli import main; raise SystemExit(main(['demo']))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    program = [sys.executable, "-c", script]
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Said(folder, done.stdout, done.stderr)


@pytest.fixture
def made(said: Said) -> Path:
    """The folder in which it was run."""
    return said.folder


@pytest.fixture
def copy(made: Path, in_a_folder_of_its_own: Path) -> Path:
    """The same in the test's own folder."""
    shutil.copytree(made, in_a_folder_of_its_own, dirs_exist_ok=True)
    return in_a_folder_of_its_own


def contents(folder: Path) -> dict[str, object]:
    """All that a demo made, by name, but for times."""
    found: dict[str, object] = {}
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        name = file.relative_to(folder).as_posix()
        if "/tensorboard/" in name:
            found[name] = None  # its contents hold times
        elif file.suffix == ".log":
            found[file.name[:4]] = None  # its name too
        elif file.name.startswith("predictions-"):
            found["predictions"] = file.read_bytes()  # its name holds the whole path of the images
        elif file.name == "study.jsonl":
            lines = map(json.loads, file.read_text().splitlines())
            found[name] = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
        elif file.name == "single_example_results.csv":
            found[name] = without_seconds(rows(file.parent))
        elif file.parent.name == "tables" and file.suffix == ".json":
            found[name] = {key: value for key, value in json.loads(file.read_text()).items() if key != "seconds"}
        elif file.name == "training_summary.json":
            found[name] = {key: value for key, value in json.loads(file.read_text()).items() if key != "timing"}
        else:
            found[name] = file.read_bytes()
    return found


def test_its_study_is_the_oracles(copy: Path) -> None:
    table = rows(STUDY)
    assert len(table) == 4
    agrees_with_the_oracle(table, STUDY, "local-dir:demo/models/digits_mambaout", Path("demo/images"), 0.01, 0.01, 12)


def test_the_images_are_the_digits(copy: Path) -> None:
    digits = load_digits()
    files = sorted(Path("demo").glob("*images/*/*.png"), key=lambda file: int(file.stem))
    assert len(files) == DIGITS == len(digits.target)
    assert [int(file.parent.name) for file in files] == digits.target.tolist()
    assert [file.parts[1] for file in files] == ["training_images"] * 96 + ["images"] * (DIGITS - 96)
    for number in (0, 95, 96, 1796):
        grey = np.asarray(Image.open(files[number]), dtype=np.float64)
        assert np.abs(grey * 16 / 255 - digits.images[number]).max() < 0.05


def test_the_matrix_and_the_ranking_say_who_gets_what_right(copy: Path) -> None:
    matrix = np.load(POOL / "correctness.npy")
    models = (POOL / "models.csv").read_text().strip().split(",")
    paths = (POOL / "examples.csv").read_text().splitlines()[1:]
    assert matrix.shape == (3, DIGITS - 96) == (len(models), len(paths))
    assert matrix.sum(axis=1).tolist() == sorted(matrix.sum(axis=1).tolist(), reverse=True)
    for column in range(0, len(paths), 400):
        image = Path("demo/images", paths[column])
        for row, name in enumerate(models):
            assert bool(matrix[row, column]) != oracle.wrong(
                f"local-dir:demo/models/{name}", image, int(paths[column][0])
            )
    with (POOL / "ranking.csv").open(newline="") as stream:
        ranking = {row["path"]: row for row in csv.DictReader(stream)}
    others = [row for row, name in enumerate(models) if name != "digits_mambaout"]  # not in its own ranking
    path = paths[len(paths) // 2]
    losses = [
        oracle.trajectory(
            f"local-dir:demo/models/{name}", Path("demo/images", path), int(path[0]), 0.1, 1e-9, 1
        ).losses[0]
        for name in ("digits_resnet", "digits_vit")
    ]
    assert float(ranking[path]["mean_loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
    assert [int(row["rank"]) for row in ranking.values()] == list(range(1, len(paths) + 1))
    assert {path: int(row["n_correct"]) for path, row in ranking.items()} == dict(
        zip(paths, matrix[others].sum(axis=0).tolist(), strict=True)
    )


def test_a_second_call_keeps_what_is_there(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def times() -> dict[Path, int]:
        files = [f for f in Path("demo").rglob("*") if f.is_file() and f.name not in ("demo.log", "recipe.json")]
        return {file: file.stat().st_mtime_ns for file in files}

    before = times()
    assert run_demo(SMALL, run_command) == 0
    assert times() == before
    assert "Meaning" in capsys.readouterr().out


@pytest.mark.slow
def test_what_was_interrupted_goes_on_and_ends_with_the_same_files(made: Path, copy: Path) -> None:
    cut_after(STUDY, 2)
    kept = rows(STUDY)
    shutil.rmtree(POOL)
    shutil.rmtree("demo/models/digits_vit")
    Path("demo/models/.digits_vit.unfinished").mkdir()
    Path("demo/models/.digits_vit.unfinished/model.safetensors").write_bytes(b"half")
    assert run_demo(SMALL, run_command) == 0
    assert rows(STUDY)[:2] == kept
    assert not list(Path("demo").rglob("*.unfinished"))
    first, again = contents(made), contents(Path())
    assert first == again
    assert f"{STUDY}/report.html" in again


def test_the_study_by_hand_is_the_demos(copy: Path) -> None:
    assert main(["run", "--config", "digits", *FLAGS]) == 0
    assert without_seconds(rows(Path("outputs/digits_mambaout"))) == without_seconds(rows(STUDY))


def test_the_last_words_name_what_is_there(copy: Path) -> None:
    said = format_results(STUDY)
    paths = [word.rstrip(":;") for word in said.split() if word.startswith("demo/")]
    assert len(paths) >= 4
    assert all(Path(path).exists() for path in paths)
    assert "n = 4" in said


def test_the_command_is_quiet_and_says_its_steps(said: Said) -> None:
    # The test's networks have learned so little that their labels are doubted.
    printed = "\n".join(line for line in (said.err + said.out).splitlines() if "are the labels right?" not in line)
    for noise in ("Warning", "warning", "Deprecat", "GPU available", "Tip:", "TensorFlow", "Traceback"):
        assert noise not in printed
    for step in ("1. ", "2. ", "3. ", "4. The study: steps-to-epsilon run ", "5. The report: steps-to-epsilon report "):
        assert step in said.err
    assert "1,701" in said.out  # what rank says, and then the last words
    assert "n = 4" in said.out


@pytest.mark.parametrize(
    ("name", "message"),
    [("demo", "/work/demo, and that failed"), ("demo/images/cats", "/work/demo.* is of something else"),
     ("demo/recipe.json", "/work/demo was made by another version")],
)  # fmt: skip
def test_what_is_in_the_way_is_left_alone(name: str, message: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("mine")
    before = sorted(Path().rglob("*"))
    with pytest.raises(BadInputError, match=message):
        run_demo(SMALL, run_command)
    assert sorted(Path().rglob("*")) == before
    assert Path(name).read_text() == "mine"


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["--epochs", "3"], "--epochs is no option of demo"),
     (["more"], "unrecognized arguments: more; steps-to-epsilon demo --help")],
)  # fmt: skip
def test_it_has_no_options(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *argv]) == 2
    assert message in capsys.readouterr().err
    assert not Path("demo").exists()


MADE_HERE = REPOSITORY / STUDY


@pytest.mark.skipif(not (MADE_HERE / "training_summary.json").is_file(), reason="make demo has not been here")
def test_the_whole_demo_has_enough_wrong_examples_whose_counts_spread_and_is_the_oracles() -> None:
    table = rows(MADE_HERE)
    reached = [int(row["total_steps_to_epsilon"]) for row in table if row["outcome"] == "reached"]
    assert len(table) >= 40
    assert len(reached) >= 0.9 * len(table)
    assert min(reached) <= 5
    assert max(reached) >= 150
    model = f"local-dir:{REPOSITORY}/demo/models/digits_mambaout"
    agrees_with_the_oracle(table[::25], MADE_HERE, model, REPOSITORY / "demo/images", 0.0003, 0.01, 250)
