import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from lightning_app.data.labels import read_ground_truth
from lightning_app.errors import BadInputError

IDS = ["n01440764", "n01443537", "n01484850"]
LIST = Path("ILSVRC2012_validation_ground_truth.txt")
PATHS = ["ILSVRC2012_val_00000002.JPEG", "val/ILSVRC2012_val_00000004.JPEG"]


def write_meta() -> None:
    """As the devkit's: a struct array of leaves and inner nodes, in an order of its own."""
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(2, IDS[1], "goldfish", 0), (1, IDS[0], "tench", 0), (3, IDS[2], "shark", 0), (1001, "n00001740", "x", 9)]
    savemat("meta.mat", {"synsets": np.array(rows, dtype=fields)[:, None]})


@pytest.mark.parametrize("form", ["numbers", "ids"])
def test_line_n_is_the_image_whose_name_ends_with_n(form: str) -> None:
    write_meta()
    lines = ["3", "1", "2", "2"] if form == "numbers" else [IDS[2], IDS[0], IDS[1], IDS[1]]
    LIST.write_text("\n".join(lines) + "\n")
    assert read_ground_truth(LIST, PATHS) == {PATHS[0]: IDS[0], PATHS[1]: IDS[1]}


@pytest.mark.parametrize(
    ("lines", "paths", "message"),
    [
        (["1"] * 4, ["cat.jpg"], r"has 4 lines, and 'cat.jpg' is none of them: expected names such as ILSVRC2012_val_"),
        (["1"] * 3, PATHS, r"has 3 lines, and 'val/ILSVRC2012_val_00000004.JPEG' is none of them"),
        (["1", "9", "1", "1"], PATHS, r"holds 9, which is no ILSVRC2012_ID of meta.mat"),
        (["cat"] * 4, PATHS, r"must hold a number or a WordNet id \(n and 8 digits\) a line"),
        ([IDS[0], "2", "1", "1"], PATHS, r"must hold a number or a WordNet id"),
    ],
)
def test_what_the_list_cannot_say_is_refused(lines: list[str], paths: list[str], message: str) -> None:
    write_meta()
    LIST.write_text("\n".join(lines))
    with pytest.raises(BadInputError, match=message):
        read_ground_truth(LIST, paths)


def test_numbers_need_the_devkits_table() -> None:
    LIST.write_text("1\n2\n3\n1\n")
    with pytest.raises(BadInputError, match=r"there is no meta.mat, which says what they mean"):
        read_ground_truth(LIST, PATHS)
    Path("meta.mat").write_bytes(b"no matlab")
    with pytest.raises(BadInputError, match=r"meta.mat is not the devkit's"):
        read_ground_truth(LIST, PATHS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary() | st.lists(st.integers(0, 4).map(str) | st.sampled_from([*IDS, "", "\u0661"])).map(
    lambda lines: "\n".join(lines).encode()))  # fmt: skip
def test_any_list_has_the_ids_or_is_one_error(tmp_path: Path, content: bytes) -> None:
    write_meta()
    list_ = Path("any.txt")
    list_.write_bytes(content)
    with contextlib.suppress(BadInputError):
        assert set(read_ground_truth(list_, PATHS).values()) <= set(IDS)


def test_kaggles_table_names_each_image() -> None:
    table = Path("LOC_val_solution.csv")
    rows = [f"ILSVRC2012_val_0000000{n},{IDS[n % 3]} 85 1 499 272 {IDS[0]} 1 2 3 4 " for n in (4, 2, 1)]
    table.write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")
    assert read_ground_truth(table, PATHS) == {PATHS[0]: IDS[2], PATHS[1]: IDS[1]}
    with pytest.raises(BadInputError, match=r"has no image 'ILSVRC2012_val_00000003', such as 'x/ILSVRC.*03.JPEG'"):
        read_ground_truth(table, ["x/ILSVRC2012_val_00000003.JPEG"])
    table.write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,\n")
    with pytest.raises(BadInputError, match=r"line 2 must be an image's name, and its boxes behind their WordNet id"):
        read_ground_truth(table, PATHS)
