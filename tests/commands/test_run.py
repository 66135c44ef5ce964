"""The main job through the command line, on real files."""

import base64
import csv
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
from lightning_app.store.export import COLUMNS
from lightning_app.store.tensorboard import ALL_EXAMPLES
from tests import oracle
from tests.conftest import CLASSES, SHARED, MakeModel
from tests.store.test_tensorboard import scalars

Rows = list[dict[str, str]]
OUT = Path("outputs/tiny")


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
    agrees_with_the_oracle(table, OUT, tiny_model, photographs, 0.05, 0.1, 30)


def test_momentum_and_weight_decay_are_sgds(study: list[str], tiny_model: str, photographs: Path) -> None:
    assert main([*study, "--lr", "0.01", "--momentum", "0.5", "--weight_decay", "0.1"]) == 0
    agrees_with_the_oracle(rows(), OUT, tiny_model, photographs, 0.01, 0.1, 30, momentum=0.5, weight_decay=0.1)


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


@pytest.mark.parametrize(
    ("architecture", "model_args"),
    [("test_efficientnet", {}), ("test_vit", {"img_size": 32}), ("test_resnet", {"drop_rate": 0.5})],
)
def test_other_networks_are_the_oracles(
    study: list[str], make_model: MakeModel, photographs: Path, architecture: str, model_args: dict[str, Any]
) -> None:
    model = make_model(architecture, "tiny", **model_args)
    assert main([*study, "--model_name", model, "--max_examples", "3", "--max_steps_per_example", "12"]) == 0
    agrees_with_the_oracle(rows(), OUT, model, photographs, 0.05, 0.1, 12)


def test_every_file_of_the_contract_is_there(study: list[str], tiny_model: str) -> None:
    assert main(study) == 0
    names = {re.sub(r"\d{8}-\d{6}", "TIME", f.name) for f in OUT.iterdir() if not f.name.startswith("predictions-")}
    assert names == {
        "study.jsonl", "single_example_results.csv", "step_logs", "steps_vs_difficulty.png", "training_summary.json",
        "train_single_TIME.log", "run.json", "config.yaml", "tensorboard",
    }  # fmt: skip
    summary = json.loads((OUT / "training_summary.json").read_text())
    table = rows()
    assert summary["settings"]["model_name"] == tiny_model
    assert summary["counts"]["sampled"] == summary["counts"]["done"] == 6
    assert [r["total_steps_to_epsilon"] for r in summary["results"]] == [
        int(r["total_steps_to_epsilon"]) for r in table
    ]
    assert summary["statistics"]["thresholds"]["epsilon"]["n"] == 6
    assert summary["timing"]["steps"] == sum(int(row["steps_run"]) for row in table)
    assert summary["timing"]["store_bytes"] == (OUT / "study.jsonl").stat().st_size
    assert {"torch", "timm", "lightning", "python"} <= set(summary["versions"])
    fingerprint = json.loads((OUT / "run.json").read_text())
    (environment,) = fingerprint["environments"]
    assert {"python", "torch", "torchvision", "timm", "lightning", "pillow", "device"} <= set(environment)
    assert environment["cpu_threads"] == 1
    assert fingerprint["target"] == {"examples": 6, "max_steps_per_example": 30, "shard": None}
    assert (fingerprint["format"], fingerprint["trained_for"]) == (3, 30)
    identity = fingerprint["identity"]
    assert {"weights_sha256", "transform", "label_rule", "optimizer", "loss", "epsilon", "seed", "select"} <= set(
        identity
    )
    assert {"ranking_sha256", "correctness", "device_kind", "numerics", "lightning"} <= set(identity)


def test_the_log_holds_all_that_the_table_and_the_step_logs_say(study: list[str]) -> None:
    assert main(study) == 0
    lines = [json.loads(line) for line in (OUT / "study.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["study", "environment", "target", "command", *["example"] * 6]
    assert lines[0]["identity"] == json.loads((OUT / "run.json").read_text())["identity"]
    assert lines[3]["config"] == (OUT / "config.yaml").read_text()
    table = rows()
    assert lines[2]["examples"] == [[int(row["universal_difficulty_rank"]), row["path"]] for row in table]
    for line, row in zip(lines[4:], table, strict=True):  # the Trainer takes one example after the other
        losses = np.frombuffer(base64.b64decode(line["losses"]), "<f4").astype(float)
        assert losses.tolist() == steps(OUT, row)
        for name in ("path", "outcome", "label", "predicted_before", "steps_to_correct", "weight_distance", "seconds"):
            assert str(line[name]) == row[name]
        assert (line["steps"], line["environment"]) == (len(losses), 1)


def curves(folder: Path = OUT) -> set[str]:
    return {run.name for run in (folder / "tensorboard").iterdir()} - {ALL_EXAMPLES}


def test_tensorboard_shows_the_step_logs_of_a_seeded_sample(
    study: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names: list[set[str]] = []
    for count in ("4", "2", "0", "-1"):
        assert main([*study, "--overwrite", "--tensorboard_examples", count]) == 0
        names.append(curves())
    assert [len(some) for some in names] == [4, 2, 0, 6]
    assert names[1] < names[0] < names[3]
    assert "Loss curves of 2 examples: tensorboard --logdir outputs/tiny/tensorboard" in capsys.readouterr().err
    every = scalars(OUT / "tensorboard" / ALL_EXAMPLES)
    for row in rows():
        index, losses = int(row["example_index"]), steps(OUT, row)
        name = f"rank_{int(row['universal_difficulty_rank']):02}_{row['outcome']}_example_{index}"
        curve = scalars(OUT / "tensorboard" / name)["step_loss/loss"]
        assert list(curve) == list(range(1, len(losses) + 1))
        assert list(curve.values()) == [np.float32(loss) for loss in losses]
        assert every["study/steps"][index] == int(row["steps_run"])
        assert every["study/final_loss"][index] == np.float32(float(row["final_loss"]))
        assert every["study/outcome"][index] == {"reached": 0, "censored": 1}[row["outcome"]]


def test_a_curves_name_has_room_for_the_largest_rank_of_the_table(study: list[str], ranking: Path) -> None:
    lines = [f"{path},{place if place < 40 else 30_000}" for place, path in enumerate(ranking.read_text().split(), 1)]
    ranking.write_text("\n".join(["path,rank", *lines]) + "\n")
    assert main([*study, "--max_examples", "3"]) == 0
    expected = {f"rank_{int(row['universal_difficulty_rank']):05}" for row in rows()}
    assert {name.rpartition("_")[0].rpartition("_")[0].rpartition("_")[0] for name in curves()} == expected


def test_another_logger_takes_tensorboards_place_and_changes_no_number(study: list[str]) -> None:
    assert main(study) == 0
    (OUT / "tensorboard").rename("tensorboard")
    flags = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs"]
    assert main([*study, "--output_dir", "other", *flags]) == 0
    assert not Path("other/tiny/tensorboard").exists()
    (file,) = Path("logs").rglob("metrics.csv")
    with file.open(newline="") as stream:
        logged = list(csv.DictReader(stream))
    for run in set(Path("tensorboard").iterdir()) - {Path("tensorboard") / ALL_EXAMPLES}:
        tag = f"step_loss/{run.name}/loss"
        theirs = {int(row["step"]): np.float32(float(row[tag])) for row in logged if row[tag]}
        assert theirs == scalars(run)["step_loss/loss"]
    assert main([*study, "--output_dir", "none", "--trainer.logger", "false"]) == 0
    assert not Path("none/tiny/tensorboard").exists()
    assert (
        without_seconds(rows()) == without_seconds(rows(Path("other/tiny"))) == without_seconds(rows(Path("none/tiny")))
    )
    identities = [json.loads((Path(f) / "tiny/run.json").read_text())["identity"] for f in ("outputs", "other", "none")]
    assert identities[0] == identities[1] == identities[2]


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
    assert "error: Lightning refuses its flags: Cannot use `DeviceStatsMonitor`" in capsys.readouterr().err
    assert main(study) == 0


def test_the_log_has_a_line_an_example_and_the_screen_has_no_banner(
    study: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(study) == 0
    (file,) = OUT.glob("train_single_*.log")
    text = file.read_text()
    assert len(re.findall(r"INFO +example \d+ \(rank", text)) == 6
    assert "Ranking: 40 images" in text  # what was said before the folder was there is in the log too
    assert "labels by class folders in natural order" in text
    printed = capfd.readouterr()
    assert printed.out == ""
    for noise in ("GPU available", "TPU", "Tip:", "Warning", "max_epochs", "max_steps`", "example 0 ("):
        assert noise not in printed.err
    assert "6/6 examples" in printed.err
    assert "steps/s" in printed.err
    assert "Outcomes: " in printed.err
    assert "Everything is in outputs/tiny" in printed.err


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


def test_an_examples_numbers_do_not_depend_on_its_company(study: list[str]) -> None:
    """Alone, first, last, or after others: the same row but for its index."""

    def by_path(folder: str, *more: str) -> dict[str, dict[str, str]]:
        assert main([*study, *more, "--output_dir", folder]) == 0
        return {row["path"]: {**row, "example_index": "", "seconds": "", "universal_difficulty_rank": ""}
                for row in rows(Path(folder) / "tiny")}  # fmt: skip

    small, large = by_path("a", "--max_examples", "2"), by_path("b", "--max_examples", "12")
    backwards = Path("backwards.csv")
    backwards.write_text("\n".join(reversed(Path("ranking.csv").read_text().split())))
    reversed_order = by_path("c", "--examples_csv", str(backwards), "--max_examples", "12")
    assert len(large) == 12
    assert small.items() <= large.items()
    assert reversed_order == large
    assert list(reversed_order) == list(reversed(large))


def test_a_sample_begins_every_larger_one_whatever_is_missing_or_reversed(
    study: list[str], photographs: Path, tmp_path: Path
) -> None:
    def sample(*more: str) -> set[str]:
        assert main([*study, "--max_steps_per_example", "1", "--overwrite", *more]) == 0
        return {row["path"] for row in rows()}

    five, ten = sample("--max_examples", "5"), sample("--max_examples", "10")
    assert five < ten
    Path("backwards.csv").write_text(",".join(reversed(Path("ranking.csv").read_text().split())))
    assert sample("--max_examples", "5", "--examples_csv", "backwards.csv") == five
    some = tmp_path / "some"
    shutil.copytree(photographs, some)
    gone = sorted(five)[0]
    (some / Path(gone).parent.name / Path(gone).name).unlink()
    assert sample("--max_examples", "4", "--root_dir", str(some)) == five - {gone}
    assert sample("--max_examples", "9", "--root_dir", str(some)) == ten - {gone}


def test_answers_are_kept_for_next_time(study: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_app.study import select as choosing

    assert main([*study, "--dry_run"]) == 0
    assert not (OUT / "single_example_results.csv").exists()

    def never(*args: object) -> bool:
        raise AssertionError("the model was asked again")

    monkeypatch.setattr(choosing, "ask", never)
    assert main(study) == 0
    assert len(rows()) == 6
    assert main([*study, "--overwrite"]) == 0


def test_a_dry_run_shows_the_sample_and_trains_nothing(
    study: list[str], photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*study, "--dry_run"]) == 0
    printed = capsys.readouterr().err
    shown = re.findall(r"  rank (\d+), label (\d): (\S+)", printed)
    assert len(shown) == 5
    assert "and 1 more" in printed
    assert main(study) == 0
    for (rank, label, image), row in zip(shown, rows(), strict=False):
        assert (rank, label) == (row["universal_difficulty_rank"], row["label"])
        assert Path(image) == photographs / CLASSES[int(label)] / Path(row["path"]).name
    log = "".join(f.read_text() for f in OUT.glob("*.log"))
    assert "Dry run" not in log


@pytest.mark.parametrize("select", ["wrong", "correct", "all"])
def test_select_by_the_matrix(
    study: list[str], ranking: Path, select: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted(ranking.read_text().split())  # the matrix has another order than the ranking
    right = {path for i, path in enumerate(paths) if i % 4 == 0}
    np.save(tmp_path / "m.npy", np.array([[0] * 40, [path in right for path in paths], [1] * 40]))
    (tmp_path / "examples.csv").write_text(",".join(paths))
    (tmp_path / "models.csv").write_text("a,tiny_published")
    argv = [*study, "--correctness_npy", str(tmp_path / "m.npy"), "--imagenet_models_csv", str(tmp_path / "models.csv")]
    argv += ["--model_csv_name", "tiny_published", "--select", select, "--max_examples", "-1"]
    assert main([*argv, "--max_steps_per_example", "1"]) == 0
    expected = {"wrong": set(paths) - right, "correct": right, "all": set(paths)}[select]
    assert {row["path"] for row in rows()} == expected
    printed = capsys.readouterr().err
    assert "has 3 rows" in printed
    assert re.search(r"agree on \d+ of the sample's \d+ images", printed)
    if select == "correct":  # a network with random weights is right on few
        assert "is row tiny_published of this model" in printed


def test_a_network_that_does_no_better_than_guessing_is_doubted(
    study: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("idx.json").write_text(json.dumps({name: (i + 1) % 4 for i, name in enumerate(CLASSES)}))
    assert main([*study, "--class_to_idx", "idx.json", "--dry_run", "--select", "all", "--max_examples", "40"]) == 0
    printed = capsys.readouterr().err
    share = float(re.findall(r"right \(([\d.]+) %\)", printed)[0])
    assert ("hardly better than guessing among 4 classes" in printed) == (share < 50)
    assert "labels by class_to_idx" in printed


def test_a_mapping_that_is_not_used_is_a_warning(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    paths = Path("ranking.csv").read_text().split()
    table = ["path,label", *(f"{path},{CLASSES.index(Path(path).parent.name)}" for path in paths)]
    Path("table.csv").write_text("\n".join(table))
    assert main([*study, "--examples_csv", "table.csv", "--class_to_idx", "no.json", "--dry_run"]) == 0
    warning = "warning: --class_to_idx no.json is not used: labels are by the ranking's label column"
    assert warning in capsys.readouterr().err


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
    if when != "after":
        study += ["--output_dir", "fresh"]
    assert main(study) == 3
    out = OUT if when == "after" else Path("fresh/tiny")
    assert ("that can't be read" in capsys.readouterr().err) == (when != "after")
    table = rows(out)
    assert len(table) == 6
    (bad,) = (row for row in table if row["outcome"] == "error")
    assert Path(bad["path"]).name == victim.name
    assert (bad["total_steps_to_epsilon"], bad["final_loss"], bad["label"], bad["seconds"]) == ("-1", "", "", "")
    assert len(list((out / "step_logs").iterdir())) == 5
    log = next(out.glob("*.log")).read_text()
    assert re.search(rf"ERROR +example {bad['example_index']} .*{victim.name}", log)
    assert json.loads((out / "training_summary.json").read_text())["statistics"]["n"] == 5


def test_under_a_matrix_labels_are_doubted_too(
    study: list[str], make_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """On wrong examples alone a wrong label agrees with the row: some others are asked as well."""
    np.save("m.npy", np.zeros((1, 40)))
    Path("models.csv").write_text("tiny_published")
    argv = [*study, "--correctness_npy", "m.npy", "--imagenet_models_csv", "models.csv", "--dry_run"]
    argv += ["--model_csv_name", "tiny_published", "--class_to_idx", "idx.json"]
    shares = []
    for shift in range(4):
        Path("idx.json").write_text(json.dumps({name: (i + shift) % 4 for i, name in enumerate(CLASSES)}))
        assert main([*argv, "--output_dir", f"out{shift}"]) == 0
        printed = capsys.readouterr().err
        shares.append(float(re.findall(r"asked about 40 images and gets \d+ right \(([\d.]+) %\)", printed)[0]))
        assert ("hardly better than guessing among 4 classes" in printed) == (shares[-1] < 50)
    assert min(shares) < 50


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


def test_diverging_is_an_outcome(study: list[str]) -> None:
    assert main([*study, "--lr", "1e20", "--max_examples", "3"]) == 0
    table = rows()
    assert {row["outcome"] for row in table} == {"diverged"}
    assert {row["weight_distance"] for row in table} == {"nan"}
    summary = json.loads((OUT / "training_summary.json").read_text())
    assert summary["results"][0]["weight_distance"] is None


def test_the_seeds_epsilon_is_censored_and_says_what_to_change(
    study: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*study, "--epsilon", "1e-6"]) == 0
    assert {row["total_steps_to_epsilon"] for row in rows()} == {"-1"}
    printed = capsys.readouterr().err
    assert "Most examples (6 of 6) did not reach a loss of 1e-06 in 30 steps" in printed


def test_fewer_wrong_ones_than_asked_for_is_a_warning(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*study, "--max_examples", "999", "--dry_run"]) == 0
    assert "warning: --max_examples 999, but there are only" in capsys.readouterr().err


def test_missing_files_are_counted_and_named(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("ranking.csv")
    file.write_text("/elsewhere/val/ant/77.jpg\n" + file.read_text() + "/elsewhere/val/ant/88.jpg\n")
    assert main(study) == 0
    assert (
        "warning: 2 image files are missing and left out, for example '/elsewhere/val/ant/77.jpg'"
        in capsys.readouterr().err
    )
    log = next(OUT.glob("*.log")).read_text()
    assert "left out: '/elsewhere/val/ant/88.jpg'" in log
    order = file.read_text().splitlines()
    assert all(order[int(row["universal_difficulty_rank"]) - 1] == row["path"] for row in rows())


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


def bad(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    """Bad input by name: what is added to a good command line, and what the error says."""
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "twice.csv").write_text("a,b,a")
    (tmp_path / "labels.csv").write_text("path,label\n/elsewhere/val/ant/00.jpg,4\n")
    (tmp_path / "models.csv").write_text("resnet_34,vit")
    (tmp_path / "five").mkdir()
    (tmp_path / "matrix.npy").write_bytes(b"\x80\x04N.")
    np.save(tmp_path / "twos.npy", np.full((2, 40), 2))
    np.save(tmp_path / "wide.npy", np.ones((2, 41)))
    np.save(tmp_path / "right.npy", np.ones((2, 40)))
    matrix = ["--imagenet_models_csv", str(tmp_path / "models.csv"), "--model_csv_name", "vit", "--correctness_npy"]
    return {
        "no ranking": (["--examples_csv", "no.csv"], "there is no no.csv"),
        "empty ranking": (["--examples_csv", str(tmp_path / "empty.csv")], "holds no path"),
        "duplicates": (["--examples_csv", str(tmp_path / "twice.csv")], "holds 'a' twice"),
        "no image": (["--root_dir", str(tmp_path / "five")], "none of the ranking's 40 images is below it"),
        "no root": (["--root_dir", "nowhere"], "--root_dir must be a folder, got nowhere"),
        "unknown model": (["--model_name", "resnet43"], "near names: "),
        "no weights": (["--model_name", f"local-dir:{tmp_path}"], "can't be loaded"),
        "unknown row": ([*matrix[:2], "--model_csv_name", "resnet34"], "near names: resnet_34"),
        "pickled matrix": ([*matrix, str(tmp_path / "matrix.npy")], "not a NumPy array"),
        "values": ([*matrix, str(tmp_path / "twos.npy")], "every value must be 0"),
        "shape": ([*matrix, str(tmp_path / "wide.npy")], "has 41 columns"),
        "no wrong one": ([*matrix, str(tmp_path / "right.npy")], "--select wrong: the model has no such image"),
        "label": (["--examples_csv", str(tmp_path / "labels.csv")], "the label of '/elsewhere/val/ant/00.jpg' is 4"),
        "epsilon": (["--epsilon", "0"], "--epsilon must be > 0, got 0"),
        "nan": (["--epsilon", ".nan"], "--epsilon must be > 0, got nan"),
        "lr": (["--lr", "-1"], "--lr must be > 0, got -1"),
        "steps": (["--max_steps_per_example", "0"], "--max_steps_per_example must be from 1 to 50,000,000, got 0"),
        "curves": (["--tensorboard_examples", "-2"], "--tensorboard_examples must be >= 0, or -1 for all, got -2"),
        "logger": (["--trainer.logger", "MLFlowLogger"], "--trainer: Requirement 'mlflow"),
        "no such logger": (["--trainer.logger", "odd"], "--trainer.logger: odd is refused: Expected "),
        "half a logger": (
            ["--trainer.logger", "CSVLogger"],
            "the following arguments are required: save_dir",
        ),
        "precision": (
            ["--trainer.precision", "odd"],
            "--trainer.precision: got odd, expected one of 64, 32, 16, 'transfor",
        ),
        "examples": (["--max_examples", "0"], "--max_examples must be >= 1, or -1 for all, got 0"),
        "callback": (["--trainer.callbacks", "Timer"], "can't be written into config.yaml"),
        "clipping": (["--trainer.gradient_clip_algorithm", "odd"], "Lightning refuses its flags: "),
        "second gpu": (["--trainer.devices", "1,"], "this machine has: cpu"),
        "devices": (["--trainer.devices", "0"], "Lightning refuses its flags: `Trainer(devices='0')`"),
        "devices here and a cluster": (
            ["--trainer.devices", "2", "--ray_address", "auto"],
            "--trainer.devices 2 is of this machine; with --ray_address --workers says how many",
        ),
        "cluster": (["--ray_address", "127.0.0.1:1"], "--ray_address 127.0.0.1:1: nothing answers there: "),
        "address": (
            ["--ray_address", "here"],
            "--ray_address must be auto, or HOST:PORT of a cluster's head, got here",
        ),
        "workers": (
            ["--workers", "2"],
            "--workers 2 is of a cluster and needs --ray_address; on this machine --trainer",
        ),
        "no workers": (["--workers", "0", "--ray_address", "auto"], "--workers must be >= 1, got 0"),
        "retries": (["--max_retries", "-1"], "--max_retries must be >= 0, got -1"),
        "shard": (["--shard", "4/3"], "--shard must be I/N with I from 1 to N, such as 3/16, got 4/3"),
        "no shard": (["--shard", "0/3"], "--shard must be I/N with I from 1 to N, such as 3/16, got 0/3"),
        "output": (["--output_dir", "ranking.csv"], "ranking.csv/tiny can't be written"),
    }


BAD = [
    "no ranking", "empty ranking", "duplicates", "no image", "no root", "unknown model", "no weights", "unknown row",
    "pickled matrix", "values", "shape", "no wrong one", "label", "epsilon", "nan", "lr", "steps", "curves", "logger",
    "no such logger", "half a logger", "precision", "examples", "callback", "clipping", "second gpu", "devices",
    "devices here and a cluster", "cluster", "address", "workers", "no workers", "retries", "shard", "no shard",
    "output",
]  # fmt: skip


def test_every_bad_input_is_tried(tmp_path: Path) -> None:
    assert set(bad(tmp_path)) == set(BAD)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2_before_anything_is_written(
    study: list[str], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, message = bad(tmp_path)[name]
    assert main([*study, *argv]) == 2
    printed = capsys.readouterr().err
    last = re.split(r"[\r\n]", printed.rstrip("\n"))[-1].strip()
    assert last.startswith("steps-to-epsilon run: error: ")
    assert message in last
    assert printed.count("error") == 1
    assert "Traceback" not in printed
    # Only what the model was asked may stay behind.
    assert all(file.name.startswith("predictions-") for file in Path("outputs").rglob("*.*"))


def test_folders_that_do_not_fit_the_classes(
    study: list[str], photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photographs / "ant", tmp_path / "val" / "ant")
    assert main([*study, "--root_dir", str(tmp_path / "val")]) == 2
    assert "has 1 class folders, but the model has 4 classes" in capsys.readouterr().err
