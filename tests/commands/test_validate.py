import re
from pathlib import Path

import pytest

from lightning_app.cli import main
from tests import oracle
from tests.conftest import CLASSES, SHARED


def top1(printed: str) -> float:
    return float(re.findall(r"top1\W+([\d.]+)", printed)[0])  # Lightning draws a frame where rich is installed


@pytest.mark.parametrize("batch_size", ["1", "7"])
def test_accuracy_is_counting_by_hand(
    tiny_model: str, photographs: Path, batch_size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["validate", "--model_name", tiny_model, "--root_dir", str(photographs), "--batch_size", batch_size]
    assert main(argv) == 0
    right = sum(
        not oracle.wrong(tiny_model, image, label)
        for label, name in enumerate(CLASSES)
        for image in (photographs / name).iterdir()
    )
    printed = capsys.readouterr().out
    assert "40 images, labels by class folders in natural order" in printed
    assert top1(printed) == pytest.approx(right / 40)


@pytest.mark.shared_data
def test_real_images_are_counted_as_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """Of all 10,000 the published accuracy is told by tests/commands/test_evaluate.py."""
    model = f"local-dir:{SHARED / 'models' / 'test_resnet'}"
    classes = sorted(folder for folder in (SHARED / "images").iterdir())
    images = [(label, file) for label, folder in enumerate(classes) for file in sorted(folder.iterdir())[:5]]
    for _, file in images:
        copy = Path("images", file.parent.name, file.name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(file)
    assert main(["validate", "--model_name", model, "--root_dir", "images", "--batch_size", "16"]) == 0
    right = sum(not oracle.wrong(model, file, label) for label, file in images)
    assert 25 < right < 50
    assert top1(capsys.readouterr().out) == pytest.approx(right / 50)


@pytest.mark.parametrize("kind", ["no folder", "empty", "one class", "damaged"])
def test_bad_input(
    tiny_model: str, photographs: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    if kind != "no folder":
        root.mkdir()
    if kind in ("one class", "damaged"):
        for name in CLASSES if kind == "damaged" else CLASSES[:1]:
            (root / name).mkdir()
        (root / CLASSES[0] / "x.jpg").write_bytes((photographs / CLASSES[0] / "00.jpg").read_bytes()[:99])
    assert main(["validate", "--model_name", tiny_model, "--root_dir", str(root)]) == 2
    message = {
        "no folder": "--root_dir must be a folder", "empty": "holds no image",
        "one class": "1 class folders, but the model has 4 classes", "damaged": "x.jpg",
    }[kind]  # fmt: skip
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.startswith("steps-to-epsilon validate: error: ")
    assert message in printed
