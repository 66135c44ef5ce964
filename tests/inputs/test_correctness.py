import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_app.errors import BadInputError
from lightning_app.inputs.correctness import ModelRow, read_model_row
from lightning_app.inputs.ranking import read_ranking
from lightning_app.settings import StudySettings


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "ranking.csv").write_text("a,b,None,c")
    (tmp_path / "models.csv").write_text("big,middle,small")
    np.save(tmp_path / "m.npy", np.array([[1, 1, 0, 1], [1, 0, 1, 0], [0, 0, 1, 0]], dtype=np.uint8))
    return tmp_path


def read(files: Path, **changes: Any) -> ModelRow | None:
    options: dict[str, Any] = {
        "examples_csv": files / "ranking.csv",
        "imagenet_models_csv": files / "models.csv",
        "model_csv_name": "middle",
        "correctness_npy": files / "m.npy",
    }
    settings = StudySettings(**{**options, **changes})
    return read_model_row(settings, read_ranking(settings.examples_csv))


def test_a_row_is_joined_by_place_in_the_ranking_without_its_own_paths(files: Path) -> None:
    row = read(files)
    assert row is not None
    assert (row.row, row.correct, row.unknown, row.remarks) == (1, {"a": True, "b": False, "c": False}, (), ())
    assert row.accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize("beside", [True, False])
def test_a_matrix_with_its_own_paths_is_joined_by_path(files: Path, beside: bool) -> None:
    columns = files / ("examples.csv" if beside else "columns.csv")
    columns.write_text("c\nx\nb\na\n")  # another order, one path that isn't ranked
    row = read(files, **({} if beside else {"matrix_examples_csv": columns}))
    assert row is not None
    assert row.correct == {"a": False, "b": True, "c": True}


def test_paths_that_the_matrix_lacks_are_unknown(files: Path) -> None:
    (files / "examples.csv").write_text("a\nx\ny\nz\n")
    row = read(files)
    assert row is not None
    assert (row.correct, row.unknown) == ({"a": True}, ("b", "c"))


def test_the_models_own_name_is_looked_up_by_default(files: Path) -> None:
    row = read(files, model_csv_name=None, model_name="small")
    assert row is not None
    assert row.row == 2


def test_without_a_matrix_there_is_no_row(files: Path) -> None:
    assert read(files, model_csv_name=None, correctness_npy=None) is None


@pytest.mark.parametrize("dtype", ["bool", "int64", "float32"])
def test_any_numeric_type_will_do(files: Path, dtype: str) -> None:
    np.save(files / "m.npy", np.load(files / "m.npy").astype(dtype))
    row = read(files)
    assert row is not None
    assert row.correct == {"a": True, "b": False, "c": False}


def test_one_row_more_than_names_is_remarked(files: Path) -> None:
    np.save(files / "m.npy", np.ones((4, 4)))
    row = read(files)
    assert row is not None
    assert "has 4 rows" in row.remarks[0]
    assert "has 3 names" in row.remarks[0]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones(4), r"shape \(4,\): expected 2-D"),
        (np.ones((3, 5)), "has 5 columns, but .*ranking.csv has 4 places"),
        (np.ones((1, 4)), "has 1 rows, but 'middle' is name 2 of 3"),
        (np.full((3, 4), 2), "row 0 holds 2: every value must be 0"),
        (np.full((3, 4), np.nan), "row 0 holds nan"),
        (np.full((3, 4), "1"), "expected numbers 0 and 1"),
        (np.full((3, 4), {}, dtype=object), "pickled objects are refused"),
    ],
)
def test_a_matrix_of_the_wrong_kind_is_refused(files: Path, matrix: Any, message: str) -> None:
    np.save(files / "m.npy", matrix)
    with pytest.raises(BadInputError, match=message):
        read(files)


def test_nothing_is_unpickled(files: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (files / "exploded",))

    (files / "m.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BadInputError, match="is not a NumPy array"):
        read(files)
    assert not (files / "exploded").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_csv_name": "midle"}, "'midle' is not in .*near names: middle"),
        ({"model_csv_name": "midle", "correctness_npy": None}, "near names: middle"),
        ({"correctness_npy": None}, "--model_csv_name middle needs --correctness_npy"),
        ({"correctness_npy": Path("no.npy")}, "--correctness_npy: there is no no.npy"),
        ({"imagenet_models_csv": Path("no.csv")}, "--imagenet_models_csv: there is no no.csv"),
        ({"matrix_examples_csv": Path("no.csv")}, "--matrix_examples_csv: there is no no.csv"),
    ],
)
def test_bad_options_are_refused(files: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read(files, **changes)


def test_a_name_that_stands_twice_is_refused(files: Path) -> None:
    (files / "models.csv").write_text("big,middle,middle")
    with pytest.raises(BadInputError, match="holds 'middle' more than once"):
        read(files)


def test_an_archive_is_refused(files: Path) -> None:
    np.savez(files / "m.npz", np.ones((3, 4)))
    with pytest.raises(BadInputError, match="an archive of arrays"):
        read(files, correctness_npy=files / "m.npz")


def test_no_path_in_common_is_refused(files: Path) -> None:
    (files / "examples.csv").write_text("w\nx\ny\nz\n")
    with pytest.raises(BadInputError, match="have none in common; they are joined by path"):
        read(files)
