"""`evaluate`, and what follows from it: rank and run on what it wrote."""

import csv
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from lightning_app.cli import main
from lightning_app.commands.evaluate import Evaluate
from lightning_app.data.ranking import read_ranking
from lightning_app.pool.evaluate import named_models
from lightning_app.training.pretrained import load_pretrained
from tests import oracle
from tests.commands.test_run import rows
from tests.conftest import CLASSES, SHARED, MakeModel

OUT = Path("pool")
ON_THE_CPU = ("--trainer.accelerator", "cpu")


@pytest.fixture(scope="session")
def models(make_model: MakeModel) -> list[str]:
    """Three that are told apart: other architectures, other random weights."""
    return [make_model(name, f"{name}_4") for name in ("test_resnet", "test_efficientnet", "test_byobnet")]


@pytest.fixture
def images(photographs: Path) -> Path:
    """The photographs, the test's own."""
    return Path(shutil.copytree(photographs, "images"))


def evaluate(models: list[str], images: Path, *more: str) -> int:
    argv = ["--models", ",".join(models), "--root_dir", str(images), "--output_dir", "pool", *ON_THE_CPU, *more]
    return main(["evaluate", *argv])


def table(name: str) -> list[dict[str, str]]:
    with (OUT / "tables" / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def contents() -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in OUT.rglob("*") if f.suffix in (".csv", ".npy")}


def test_matrix_lists_and_tables_say_who_gets_what_right(models: list[str], images: Path) -> None:
    assert evaluate(models, images) == 0
    matrix, losses = np.load(OUT / "correctness.npy"), np.load(OUT / "losses.npy")
    names = (OUT / "models.csv").read_text().strip().split(",")
    paths = [entry.path for entry in read_ranking(OUT / "examples.csv").paths]
    assert matrix.dtype == np.uint8
    assert matrix.shape == losses.shape == (3, 40)
    assert paths == sorted(f"{f.parent.name}/{f.name}" for f in images.glob("*/*.jpg"))
    assert sorted(names) == ["test_byobnet_4", "test_efficientnet_4", "test_resnet_4"]
    assert matrix.sum(axis=1).tolist() == sorted(matrix.sum(axis=1).tolist(), reverse=True)
    by_name = {model.rpartition("/")[2]: model for model in models}
    for row, name in enumerate(names):
        some = range(0, 40, 5)
        by_oracle = [not oracle.wrong(by_name[name], images / paths[i], CLASSES.index(paths[i][:3])) for i in some]
        assert matrix[row, ::5].tolist() == by_oracle
        right = matrix[row].tolist()
        lines = table(name)
        assert [line["path"] for line in lines] == paths
        assert [line["label"] for line in lines] == [str(CLASSES.index(path[:3])) for path in paths]
        assert [line["correct"] for line in lines] == [str(int(r)) for r in right]
        assert [line["predicted"] == line["label"] for line in lines] == [bool(r) for r in right]
        assert [float(line["loss"]) for line in lines] == losses[row].tolist()
        assert [float(line["probability"]) for line in lines] == pytest.approx(np.exp(-losses[row]), rel=1e-6)
        assert {line["top5"] for line in lines} == {"1"}  # of four classes
        said = json.loads((OUT / "tables" / f"{name}.json").read_text())
        assert (said["right"], said["images"], said["top1"]) == (sum(right), 40, round(sum(right) / 40, 6))
        assert said["label_rule"] == "class folders in natural order"
    with (OUT / "accuracy.csv").open(newline="") as stream:
        assert [line["model"] for line in csv.DictReader(stream)] == names


def test_three_commands_from_a_folder_of_images_to_the_picture(models: list[str], images: Path) -> None:
    assert evaluate(models, images) == 0
    assert main(["rank", "pool", "--without", models[0]]) == 0
    flags = ["--root_dir", str(images), "--max_examples", "4", "--max_steps_per_example", "5", "--epsilon", "0.1",
             "--lr", "0.05", *ON_THE_CPU]  # fmt: skip
    ranking = "pool/ranking_without_test_resnet_4.csv"
    matrix = ["--correctness_npy", "pool/correctness.npy", "--imagenet_models_csv", "pool/models.csv"]
    study = Path("outputs/test_resnet_4")
    assert main(["run", "--model_name", models[0], "--examples_csv", ranking, *matrix, *flags]) == 0
    assert (study / "steps_vs_difficulty.png").stat().st_size > 10_000
    by_matrix = rows(study)
    # The same sample whatever the order of the lists, and when the model itself is asked: joined by path.
    lines = Path(ranking).read_text().splitlines()
    Path("reversed.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    for number, more in enumerate((["--examples_csv", "reversed.csv", *matrix], ["--examples_csv", ranking])):
        assert main(["run", "--model_name", models[0], "--output_dir", f"other{number}", *more, *flags]) == 0
        again = rows(Path(f"other{number}/test_resnet_4"))
        assert [row["path"] for row in again] == [row["path"] for row in by_matrix]
    # Missing files select the same of what is there.
    (images / by_matrix[0]["path"]).unlink()
    more = ["--output_dir", "fewer", "--examples_csv", ranking, *matrix]
    assert main(["run", "--model_name", models[0], *more, *flags]) == 0
    fewer = {row["path"] for row in rows(Path("fewer/test_resnet_4"))}
    assert {row["path"] for row in by_matrix[1:]} <= fewer


def test_stopped_and_started_again_it_keeps_what_is_done(
    models: list[str], images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(models, images) == 0
    whole = contents()
    shutil.rmtree(OUT)
    loaded: list[str] = []

    def stop_at_the_third(model: str, flag: str) -> Any:
        loaded.append(model)
        if len(loaded) == 3:
            signal.raise_signal(signal.SIGTERM)
        return load_pretrained(model)

    monkeypatch.setattr("lightning_app.pool.evaluate.load_pretrained", stop_at_the_third)
    with pytest.raises(SystemExit) as stopped:
        evaluate(models, images)
    assert stopped.value.code == 143
    assert not (OUT / "correctness.npy").exists()
    assert len(list((OUT / "tables").glob("*.json"))) == 2
    assert evaluate(models, images) == 0
    assert loaded == [*models, models[2]]
    assert "2 of 3 models are done" in capsys.readouterr().err
    assert contents() == whole


def test_a_pool_grows_and_a_changed_model_is_asked_again(
    models: list[str], images: Path, make_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models[0].removeprefix("local-dir:"), "mine")
    assert evaluate(["local-dir:mine", models[1]], images) == 0
    first = contents()
    weights = Path(models[2].removeprefix("local-dir:"))
    for name in ("config.json", "model.safetensors"):
        shutil.copy(weights / name, f"mine/{name}")
    assert evaluate(["local-dir:mine", models[2]], images) == 0
    err = capsys.readouterr().err
    assert "mine has other files than when it was asked" in err
    assert "1 models that were asked earlier" in err
    second = contents()
    assert second["mine.csv"] == second["test_byobnet_4.csv"] != first["mine.csv"]
    assert second["test_efficientnet_4.csv"] == first["test_efficientnet_4.csv"]
    names = (OUT / "models.csv").read_text().strip().split(",")
    assert sorted(names) == ["mine", "test_byobnet_4", "test_efficientnet_4"]
    matrix = np.load(OUT / "correctness.npy")
    assert np.array_equal(matrix[names.index("mine")], matrix[names.index("test_byobnet_4")])
    assert names.index("mine") + 1 == names.index("test_byobnet_4")  # ties by name


def test_a_model_that_cannot_be_asked_is_reported_and_the_rest_go_on(
    models: list[str], images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It can't be loaded, or fails on the images."""
    Path("empty").mkdir()
    assert evaluate(["local-dir:empty"], images) == 2
    assert not OUT.exists()

    def out_of_memory(module: Any, inputs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def load(model: str, flag: str) -> Any:
        pretrained = load_pretrained(model, flag)
        if model == models[1]:
            pretrained.network.register_forward_pre_hook(out_of_memory)
        return pretrained

    monkeypatch.setattr("lightning_app.pool.evaluate.load_pretrained", load)
    assert evaluate(["local-dir:empty", models[0], "no_such_model", models[1], models[2]], images) == 3
    err = capsys.readouterr().err
    assert "empty is left out: --models local-dir:empty" in err
    assert "no_such_model is left out: " in err
    assert "test_efficientnet_4 is left out: OutOfMemoryError: CUDA out of memory" in err
    assert "3 of 5 models could not be asked" in err
    assert {*(OUT / "models.csv").read_text().strip().split(",")} == {"test_resnet_4", "test_byobnet_4"}
    assert np.load(OUT / "correctness.npy").shape == (2, 40)


def test_images_that_cannot_be_read_are_counted_named_and_left_out(
    models: list[str], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "bee/03.jpg").write_bytes(b"no image")
    (images / "cat/x.png").write_bytes((images / "cat/01.jpg").read_bytes()[:300])
    assert evaluate(models, images) == 0
    assert re.search(r"2 of 41 images .* 'bee/03.jpg', 'cat/x.png'", capsys.readouterr().err)
    paths = [entry.path for entry in read_ranking(OUT / "examples.csv").paths]
    assert len(paths) == 39
    assert not {"bee/03.jpg", "cat/x.png"} & set(paths)
    assert np.load(OUT / "correctness.npy").shape == (3, 39)
    (line,) = [line for line in table("test_resnet_4") if line["path"] == "bee/03.jpg"]
    assert (line["label"], line["correct"], line["loss"]) == ("1", "", "")
    assert "bee/03.jpg" in next(OUT.glob("evaluate_*.log")).read_text()


def test_imagenets_flat_folder_with_the_devkits_list(models: list[str], photographs: Path) -> None:
    ids = ["n01440764", "n01443537", "n01484850", "n01491361"]
    savemat("meta.mat", {"synsets": np.array([(n, i) for n, i in zip((4, 2, 1, 3), ids, strict=True)],
                                             dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")])})  # fmt: skip
    Path("flat").mkdir()
    numbers = []
    for n, file in enumerate(sorted(photographs.glob("*/*.jpg")), start=1):
        shutil.copy(file, f"flat/ILSVRC2012_val_{n:08}.JPEG")
        numbers.append({"ant": 4, "bee": 2, "cat": 1, "dog": 3}[file.parent.name])
    Path("truth.txt").write_text("\n".join(map(str, numbers)) + "\n")
    assert evaluate(models, Path("flat"), "--ground_truth", "truth.txt") == 0
    flat = np.load(OUT / "correctness.npy")
    examples = read_ranking(OUT / "examples.csv").paths
    assert [entry.label for entry in examples] == [i // 10 for i in range(40)]
    assert main(["rank", "pool"]) == 0
    assert main(["run", "--model_name", models[0], "--examples_csv", "pool/ranking.csv", "--root_dir", "flat",
                 "--max_examples", "2", "--max_steps_per_example", "2", *ON_THE_CPU]) == 0  # fmt: skip
    # As class folders of WordNet ids it is the same.
    for entry in examples:
        folder = Path("folders", ids[entry.label or 0])
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("flat", entry.path), folder)
    shutil.rmtree(OUT)
    assert evaluate(models, Path("folders")) == 0
    assert np.array_equal(np.load(OUT / "correctness.npy"), flat)


def test_labels_by_a_mapping_go_into_the_list(models: list[str], images: Path) -> None:
    """Where they fit, some of the model's classes are enough."""
    Path("labels.json").write_text(json.dumps({"ant": 3, "bee": 2, "cat": 1}))
    shutil.rmtree(images / "dog")
    assert evaluate(models[:1], images, "--class_to_idx", "labels.json") == 0
    entries = read_ranking(OUT / "examples.csv").paths
    assert [entry.label for entry in entries] == [3 - i // 10 for i in range(30)]
    right = [not oracle.wrong(models[0], images / entry.path, entry.label or 0) for entry in entries]
    assert np.load(OUT / "correctness.npy")[0].tolist() == right


@pytest.mark.parametrize(
    ("spoil", "flags", "message"),
    [
        ("five classes", (), "has 5 class folders, but the model has 4 classes"),
        ("five classes", (), "(--models test_resnet_4, test_efficientnet_4, test_byobnet_4)"),
        ("flat", (), "--root_dir: images lie in images itself, without a class folder: --ground_truth names"),
        ("odd names", (), "holds no image whose name can stand in a list, such as"),
        ("", ("--class_to_idx", "no.json"), "there is no no.json"),
        ("", ("--ground_truth", "no.txt"), "--ground_truth: there is no no.txt"),
        ("", ("--models", "local-dir:a\nb"), "can't be a model's name"),
        ("", ("--models", "a/b,a_b"), "a/b and a_b would both be 'a_b' in the pool"),
        ("foreign", (), "holds correctness.npy, which evaluate has not written"),
        ("file", (), "--output_dir"),
    ],
)
def test_bad_input_is_one_clear_error_before_any_work(
    models: list[str], images: Path, spoil: str, flags: tuple[str, ...], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    files = list(images.glob("*/*.jpg"))
    if spoil == "five classes":
        shutil.copytree(images / "ant", images / "eel")
    elif spoil == "odd names":
        for file in files:
            file.rename(file.with_name(f"{file.stem}\\x.jpg"))
    elif spoil == "flat":
        for file in files:
            file.rename(images / f"{file.parent.name}{file.name}")
    elif spoil == "foreign":
        OUT.mkdir()
        np.save(OUT / "correctness.npy", np.zeros((2, 2)))
    elif spoil == "file":
        OUT.write_text("mine")
    before = {p: p.read_bytes() if p.is_file() else b"" for p in Path().rglob("*")}
    assert evaluate(models, images, *flags) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert {p: p.read_bytes() if p.is_file() else b"" for p in Path().rglob("*")} == before


def test_other_images_are_not_mixed_with_what_is_there(
    models: list[str], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(models[:1], images) == 0
    before = contents()
    (images / "ant/00.jpg").unlink()
    assert evaluate(models[:1], images) == 2
    assert "images: 40 then, 39 now" in capsys.readouterr().err
    assert contents() == before


def test_names_come_from_a_file_or_from_yaml(models: list[str], images: Path) -> None:
    Path("pool.txt").write_text("\n".join(models) + "\n")
    Path("c.yaml").write_text("models:\n" + "".join(f"  - {m}\n" for m in models) + f"root_dir: {images}\n")
    for argv in (["--models", "pool.txt", "--root_dir", str(images)], ["--config", "c.yaml"]):
        settings = Evaluate([*argv, "--output_dir", "pool"]).settings
        assert [*named_models(settings.models).values()] == models


def test_a_damaged_table_and_other_labels_are_asked_again(
    models: list[str], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(models[:2], images) == 0
    whole = contents()
    damaged = OUT / "tables" / "test_resnet_4.csv"
    damaged.write_text(damaged.read_text()[:500])
    assert evaluate(models[:2], images) == 0
    assert "pool/tables/test_resnet_4.csv can't be read" in capsys.readouterr().err
    assert contents() == whole
    shutil.rmtree(OUT)
    shutil.rmtree(images / "dog")
    (images / "aaa").mkdir()  # empty, but a class
    assert evaluate(models[:1], images) == 0  # ant is 1
    (images / "aaa").rename(images / "zzz")
    capsys.readouterr()
    assert evaluate(models[:1], images) == 0  # ant is 0
    assert "its labels are not those of the images" in capsys.readouterr().err
    assert {line["label"] for line in table("test_resnet_4")} == {"0", "1", "2"}


@pytest.mark.shared_data
@pytest.mark.slow
def test_accuracies_on_real_images_are_the_known_ones_to_the_image() -> None:
    model = f"local-dir:{SHARED / 'models' / 'test_efficientnet'}"
    assert evaluate([model], SHARED / "images") == 0
    with (SHARED / "models" / "accuracy.csv").open(newline="") as stream:
        known = {row["model"]: float(row["top1"]) for row in csv.DictReader(stream)}
    with (OUT / "accuracy.csv").open(newline="") as stream:
        (found,) = csv.DictReader(stream)
    assert int(found["right"]) == round(known["test_efficientnet"] * 10_000)
    assert found["images"] == "10000"


@pytest.mark.shared_data
def test_planted_examples_are_ranked_where_they_belong() -> None:
    models = [f"local-dir:{SHARED / 'models' / name}" for name in ("test_resnet", "test_efficientnet", "resnet10t")]
    for folder in sorted((SHARED / "images").iterdir()):
        Path("images", folder.name).mkdir(parents=True)
        for file in sorted(folder.glob("*.jpg"))[:20]:
            shutil.copy(file, Path("images", folder.name))
    assert evaluate(models, Path("images")) == 0
    assert main(["rank", "pool"]) == 0
    easy = read_ranking(OUT / "ranking.csv").paths[0].path  # all are right, with the smallest loss
    classes = sorted(f.name for f in Path("images").iterdir())
    wrong = f"{classes[classes.index(Path(easy).parent.name) - 1]}/wrong_label.jpg"
    shutil.copy(Path("images", easy), Path("images", wrong))
    shutil.copy(Path("images", easy), Path("images", Path(easy).parent, "twin.jpg"))
    for name in classes:
        Image.new("RGB", (32, 32), "gray").save(Path("images", name, "blank.png"))
    shutil.rmtree(OUT)
    assert evaluate(models, Path("images")) == 0
    assert main(["rank", "pool"]) == 0
    with (OUT / "ranking.csv").open(newline="") as stream:
        lines = {row["path"]: row for row in csv.DictReader(stream)}
    assert len(lines) == 212
    twin = lines[f"{Path(easy).parent}/twin.jpg"]
    assert [row["mean_loss"] for row in (lines[easy], twin)] == [lines[easy]["mean_loss"]] * 2
    assert {int(lines[easy]["rank"]), int(twin["rank"])} == {1, 2}
    assert lines[wrong]["n_correct"] == "0"
    assert int(lines[wrong]["rank"]) >= 212 - 5  # confidently something else: among the very hardest
    blanks = [lines[f"{name}/blank.png"] for name in classes]
    assert sum(int(row["n_correct"]) for row in blanks) <= 3  # each model takes it for one class
    assert sum(int(row["rank"]) > 106 for row in blanks) >= 9  # the harder half


def test_a_models_own_label_names_say_which_class_a_folder_is(
    make_model: MakeModel, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Backwards: the order of the folders would give every image another label."""
    plain = make_model("test_resnet", "plain")
    named = Path(shutil.copytree(plain.removeprefix("local-dir:"), "named"))
    config = json.loads((named / "config.json").read_text())
    names = [f"{3 - label} {name}" for label, name in enumerate(CLASSES)]
    (named / "config.json").write_text(json.dumps({**config, "label_names": names}))
    for label, name in enumerate(CLASSES):
        (images / name).rename(images / names[label])
    assert evaluate(["local-dir:named"], images) == 0
    assert "labels by the model's own label names" in capsys.readouterr().err
    labels = {row["path"].split("/")[0]: int(row["label"]) for row in table("named")}
    assert labels == {name: label for label, name in enumerate(names)}
    before = contents()
    assert evaluate(["local-dir:named", plain], images) == 0
    assert "1 of 2 models are done" in capsys.readouterr().err
    assert contents()["named.csv"] == before["named.csv"]
    assert main(["rank", "pool"]) == 0
    assert main(["run", "--model_name", "local-dir:named", "--examples_csv", "pool/ranking.csv", "--root_dir",
                 str(images), "--max_examples", "3", "--select", "all", "--dry_run", *ON_THE_CPU]) == 0  # fmt: skip
    shown = re.findall(r"label (\d): .*images/([^/]+)/", capsys.readouterr().err)
    assert len(shown) == 3
    assert all(names[int(label)] == folder for label, folder in shown)


@pytest.mark.shared_data
def test_two_folders_in_the_place_of_one_another_are_told_by_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    model, swapped = f"local-dir:{SHARED / 'models' / 'test_resnet'}", {"ship": "truck", "truck": "ship"}
    for folder in sorted((SHARED / "images").iterdir()):
        where = Path("swapped", swapped.get(folder.name, folder.name))
        where.mkdir(parents=True)
        for file in sorted(folder.iterdir())[:30]:
            shutil.copy(file, where)
    told = re.compile(
        r"warning: .*2 classes are never right, or mostly taken for one other: 'ship' \(label 8\): \d+ of \d+ predicted"
        r" as 9, the label of 'truck'; 'truck' \(label 9\): .* are the labels right\?"
    )
    paths = [f"{file.parent.name}/{file.name}" for file in Path("swapped").rglob("*.jpg")]
    Path("ranking.csv").write_text("\n".join(paths))
    run = ["run", "--examples_csv", "ranking.csv", "--max_examples", "90", "--dry_run"]
    for argv in (["evaluate", "--models", model, "--output_dir", "pool"], ["validate", "--model_name", model],
                 [*run, "--model_name", model]):  # fmt: skip
        assert main([*argv, "--root_dir", "swapped", *ON_THE_CPU]) == 0
        assert told.search(capsys.readouterr().err), argv


def test_copies_other_files_and_twins_are_left_out_and_said(
    models: list[str], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(models[:1], images) == 0
    expected = contents()
    shutil.rmtree(OUT)
    for folder in (".ipynb_checkpoints", "@eaDir"):
        shutil.copytree(images / "ant", images / folder)
        shutil.copytree(images / "ant", images / "bee" / folder)
    (images / "cat" / "note\x1b[31m.txt").write_text("")
    (images / "cat" / "x.heic").write_text("")
    os.link(images / "dog" / "01.jpg", images / "dog" / "z\x1b[31m.jpg")
    capsys.readouterr()
    assert evaluate(models[:1], images) == 0
    said = capsys.readouterr().err
    assert "4 hidden folders" in said
    assert "Other files are left out" in said
    assert "1 paths are of an image or folder that has another path already" in said
    assert "\x1b[31m" not in said + next(OUT.glob("evaluate_*.log")).read_text()
    assert contents() == expected


def test_a_pool_that_was_killed_before_its_first_model_goes_on(models: list[str], images: Path) -> None:
    (OUT / "tables").mkdir(parents=True)  # and nothing else: as a version before left it
    assert evaluate(models[:1], images) == 0
    identity = (OUT / "evaluate.json").read_bytes()
    shutil.rmtree(OUT)
    OUT.mkdir()
    (OUT / "evaluate.json").write_bytes(identity)
    assert evaluate(models[:1], images) == 0
