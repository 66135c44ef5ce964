import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_app.errors import BadInputError
from lightning_app.inputs.labels import Classes, find_labels
from lightning_app.inputs.ranking import RankedPath

WORDNET = Classes(3, "imagenet-1k", ("n00000003", "n00000001", "n00000002"))


def folders(root: Path, *names: str) -> tuple[list[RankedPath], dict[str, Path]]:
    files = {}
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
        files[name] = root / name
    return [RankedPath(name, i, i + 1) for i, name in enumerate(names)], files


def test_the_label_column_goes_first(tmp_path: Path) -> None:
    _, files = folders(tmp_path, "val/n00000001/x.jpg")
    labels = find_labels([RankedPath("val/n00000001/x.jpg", 0, 1, 2)], files, None, WORDNET)
    assert labels.of == {"val/n00000001/x.jpg": 2}
    assert labels.rule == "the ranking's label column"


def test_class_to_idx_names_the_class_folder(tmp_path: Path) -> None:
    paths, files = folders(tmp_path, "val/cat/x.jpg", "val/dog/x.jpg")
    mapping = tmp_path / "idx.json"
    mapping.write_text(json.dumps({"cat": 1, "dog": 0, "more": 2}))
    assert find_labels(paths, files, mapping, Classes(3)).of == {"val/cat/x.jpg": 1, "val/dog/x.jpg": 0}


@pytest.mark.parametrize("path", ["val/n00000001/I_1.JPEG", "n00000002/x_n00000001.JPEG", "train/n00000001_10.JPEG"])
def test_the_wordnet_id_gives_its_place_in_the_models_subset(tmp_path: Path, path: str) -> None:
    paths, files = folders(tmp_path, path)
    assert find_labels(paths, files, None, WORDNET).of == {path: 1}


def test_sorted_sibling_folders_are_the_last_resort(tmp_path: Path) -> None:
    paths, files = folders(tmp_path, "val/zebra/x.jpg", "val/ant/x.jpg", "val/cat/x.jpg", "val/.hidden/x.jpg")
    labels = find_labels(paths[:3], files, None, Classes(3))
    assert labels.of == {"val/zebra/x.jpg": 2, "val/ant/x.jpg": 0, "val/cat/x.jpg": 1}
    with pytest.raises(BadInputError, match="hidden"):
        find_labels(paths, files, None, Classes(3))


def test_paths_without_a_file_need_no_label(tmp_path: Path) -> None:
    paths, files = folders(tmp_path, "val/n00000001/x.jpg")
    assert (
        find_labels([*paths, RankedPath("val/n77777777/y.jpg", 1, 2)], files, None, WORDNET).of.keys() == files.keys()
    )


@pytest.mark.parametrize(
    ("names", "mapping", "classes", "message"),
    [
        (["val/a/x", "val/b/x"], None, Classes(3), r"val has 2 class folders, but the model has 3 classes"),
        (["p/a/x", "p/b/x", "q/a/x", "q/c/x"], None, Classes(2), "have other class folders"),
        (["val/n00000001/x", "val/n00000009/x"], None, WORDNET, "n00000009, which is not in imagenet-1k"),
        (["val/n00000001/x", "val/other/x"], None, WORDNET, "'val/other/x' has no WordNet id"),
        (["val/a/x"], '{"b": 0}', Classes(3), r"has no 'a', the class folder of 'val/a/x'"),
        (["val/a/x"], '{"a": 3}', Classes(3), r"the label of 'val/a/x' is 3 by class_to_idx.* 3 classes \(0 to 2\)"),
        (["val/a/x"], '{"a": "0"}', Classes(3), 'must be {"class folder": class index'),
        (["val/a/x"], '{"a": true}', Classes(3), 'must be {"class folder": class index'),
        (["val/a/x"], "[1]", Classes(3), 'must be {"class folder": class index'),
        (["val/a/x"], "{", Classes(3), "is not JSON"),
    ],
)
def test_folders_and_classes_that_do_not_fit(
    tmp_path: Path, names: list[str], mapping: str | None, classes: Classes, message: str
) -> None:
    paths, files = folders(tmp_path / "data", *names)
    file = tmp_path / "idx.json"
    file.write_text(mapping or "")
    with pytest.raises(BadInputError, match=message):
        find_labels(paths, files, file if mapping else None, classes)


def test_a_label_column_outside_the_classes_is_refused(tmp_path: Path) -> None:
    _, files = folders(tmp_path, "x.jpg")
    with pytest.raises(BadInputError, match=r"the label of 'x.jpg' is 3 .* 3 classes"):
        find_labels([RankedPath("x.jpg", 0, 1, 3)], files, None, Classes(3))


@given(
    st.text()
    | st.recursive(
        st.none() | st.integers() | st.floats(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["cat", "dog"]), x),
    ).map(json.dumps)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_mapping_is_read_or_refused(tmp_path: Path, text: str) -> None:
    paths, files = folders(tmp_path, "val/cat/x.jpg")
    mapping = tmp_path / "idx.json"
    mapping.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(BadInputError):
        assert find_labels(paths, files, mapping, Classes(3)).of["val/cat/x.jpg"] in (0, 1, 2)
