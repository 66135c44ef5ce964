"""The main job through the command line, on real files."""

import base64
import csv
import hashlib
import itertools
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import yaml

from lightning_app.cli import main
from lightning_app.commands.run import Run
from lightning_app.errors import BadInputError
from lightning_app.store.export import COLUMNS
from lightning_app.store.tensorboard import ALL_EXAMPLES
from tests import oracle
from tests.conftest import CLASSES, SHARED, MakeModel
from tests.store.test_tensorboard import scalars

Rows = list[dict[str, str]]
OUT = Path("outputs/tiny")
MATRIX = ("--imagenet_models_csv", "models.csv", "--model_csv_name", "vit")


def rows(folder: Path = OUT) -> Rows:
    with (folder / "single_example_results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def steps(folder: Path, row: dict[str, str]) -> list[float]:
    (file,) = (folder / "step_logs").glob(f"example_{row['example_index']}_*_steps.csv")
    with file.open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [int(line["step"]) for line in lines] == list(range(1, len(lines) + 1))
    return [float(line["loss"]) for line in lines]


def cut_after(folder: Path, count: int) -> None:
    """Leaves of a study that is done what a kill would after some examples."""
    log = folder / "study.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    examples = [number for number, line in enumerate(lines) if line.startswith(b'{"kind":"example"')]
    log.write_bytes(b"".join(lines[: examples[count]]))
    table = folder / "single_example_results.csv"
    table.write_bytes(b"".join(table.read_bytes().splitlines(keepends=True)[: 1 + count]))
    for number in range(count, len(examples)):
        next((folder / "step_logs").glob(f"example_{number}_*")).unlink()
    (folder / "training_summary.json").unlink()
    (folder / "steps_vs_difficulty.png").unlink()


def without_seconds(table: Rows) -> Rows:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in table]


def agrees_with_the_oracle(
    table: Rows,
    folder: Path,
    model: str,
    root: Path,
    lr: float,
    epsilon: float,
    limit: int,
    device: str = "cpu",
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    for row in table:
        image = root / Path(row["path"]).parent.name / Path(row["path"]).name
        label = sorted(f.name for f in root.iterdir()).index(image.parent.name)
        assert int(row["label"]) == label
        assert oracle.wrong(model, image, label)
        expected = oracle.trajectory(model, image, label, lr, epsilon, limit, device, momentum, weight_decay)
        losses = expected.losses
        assert (int(row["total_steps_to_epsilon"]), row["outcome"]) == (expected.steps, expected.outcome)
        assert steps(folder, row) == losses
        assert (float(row["initial_loss"]), float(row["final_loss"])) == (losses[0], losses[-1])
        assert float(row["total_loss_sum"]) == math.fsum(losses)
        assert int(row["steps_run"]) == len(losses)
        assert int(row["predicted_before"]) == expected.predicted_before
        assert int(row["steps_to_correct"]) == expected.steps_to_correct
        assert float(row["weight_distance"]) == pytest.approx(expected.weight_distance, rel=1e-12)
        for name, threshold in {"ln2": math.log(2), "1e-1": 0.1, "1e-2": 0.01, "1e-3": 0.001}.items():
            first = next((k for k, loss in enumerate(losses, start=1) if loss <= threshold), -1)
            assert row[f"steps_to_{name}"] == (str(first) if threshold >= epsilon else "")


def test_the_study_is_the_oracles(study: list[str], tiny_model: str, photographs: Path, ranking: Path) -> None:
    assert main(study) == 0
    table = rows()
    assert list(table[0]) == list(COLUMNS)
    assert [row["example_index"] for row in table] == [str(i) for i in range(6)]
    assert {row["outcome"] for row in table} <= {"reached", "censored"}
    order = ranking.read_text().splitlines()
    assert [int(row["universal_difficulty_rank"]) for row in table] == [order.index(row["path"]) + 1 for row in table]
    assert sorted(table, key=lambda row: int(row["universal_difficulty_rank"])) == table
    drawn = sorted(order, key=lambda path: hashlib.sha256(f"42\n{path}".encode()).hexdigest())
    files = {path: photographs / Path(path).parent.name / Path(path).name for path in drawn}
    wrong = (path for path in drawn if oracle.wrong(tiny_model, files[path], CLASSES.index(files[path].parent.name)))
    assert {row["path"] for row in table} == set(itertools.islice(wrong, 6))
    agrees_with_the_oracle(table, OUT, tiny_model, photographs, 0.05, 0.1, 30)


@pytest.mark.parametrize(
    ("architecture", "model_args", "lr", "momentum", "weight_decay"),
    [
        ("test_resnet", {}, 0.01, 0.5, 0.1),
        ("test_efficientnet", {}, 0.05, 0.0, 0.0),
        ("test_vit", {"img_size": 32}, 0.05, 0.0, 0.0),
        ("test_resnet", {"drop_rate": 0.5}, 0.05, 0.0, 0.0),
    ],
)
def test_other_networks_and_sgds_other_numbers_are_the_oracles(
    study: list[str], make_model: MakeModel, photographs: Path, architecture: str, model_args: dict[str, Any],
    lr: float, momentum: float, weight_decay: float,
) -> None:  # fmt: skip
    model = make_model(architecture, "tiny", **model_args)
    flags = ["--lr", str(lr), "--momentum", str(momentum), "--weight_decay", str(weight_decay)]
    assert main([*study, "--model_name", model, "--max_examples", "3", "--max_steps_per_example", "12", *flags]) == 0
    agrees_with_the_oracle(rows(), OUT, model, photographs, lr, 0.1, 12, "cpu", momentum, weight_decay)


@pytest.mark.gpu
def test_on_a_gpu_the_study_is_the_oracles(study: list[str], tiny_model: str, photographs: Path) -> None:
    assert main([*study, "--trainer.accelerator", "gpu"]) == 0
    identity = json.loads((OUT / "run.json").read_text())["identity"]
    assert identity["device_kind"] == "cuda"
    agrees_with_the_oracle(rows(), OUT, tiny_model, photographs, 0.05, 0.1, 30, "cuda")


@pytest.mark.shared_data
@pytest.mark.slow
def test_real_photographs_are_the_oracles() -> None:
    root, model = SHARED / "images", f"local-dir:{SHARED / 'models' / 'test_resnet'}"
    paths = sorted(f"{f.parent.name}/{f.name}" for f in root.glob("*/*.jpg"))
    Path("ranking.csv").write_text(",".join(paths[i] for i in np.random.default_rng(0).permutation(len(paths))))
    argv = ["run", "--model_name", model, "--examples_csv", "ranking.csv", "--root_dir", str(root)]
    argv += ["--trainer.accelerator", "cpu", "--max_examples", "10", "--lr", "0.001", "--epsilon", "1e-2"]
    assert main([*argv, "--max_steps_per_example", "300"]) == 0
    table = rows(Path("outputs/test_resnet"))
    assert len(table) == 10
    agrees_with_the_oracle(table, Path("outputs/test_resnet"), model, root, 0.001, 1e-2, 300)


def test_the_log_the_summary_and_the_exports_say_the_same(study: list[str], tiny_model: str) -> None:
    assert main(study) == 0
    table, log = rows(), (OUT / "study.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    run = json.loads((OUT / "run.json").read_text())
    assert [line["kind"] for line in lines] == ["study", "environment", "target", "command", *["example"] * 6]
    assert lines[0]["identity"] == run["identity"]
    assert lines[2]["examples"] == [[int(row["universal_difficulty_rank"]), row["path"]] for row in table]
    assert lines[3]["config"] == (OUT / "config.yaml").read_text()
    for line, row in zip(lines[4:], table, strict=True):  # the Trainer takes one example after the other
        losses = np.frombuffer(base64.b64decode(line["losses"]), "<f4").astype(float)
        assert losses.tolist() == steps(OUT, row)
        for name in ("path", "outcome", "label", "predicted_before", "steps_to_correct", "weight_distance", "seconds"):
            assert str(line[name]) == row[name]
        assert (line["steps"], line["environment"]) == (len(losses), 1)
    summary = json.loads((OUT / "training_summary.json").read_text())
    assert summary["settings"]["model_name"] == tiny_model
    assert summary["counts"]["sampled"] == summary["counts"]["done"] == summary["statistics"]["n"] == 6
    assert [str(r["total_steps_to_epsilon"]) for r in summary["results"]] == [
        r["total_steps_to_epsilon"] for r in table
    ]
    assert summary["timing"]["steps"] == sum(int(row["steps_run"]) for row in table)
    assert summary["timing"]["store_bytes"] == len(log.encode())
    assert run["target"] == {"examples": 6, "max_steps_per_example": 30, "shard": None}
    assert (run["format"], run["trained_for"], run["environments"]) == (3, 30, [lines[1]["environment"]])
    environment = lines[1]["environment"]
    assert environment["cpu_threads"] == 1
    assert {"python", "torch", "torchvision", "timm", "lightning", "pillow", "device"} <= set(environment)
    assert {"weights_sha256", "transform", "label_rule", "optimizer", "loss", "epsilon", "seed", "select", "lightning",
            "ranking_sha256", "correctness", "device_kind", "numerics"} <= set(run["identity"])  # fmt: skip


def test_tensorboard_shows_the_step_logs_of_as_many_as_asked_for(study: list[str], ranking: Path) -> None:
    """Under names that have room for the largest rank of the ranking, whatever is drawn."""
    lines = [f"{path},{place if place < 40 else 30_000}" for place, path in enumerate(ranking.read_text().split(), 1)]
    ranking.write_text("\n".join(["path,rank", *lines]) + "\n")
    assert main([*study, "--tensorboard_examples", "2"]) == 0
    few = {run.name for run in (OUT / "tensorboard").iterdir()}
    assert main([*study, "--overwrite", "--tensorboard_examples", "-1"]) == 0
    runs = {
        f"rank_{int(row['universal_difficulty_rank']):05}_{row['outcome']}_example_{row['example_index']}": row
        for row in rows()
    }
    assert {run.name for run in (OUT / "tensorboard").iterdir()} == {ALL_EXAMPLES, *runs}
    assert len(few) == 3
    assert few < {ALL_EXAMPLES, *runs}
    every = scalars(OUT / "tensorboard" / ALL_EXAMPLES)
    for name, row in runs.items():
        index, losses = int(row["example_index"]), steps(OUT, row)
        curve = scalars(OUT / "tensorboard" / name)["step_loss/loss"]
        assert curve == {step: np.float32(loss) for step, loss in enumerate(losses, start=1)}
        assert every["study/steps"][index] == int(row["steps_run"])
        assert every["study/final_loss"][index] == np.float32(float(row["final_loss"]))
        assert every["study/outcome"][index] == {"reached": 0, "censored": 1}[row["outcome"]]


@pytest.mark.parametrize("flags", [["CSVLogger", "--trainer.logger.save_dir", "logs"], ["false"]])
def test_another_logger_takes_tensorboards_place_and_changes_no_number(study: list[str], flags: list[str]) -> None:
    assert main(study) == 0
    assert main([*study, "--output_dir", "other", "--trainer.logger", *flags]) == 0
    other = Path("other/tiny")
    assert not (other / "tensorboard").exists()
    assert without_seconds(rows()) == without_seconds(rows(other))
    assert (OUT / "run.json").read_text() == (other / "run.json").read_text()
    logged = [file.read_text().split("\n", 1)[0].split(",") for file in Path().rglob("metrics.csv")]
    curves = {f"step_loss/{run.name}/loss" for run in (OUT / "tensorboard").iterdir() if run.name != ALL_EXAMPLES}
    assert [curves <= {*names} for names in logged] == [True] * (flags != ["false"])


class Restless(L.Callback):
    """Changes the learning rate of every example but the first that it sees."""

    def __init__(self) -> None:
        self.seen = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen += 1
        for group in trainer.optimizers[0].param_groups:
            group["lr"] *= self.seen


def test_a_users_callback_starts_afresh_for_every_example(study: list[str]) -> None:
    assert main(study) == 0
    plain = without_seconds(rows())
    callback = f"{Restless.__module__}.{Restless.__qualname__}"
    assert main([*study, "--overwrite", f"--trainer.callbacks+={callback}"]) == 0
    assert without_seconds(rows()) == plain
    assert callback in (OUT / "run.json").read_text()


def test_a_callback_that_lightning_refuses_leaves_the_folder_free(
    study: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*study, "--trainer.callbacks+=lightning.pytorch.callbacks.DeviceStatsMonitor"]
    assert main(argv) == 2
    assert "DeviceStatsMonitor" in capsys.readouterr().err
    assert main(study) == 0


def test_the_log_has_a_line_an_example_and_the_screen_has_no_banner(
    study: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(study) == 0
    (file,) = OUT.glob("train_single_*.log")
    text = file.read_text()
    assert len(re.findall(r"INFO +example \d+ \(rank", text)) == 6
    assert "Ranking: 40 images" in text  # what was said before the folder was there is in the log too
    printed = capfd.readouterr()
    assert printed.out == ""
    for noise in ("GPU available", "TPU", "Tip:", "Warning", "max_epochs", "max_steps`", "example 0 ("):
        assert noise not in printed.err
    for said in ("6/6 examples", "steps/s", "Outcomes: ", f"--logdir {OUT}/tensorboard"):
        assert said in printed.err


def test_the_config_beside_the_results_runs_again(study: list[str]) -> None:
    assert main([*study, "--overwrite"]) == 0
    first = rows()
    config = yaml.safe_load((OUT / "config.yaml").read_text())
    assert config["overwrite"] is False  # running it again never moves a study aside unasked
    assert main(["run", "--config", str(OUT / "config.yaml"), "--output_dir", "again"]) == 0
    assert without_seconds(rows(Path("again/tiny"))) == without_seconds(first)
    for file in (OUT / "step_logs").iterdir():
        assert (Path("again/tiny/step_logs") / file.name).read_bytes() == file.read_bytes()
    assert (Path("again/tiny") / "steps_vs_difficulty.png").read_bytes() == (
        OUT / "steps_vs_difficulty.png"
    ).read_bytes()
    assert (Path("again/tiny") / "run.json").read_bytes() == (OUT / "run.json").read_bytes()


def test_answers_are_kept_for_next_time(study: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*study, "--dry_run"]) == 0

    def never(*args: object) -> bool:
        raise AssertionError("the model was asked again")

    monkeypatch.setattr("lightning_app.study.select.predict", never)
    assert main(study) == 0
    assert len(rows()) == 6


def test_a_dry_run_shows_the_sample_and_trains_nothing(
    study: list[str], photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*study, "--dry_run"]) == 0
    shown = re.findall(r"  rank (\d+), label (\d): (\S+)", capsys.readouterr().err)
    assert len(shown) == 5
    assert all(file.name.startswith("predictions-") for file in OUT.iterdir())
    assert main(study) == 0
    for (rank, label, image), row in zip(shown, rows(), strict=False):
        assert (rank, label) == (row["universal_difficulty_rank"], row["label"])
        assert Path(image) == photographs / CLASSES[int(label)] / Path(row["path"]).name


def test_select_by_the_matrix(
    study: list[str], ranking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted(ranking.read_text().split())  # the matrix has another order than the ranking
    right = set(paths[::4])
    np.save(tmp_path / "m.npy", np.array([[0] * 40, [path in right for path in paths], [1] * 40]))
    (tmp_path / "examples.csv").write_text(",".join(paths))
    (tmp_path / "models.csv").write_text("a,tiny_published")
    argv = [*study, "--correctness_npy", str(tmp_path / "m.npy"), "--imagenet_models_csv", str(tmp_path / "models.csv")]
    argv += ["--model_csv_name", "tiny_published", "--select", "correct", "--max_examples", "-1"]
    assert main([*argv, "--max_steps_per_example", "1"]) == 0
    assert {row["path"] for row in rows()} == right
    printed = capsys.readouterr().err
    assert "has 3 rows" in printed
    # A network with random weights is right on few.
    assert int(re.findall(r"agree on (\d+) of the sample's 10 images", printed)[0]) < 9
    assert "is row tiny_published of this model" in printed


@pytest.mark.parametrize("by_matrix", [False, True])
def test_labels_by_which_the_model_only_guesses_are_doubted(
    study: list[str], by_matrix: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under a matrix too: on wrong examples alone a wrong label agrees with the row, so some others are asked."""
    argv = [*study, "--dry_run", "--class_to_idx", "idx.json"]
    if by_matrix:
        np.save("m.npy", np.zeros((1, 40)))
        Path("m.csv").write_text("tiny")
        argv += ["--correctness_npy", "m.npy", "--imagenet_models_csv", "m.csv", "--model_csv_name", "tiny"]
    else:
        argv += ["--select", "all", "--max_examples", "40"]
    shares = []
    for shift in (1, 2):
        Path("idx.json").write_text(json.dumps({name: (i + shift) % 4 for i, name in enumerate(CLASSES)}))
        assert main([*argv, "--output_dir", f"out{shift}"]) == 0
        printed = capsys.readouterr().err
        shares.append(float(re.findall(r"asked about 40 images and gets \d+ right \(([\d.]+) %\)", printed)[0]))
        assert ("hardly better than guessing among 4 classes" in printed) == (shares[-1] < 50)
        assert "labels by class_to_idx" in printed
    assert min(shares) < 50


@pytest.mark.parametrize("when", ["before the model is asked", "after"])
def test_a_damaged_image_is_an_error_row_and_the_rest_goes_on(
    study: list[str], photographs: Path, tmp_path: Path, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(photographs, root)
    study = [*study, "--root_dir", str(root)]
    assert main([*study, "--dry_run"]) == 0  # answers are kept: what is damaged from here on was readable when asked
    victim = Path(re.findall(r"label \d: (\S+)", capsys.readouterr().err)[1])
    victim.write_bytes(victim.read_bytes()[:200])
    out = OUT if when == "after" else Path("fresh/tiny")
    assert main([*study, "--output_dir", str(out.parent)]) == 3
    printed = capsys.readouterr().err
    assert ("that can't be read" in printed) == (when != "after")
    assert "warning: 1 examples are errors" in printed
    table = rows(out)
    assert len(table) == 6
    (bad,) = (row for row in table if row["outcome"] == "error")
    assert Path(bad["path"]).name == victim.name
    assert (bad["total_steps_to_epsilon"], bad["final_loss"], bad["label"], bad["seconds"]) == ("-1", "", "", "")
    assert len(list((out / "step_logs").iterdir())) == 5
    log = next(out.glob("*.log")).read_text()
    assert re.search(rf"ERROR +example {bad['example_index']} .*{victim.name}", log)
    assert json.loads((out / "training_summary.json").read_text())["statistics"]["n"] == 5
    assert main(["status", str(out)]) == 0
    assert re.search(rf"Last error .*: example {bad['example_index']} .*{victim.name}", capsys.readouterr().out)


def test_an_unreadable_image_outside_the_sample_is_not_counted_in_it(
    study: list[str], photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(photographs, root)
    np.save("m.npy", np.zeros((1, 40)))
    Path("models.csv").write_text("tiny_published")
    argv = [*study, "--root_dir", str(root), "--correctness_npy", "m.npy", "--imagenet_models_csv", "models.csv"]
    argv += ["--model_csv_name", "tiny_published", "--max_examples", "1", "--dry_run"]
    assert main(argv) == 0
    drawn = Path(re.findall(r"label \d: (\S+)", capsys.readouterr().err)[0])
    next(file for file in root.glob("*/*.jpg") if file != drawn).write_bytes(b"")
    assert main([*argv, "--output_dir", "fresh"]) == 0
    printed = capsys.readouterr().err
    assert "an image can't be read" in printed
    assert "Sample: 1 wrong images drawn with seed 42\n" in printed


def test_what_is_odd_about_the_input_is_a_warning(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    paths = Path("ranking.csv").read_text().split()
    paths = ["/elsewhere/val/ant/77.jpg", *paths, "/elsewhere/val/ant/88.jpg"]  # which are not there
    table = ["path,label", *(f"{path},{CLASSES.index(Path(path).parent.name)}" for path in paths)]
    Path("table.csv").write_text("\n".join(table))
    argv = [*study, "--examples_csv", "table.csv", "--class_to_idx", "no.json"]
    assert main([*argv, "--max_examples", "999", "--max_steps_per_example", "1"]) == 0
    said = re.findall(r"warning: (.*)", capsys.readouterr().err)
    (missing,) = (line for line in said if "missing" in line)
    assert missing.startswith("2 image files")
    assert paths[0] in missing
    assert f"left out: {paths[-1]!r}" in next(OUT.glob("*.log")).read_text()
    assert any("--class_to_idx no.json is not used" in line and "label column" in line for line in said)
    assert any(f"--max_examples 999, but there are only {len(rows())} " in line for line in said)
    assert all(paths[int(row["universal_difficulty_rank"]) - 1] == row["path"] for row in rows())


@pytest.mark.parametrize("flags", [["--trainer.precision", "64-true"], ["--trainer.gradient_clip_val", "0.01"]])
def test_lightnings_flags_reach_the_training_and_the_identity(study: list[str], flags: list[str]) -> None:
    study += ["--max_examples", "2", "--lr", "0.001"]  # far from epsilon: thirty steps each
    assert main(study) == 0
    plain = rows()
    assert main([*study, "--output_dir", "other", *flags]) == 0
    assert [row["final_loss"] for row in rows(Path("other/tiny"))] != [row["final_loss"] for row in plain]
    identities = [json.loads((folder / "run.json").read_text())["identity"] for folder in (OUT, Path("other/tiny"))]
    assert identities[0].pop("lightning") != identities[1].pop("lightning")
    assert identities[0] == identities[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--trainer.logger", "MLFlowLogger"], "--trainer: Requirement 'mlflow"),
        (["--trainer.logger", "odd"], "--trainer.logger: odd is refused: Expected "),
        (["--trainer.logger", "CSVLogger"], "the following arguments are required: save_dir"),
        (["--trainer.precision", "odd"], "--trainer.precision: got odd, expected one of 64, 32, 16, 'transfor"),
        (["--trainer.callbacks", "Timer"], "can't be written into config.yaml"),
        (["--trainer.gradient_clip_algorithm", "odd"], "Lightning refuses its flags: "),
        (["--trainer.devices", "0"], "Lightning refuses its flags: `Trainer(devices='0')`"),
        (["--ray_address", "127.0.0.1:1"], "--ray_address 127.0.0.1:1: nothing answers there: "),
        (["--root_dir", "nowhere"], "--root_dir must be a folder, got nowhere"),
        (["--pilot_examples", "10"], "--pilot_examples is no option of run"),
    ],
)
def test_a_flag_that_can_not_be_is_refused_before_a_file_is_read(argv: list[str], message: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(message)):
        Run(["--trainer.accelerator", "cpu", *argv]).execute()
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epsilon", "0"], "--epsilon must be > 0, got 0"),
        (["--examples_csv", "no.csv"], "there is no no.csv"),
        (["--model_name", "resnet43"], "near names: "),
        (["--examples_csv", "labels.csv"], "the label of '/elsewhere/val/ant/00.jpg' is 4"),
        ([*MATRIX, "--correctness_npy", "wide.npy"], "has 41 columns"),
        ([*MATRIX, "--correctness_npy", "right.npy"], "--select wrong: the model has no such image"),
        (["--output_dir", "ranking.csv"], "ranking.csv/tiny can't be written"),
    ],
    ids=["a flag", "a file", "the model", "labels", "the matrix", "the sample", "the folder"],
)
def test_bad_input_is_one_line_and_exit_code_2_before_anything_is_written(
    study: list[str], argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever step finds it."""
    Path("labels.csv").write_text("path,label\n/elsewhere/val/ant/00.jpg,4\n")
    Path("models.csv").write_text("resnet_34,vit")
    np.save("wide.npy", np.ones((2, 41)))
    np.save("right.npy", np.ones((2, 40)))
    assert main([*study, *argv]) == 2
    printed = capsys.readouterr().err
    last = re.split(r"[\r\n]", printed.rstrip("\n"))[-1].strip()
    assert last.startswith("steps-to-epsilon run: error: ")
    assert message in last
    assert printed.count("error") == 1
    assert "Traceback" not in printed
    # Only what the model was asked may stay behind.
    assert all(file.name.startswith("predictions-") for file in Path("outputs").rglob("*.*"))
