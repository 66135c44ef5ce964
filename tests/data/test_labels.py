import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from timm.data import create_dataset

from lightning_app.data.images import is_foreign
from lightning_app.data.labels import Classes, Labels, doubts, find_labels, natural_key
from lightning_app.data.ranking import RankedPath
from lightning_app.errors import BadInputError

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


def test_sibling_folders_are_the_last_resort(tmp_path: Path) -> None:
    paths, files = folders(tmp_path, "val/zebra/x.jpg", "val/ant/x.jpg", "val/cat/x.jpg", "val/.hidden/x.jpg")
    labels = find_labels(paths[:3], files, None, Classes(3))
    assert labels.of == {"val/zebra/x.jpg": 2, "val/ant/x.jpg": 0, "val/cat/x.jpg": 1}
    assert not labels.remarks
    with pytest.raises(BadInputError, match="hidden"):
        find_labels(paths, files, None, Classes(3))


NAMES = st.text("aB1290 _-.é", min_size=1, max_size=6).filter(lambda name: name.strip(".") and not is_foreign(name))


@given(st.lists(NAMES, min_size=2, max_size=12, unique_by=lambda name: tuple(natural_key(name)[0])))
@settings(deadline=None)
def test_the_order_of_folders_is_that_of_timms_reader(names: list[str]) -> None:
    assume(not all(name.isdigit() and int(name) < len(names) for name in names))
    with tempfile.TemporaryDirectory() as folder:
        paths, files = folders(Path(folder), *(f"{name}/x.png" for name in names))
        labels = find_labels(paths, files, None, Classes(len(names)))
        reader = create_dataset("", folder).reader
        theirs = {f"{Path(file).parent.name}/x.png": label for file, label in reader.samples}
    assert labels.of == theirs
    assert bool(labels.remarks) == (sorted(names) != sorted(names, key=lambda name: reader.class_to_idx[name]))


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (["ship 900", "truck 2000", "auto"], {"auto": 0, "ship 900": 1, "truck 2000": 2}),
        (["ship 2000", "ship 900", "auto"], {"auto": 0, "ship 900": 1, "ship 2000": 2}),
        (["Bird", "airplane", "cat"], {"airplane": 0, "Bird": 1, "cat": 2}),
        (["1", "2", "3"], {"1": 0, "2": 1, "3": 2}),
        ([str(n) for n in range(1, 11)], {str(n): n - 1 for n in range(1, 11)}),
        (["0", "1", "10"], {"0": 0, "1": 1, "10": 2}),
    ],
)
def test_numbers_in_names_have_their_value_and_capitals_none(
    tmp_path: Path, names: list[str], right: dict[str, int]
) -> None:
    paths, files = folders(tmp_path / "val", *(f"{name}/x.jpg" for name in names))
    labels = find_labels(paths, files, None, Classes(len(names)))
    assert {path.removesuffix("/x.jpg"): label for path, label in labels.of.items()} == right
    assert labels.rule == "class folders in natural order"
    said = sorted(names) != sorted(names, key=natural_key)
    assert ["in plain order of characters it would be" in remark for remark in labels.remarks] == [True] * said


@pytest.mark.parametrize("names", [[str(n) for n in range(1000)], ["7", "10", "999"], ["0007", "0010"], ["0"]])
def test_folders_called_by_whole_numbers_are_their_own_index(tmp_path: Path, names: list[str]) -> None:
    paths, files = folders(tmp_path, *(f"val/{name}/x.jpg" for name in names))
    labels = find_labels(paths, files, None, Classes(1000, "imagenet-1k", ("n00000001",)))
    some = find_labels(paths[-1:], files, None, Classes(1000))
    assert some.remarks == labels.remarks
    assert labels.of == {f"val/{name}/x.jpg": int(name) for name in names}
    assert ["if they count from 1" in remark for remark in labels.remarks] == ([] if int(names[0]) == 0 else [True])


def test_a_number_too_large_beside_the_images_shows_that_folders_count_from_1(tmp_path: Path) -> None:
    paths, files = folders(tmp_path, *(f"val/{n}/x.jpg" for n in range(1, 11)))
    some = {path: file for path, file in files.items() if path != "val/10/x.jpg"}
    assert find_labels(paths, some, None, Classes(10)).of == {f"val/{n}/x.jpg": n - 1 for n in range(1, 10)}


def test_the_models_own_label_names_go_before_ids_numbers_and_order(tmp_path: Path) -> None:
    names = ("truck", "n00000001", "0", "bird")
    classes = Classes(4, "imagenet-1k", ("n00000001",), names)
    for chosen in (names, names[1:3], ("bird",)):
        paths, files = folders(tmp_path, *(f"{len(chosen)}/{name}/x.jpg" for name in chosen))
        labels = find_labels(paths, files, None, classes)
        assert labels.rule == "the model's own label names"
        assert {path.split("/")[1]: label for path, label in labels.of.items()} == {n: names.index(n) for n in chosen}
    paths, files = folders(tmp_path / "other", "a/x.jpg", "bird/x.jpg", "c/x.jpg", "d/x.jpg")
    assert find_labels(paths, files, None, classes).of["bird/x.jpg"] == 1  # one of them is none: by order
    mapping = tmp_path / "idx.json"
    mapping.write_text('{"bird": 0}')
    paths, files = folders(tmp_path, "bird/x.jpg")
    assert find_labels(paths, files, mapping, classes).of == {"bird/x.jpg": 0}


def test_a_label_name_of_two_classes_decides_nothing(tmp_path: Path) -> None:
    paths, files = folders(tmp_path, "crane/x.jpg", "dog/x.jpg")
    with pytest.raises(BadInputError, match="crane is the label name of 2 of the model's classes: give --class_to_idx"):
        find_labels(paths, files, None, Classes(3, None, (), ("crane", "dog", "crane")))


def test_folders_of_nobodys_are_no_class_folders_and_odd_ones_are_named(tmp_path: Path) -> None:
    names = ("cat/x.jpg", "dog/x.jpg", ".ipynb_checkpoints/x.jpg", "@eaDir/x.jpg", "__MACOSX/x.jpg", "lost+found/x.jpg")
    root = tmp_path / "val"
    paths, files = folders(root, *names)
    assert find_labels(paths[:2], files, None, Classes(2)).of == {"cat/x.jpg": 0, "dog/x.jpg": 1}
    (root / "notes").mkdir()
    (root / "notes" / "about.txt").write_text("")
    with pytest.raises(BadInputError, match=r"3 class folders, but the model has 2 classes; without an image: 'notes'"):
        find_labels(paths[:2], files, None, Classes(2))
    with pytest.raises(BadInputError, match=r"no label name of the model: 'dog', 'notes': give --class_to_idx"):
        find_labels(paths[:2], files, None, Classes(2, None, (), ("cat", "Dog")))


def doubts_of(counts: dict[str, list[int]], classes: int = 4) -> list[str]:
    """What is said of classes, each with how many of its images are predicted as which."""
    files = [Path(name, "x.jpg") for name, row in counts.items() for _ in range(sum(row))]
    labels = [label for label, row in enumerate(counts.values()) for _ in range(sum(row))]
    predicted = [other for row in counts.values() for other, count in enumerate(row) for _ in range(count)]
    return doubts(Labels("some rule", {}), Classes(classes), files, labels, predicted)


def test_two_classes_in_the_place_of_one_another_are_doubted_by_name() -> None:
    swapped = doubts_of({"ship": [2, 8, 0, 0], "truck": [6, 4, 0, 0], "cat": [0, 0, 9, 1], "dog": [0, 0, 1, 9]})
    assert swapped == [
        "2 classes are never right, or mostly taken for one other: 'ship' (label 0): 8 of 10 predicted as 1, the label"
        " of 'truck'; 'truck' (label 1): 6 of 10 predicted as 0, the label of 'ship': are the labels right? (they are"
        " by some rule)"
    ]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"a": [9, 1, 0, 0], "b": [1, 9, 0, 0]}, []),
        ({"a": [2, 8, 0, 0], "b": [0, 9, 1, 0]}, []),  # one alone is a hard class
        ({"a": [5, 5, 0, 0], "b": [5, 5, 0, 0]}, []),  # a half is not more than a half
        ({"a": [1, 3, 0, 0], "b": [3, 1, 0, 0], "c": [0, 0, 9, 0]}, []),  # four images say nothing
        ({"a": [0, 3, 3, 0], "b": [3, 0, 3, 0], "c": [0, 0, 30, 0]}, ["never right"]),
        ({"a": [0, 9, 1, 0], "b": [0, 0, 9, 1], "c": [1, 0, 0, 9], "d": [9, 1, 0, 0]}, ["guessing", "never right"]),
    ],
)
def test_what_speaks_against_the_labels(counts: dict[str, list[int]], said: list[str]) -> None:
    found = doubts_of(counts)
    assert len(found) == len(said)
    assert all(words in text for words, text in zip(said, found, strict=True))


def test_classes_without_a_folder_each_have_no_name() -> None:
    files = [Path("val", "x.jpg")] * 20
    text = doubts(Labels("some rule", {}), Classes(9), files, [0] * 10 + [1] * 10, [1] * 9 + [0] * 11)[-1]
    assert text.startswith("2 classes are never right, or mostly taken for one other: label 0: 9 of 10 predicted as 1;")


def test_what_is_asked_about_does_not_decide_the_label(tmp_path: Path) -> None:
    """One image, part of the folders or all: the same rule, so the same label."""
    named = Classes(3, None, (), ("dog", "cat", "bird"))
    for names, classes in (
        (("bird", "cat", "vogel"), named),
        (("0", "1", "a"), Classes(3)),
        (("1", "2", "3"), Classes(3)),
    ):
        paths, files = folders(tmp_path / names[-1], *(f"{name}/x.png" for name in names))
        whole = find_labels(paths, files, None, classes)
        for entry in paths:
            alone = find_labels([entry], {entry.path: files[entry.path]}, None, classes)
            assert (alone.rule, alone.of[entry.path]) == (whole.rule, whole.of[entry.path])
    (tmp_path / "a" / "a" / "x.png").unlink()  # a folder without images counts for the order alone
    assert find_labels(paths[:1], files, None, Classes(10)).rule == "the numbers that the class folders are called"


def test_many_doubtful_classes_are_counted() -> None:
    (_, text) = doubts_of(
        {f"c{label}": [5 * (other == (label + 1) % 20) for other in range(20)] for label in range(20)}, 20
    )
    assert text.startswith("20 classes are")
    assert "; and 15 more" in text


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
