from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lightning_app.analysis import plots
from lightning_app.errors import BadInputError
from lightning_app.report.report import class_names, pictures, read_report, require_place, studies_on_page
from tests.analysis.test_load import CURVES, write_study


def test_what_the_page_is_given() -> None:
    place = write_study(Path("outputs/tiny"))
    for path in list(CURVES)[:3]:
        file = Path("images", path)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(file)
    (study,) = studies_on_page(read_report([place]))
    assert study.examples["path"].tolist() == list(CURVES)  # no `error`
    assert study.examples["steps"].tolist() == [4, 5, 7, 7]
    assert study.examples["not_reached"].tolist() == [False, False, True, True]
    assert (study.epsilon, study.limit) == (0.01, 6)
    assert study.thresholds == pytest.approx((0.6931, 0.1, 0.01), abs=1e-4)
    assert study.losses_of is not None
    assert [list(study.losses_of(k)) for k in range(4)] == [losses for _, losses in CURVES.values()]
    assert study.image_of(0) == Path("images/cat/a,1.jpg")
    assert study.image_of(3) is None
    assert study.class_names == {0: "cat", 1: "dog"}


@pytest.mark.parametrize(
    ("labels", "paths", "names"),
    [
        ([0, 1, 0], ["x/cat/1", "x/dog/2", "x/cat/3"], {0: "cat", 1: "dog"}),
        ([0, 1], ["val/1", "val/2"], {}),  # one folder for all
        ([0, 0], ["a/1", "b/2"], {}),
        ([0, 1], ["1", "2"], {}),
        ([0, None], ["a\\1", "b\\2"], {0: "a"}),
    ],
)
def test_classes_are_named_after_their_folders(labels: list[int], paths: list[str], names: dict[int, str]) -> None:
    assert class_names(pd.DataFrame({"label": labels, "path": paths})) == names
    assert class_names(pd.DataFrame({"path": paths})) == {}


def test_a_folder_that_cannot_be_written_to_is_named() -> None:
    Path("file").write_text("")
    with pytest.raises(BadInputError, match="--output_dir: file/deep can't be written"):
        require_place(Path("file/deep"))


def test_a_picture_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    report = read_report([write_study(Path("outputs/tiny"))])
    names = [picture.name for picture in pictures(report, ["pdf"])]
    assert "loss_curves.png" in names
    assert caplog.text == ""
    as_file = plots.as_file

    def fail(*args: object) -> None:
        raise ZeroDivisionError("division by zero")

    def no_pdf(figure: Figure, kind: str) -> bytes:
        return as_file(figure, kind) if kind == "png" else fail()  # type: ignore[func-returns-value,return-value]

    with monkeypatch.context() as patch:
        patch.setattr(plots, "loss_curves", fail)
        assert [picture.name for picture in pictures(report, ["pdf"])] == [n for n in names if "loss_curves" not in n]
    assert caplog.text.count("the picture loss_curves can't be drawn and is left out: division by zero") == 1
    monkeypatch.setattr(plots, "as_file", no_pdf)
    assert [picture.name for picture in pictures(report, ["pdf"])] == [n for n in names if n.endswith("png")]
