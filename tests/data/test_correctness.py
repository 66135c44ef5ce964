import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lightning_app.data.correctness import ModelRow, read_model_row
from lightning_app.data.ranking import read_ranking
from lightning_app.errors import BadInputError
from lightning_app.settings import StudySettings

one_folder = hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


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


HEADERS = st.text(max_size=80) | st.builds(
    "{{'descr': {}, 'fortran_order': {}, 'shape': {}}}".format,
    st.sampled_from(["'|u1'", "'<f8'", "'|O'", "'<U9999'", "[('a','<i4')]", "'|S0'", "3", "None"]),
    st.sampled_from(["True", "False", "1", "None"]),
    st.sampled_from(["(3, 4)", "(2, 99999999999)", "(-1, 4)", "(10**30, 1)", "()", "(3,)", "3", "(0, 4)", "(3, 4, 0)"]),
)


@given(HEADERS, st.binary(max_size=100), st.sampled_from([1, 2, 3, 9]))
@one_folder
def test_any_file_is_a_matrix_or_refused(files: Path, header: str, data: bytes, version: int) -> None:
    text = header.encode("utf-8", "replace")
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    for content in (data, b"\x93NUMPY" + bytes([version, 0]) + size + text + data, b"PK\x03\x04" + data):
        (files / "any.npy").write_bytes(content)
        with contextlib.suppress(BadInputError):
            row = read(files, correctness_npy=files / "any.npy")
            assert row is not None
            assert set(row.correct) == {"a", "b", "c"}


@given(st.text() | st.binary() | st.lists(st.sampled_from(["middle", '"', ",", "\n", "\r", "a"])).map("".join))
@one_folder
def test_any_list_of_models_is_read_or_refused(files: Path, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    (files / "any.csv").write_bytes(data)
    with contextlib.suppress(BadInputError):
        row = read(files, imagenet_models_csv=files / "any.csv")
        assert row is not None
        assert row.name == "middle"


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters=',"\r\n')
NAMES = st.lists(st.text(LETTERS, min_size=1), unique=True)


@given(NAMES, st.sampled_from([",", "\n"]), st.sampled_from(["", "\ufeff"]))
@one_folder
def test_a_list_of_models_reads_back(files: Path, names: list[str], separator: str, mark: str) -> None:
    names = ["middle", *(name for name in names if name != "middle")][-3:]
    if "middle" not in names:
        names[-1] = "middle"
    (files / "any.csv").write_text(mark + separator.join(names) + "\n", encoding="utf-8")
    row = read(files, imagenet_models_csv=files / "any.csv")
    assert row is not None
    assert row.row == names.index("middle")


def test_a_name_that_csv_refuses_for_its_length_is_one_clear_error(files: Path) -> None:
    (files / "models.csv").write_text('"' + "a" * 140_000 + '","b')
    with pytest.raises(BadInputError, match=r"--imagenet_models_csv .* can't be read as CSV: field larger than field"):
        read(files)


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("sprung"),)


def test_a_matrix_of_objects_is_refused_and_not_unpickled(files: Path) -> None:
    np.save(files / "trap.npy", np.array([[Trap()] * 4] * 3, dtype=object), allow_pickle=True)
    (files / "bare.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.npy", "bare.npy"):
        with pytest.raises(BadInputError, match="pickled objects are refused"):
            read(files, correctness_npy=files / name)
    assert not Path("sprung").exists()
    pickle.loads(pickle.dumps(Trap()))  # the trap works
    assert Path("sprung").exists()
