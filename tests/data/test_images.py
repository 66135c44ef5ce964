import os
from pathlib import Path

import pytest

from lightning_app.data.image import suffixes
from lightning_app.data.images import find_images, images_below
from lightning_app.data.ranking import RankedPath
from lightning_app.errors import BadInputError


def ranked(*paths: str) -> list[RankedPath]:
    return [RankedPath(path, i, i + 1) for i, path in enumerate(paths)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.jpg", "val/a.jpg", "val/n1/a.jpg", "val/n1/b c,d.jpg", "x/val/n1/a.jpg"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(b"")
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("path", "image"),
    [
        ("/home/x/val/n1/a.jpg", "x/val/n1/a.jpg"),  # the longest tail, not the shortest
        ("/home/y/val/n1/a.jpg", "val/n1/a.jpg"),
        ("/home/y/n1/a.jpg", "a.jpg"),
        ("C:\\data\\val\\n1\\a.jpg", "val/n1/a.jpg"),
        ("//val/./n1//b c,d.jpg", "val/n1/b c,d.jpg"),
        ("val/../../val/a.jpg", "val/a.jpg"),  # never a tail with ..
        ("val/n1/..", None),
        ("val/n1", None),  # a folder is no image
        ("other.jpg", None),
    ],
)
def test_the_longest_tail_below_the_root_is_the_image(root: Path, path: str, image: str | None) -> None:
    images = find_images(ranked(path, "y/val/n1/b c,d.jpg" if image != "val/n1/b c,d.jpg" else "a.jpg"), root)
    assert images.files.get(path) == (None if image is None else root / image)
    assert images.missing == (() if image else (path,))


def test_without_a_root_paths_are_taken_as_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    images = find_images(ranked("val/a.jpg", f"{root}/a.jpg", "no.jpg"), None)
    assert images.files == {"val/a.jpg": Path("val/a.jpg"), f"{root}/a.jpg": root / "a.jpg"}
    assert images.missing == ("no.jpg",)


def test_two_paths_of_one_image_are_named(root: Path) -> None:
    with pytest.raises(BadInputError, match=r"'/p/val/a.jpg' and '/q/val/a.jpg' are one image"):
        find_images(ranked("/p/val/a.jpg", "/q/val/a.jpg"), root)


def test_links_to_one_image_are_twins_and_a_link_is_followed_as_written(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    (root / "linked").symlink_to(root / "val" / "n1", target_is_directory=True)
    with pytest.raises(BadInputError, match=r"'val/n1/a.jpg' and 'linked/a.jpg' are one image"):
        find_images(ranked("val/n1/a.jpg", "linked/a.jpg"), None)
    with pytest.raises(BadInputError, match="are one image"):
        find_images(ranked("a.jpg", f"{root}/a.jpg"), None)
    found = find_images(ranked("linked/../a.jpg"), None).files["linked/../a.jpg"]
    assert found.samefile("val/a.jpg")  # not a.jpg: .. leaves the folder that the link leads to


def test_none_found_shows_a_path_that_was_looked_for(root: Path) -> None:
    with pytest.raises(BadInputError, match=r"--root_dir .*none of the ranking's 1 images.*'/p/n9/z.jpg'.*/n9/z.jpg"):
        find_images(ranked("/p/n9/z.jpg"), root)
    with pytest.raises(BadInputError, match=r"'/p/n9/z.jpg' .*give --root_dir"):
        find_images(ranked("/p/n9/z.jpg"), None)


def test_copies_in_nobodys_folders_are_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = ("val/.ipynb_checkpoints/a-checkpoint.jpg", "val/n1/@eaDir/a.jpg/SYNO.jpg", "__MACOSX/val/n1/a.jpg")
    for name in copies:
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"")
    for where, prefix in ((root, "/elsewhere/"), (None, "")):
        monkeypatch.chdir(root)
        found = find_images(ranked(*(f"{prefix}{name}" for name in ("val/n1/a.jpg", *copies))), where)
        assert found.foreign == tuple(f"{prefix}{name}" for name in copies)
        assert found.files.keys() == {f"{prefix}val/n1/a.jpg"}


def test_a_hidden_folder_that_holds_all_images_is_the_users(root: Path) -> None:
    for hidden in (root / ".cache" / "val", root / ".cache" / "train"):
        hidden.mkdir(parents=True)
        (hidden / "x.jpg").write_bytes(b"")
    paths = [str(root / ".cache" / part / "x.jpg") for part in ("val", "train")]
    assert find_images(ranked(*paths, "/not/there.jpg"), None).foreign == ()
    assert find_images(ranked(*paths), root / ".cache").files.keys() == {*paths}
    with pytest.raises(BadInputError, match=r"hidden folders or those of file managers, for example '.*val/x.jpg'"):
        find_images(ranked(*paths), root)


def test_what_is_below_a_folder_and_what_is_left_out(root: Path) -> None:
    for name in (
        "val/.trash/a.jpg",
        "val/@eaDir/a.jpg",
        "val/n1/p.heic",
        "val/n1/q.HEIC",
        "val/n1/notes",
        "LICENSE.txt",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    for suffix in sorted(suffixes()):
        (root / "val" / f"other{suffix.upper()}").write_bytes(b"")
    os.link(root / "val" / "a.jpg", root / "val" / "n1" / "z.jpg")
    (root / "val" / "n1" / "link.jpg").symlink_to(root / "a.jpg")
    (root / "val" / "n1" / "gone.jpg").symlink_to(root / "gone.jpg")
    os.mkfifo(root / "val" / "pipe.jpg")
    below = images_below(root)
    inside = [path.removeprefix(f"{root}/") for path in below.paths]
    assert [path for path in inside if "other" not in path] == [
        "a.jpg", "val/a.jpg", "val/n1/a.jpg", "val/n1/b c,d.jpg", "x/val/n1/a.jpg",
    ]  # fmt: skip
    assert {Path(path).suffix.lower() for path in inside if "other" in path} == suffixes()
    assert below.foreign == (f"{root}/val/.trash", f"{root}/val/@eaDir")
    assert below.twins == (f"{root}/val/n1/z.jpg ({root}/val/a.jpg)", f"{root}/val/n1/link.jpg ({root}/a.jpg)")
    assert [name.partition(" (")[0] for name in below.unreadable] == [f"{root}/val/pipe.jpg", f"{root}/val/n1/gone.jpg"]
    assert below.format_others() == "2 .heic, 1 .txt, 1 without a suffix"


def test_a_folder_that_is_a_link_to_another_is_left_out_and_named(root: Path) -> None:
    (root / "a_link").symlink_to(root / "x")
    (root / "x" / "back").symlink_to(root)
    below = images_below(root)
    assert f"{root}/x/val/n1/a.jpg" in below.paths
    assert below.twins == (f"{root}/x/back ({root})", f"{root}/a_link ({root}/x)")


def test_a_file_keeps_its_own_place_before_a_link_to_it(root: Path) -> None:
    (root / "val" / "first").mkdir()
    (root / "val" / "first" / "a.jpg").symlink_to(root / "val" / "n1" / "a.jpg")
    below = images_below(root / "val")
    assert f"{root}/val/n1/a.jpg" in below.paths
    assert below.twins == (f"{root}/val/first/a.jpg ({root}/val/n1/a.jpg)",)
    assert list(below.paths) == sorted(below.paths)


def test_folders_that_cannot_be_read_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("n1"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    below = images_below(root)
    assert below.unreadable == (f"{root}/val/n1 (Permission denied)", f"{root}/x/val/n1 (Permission denied)")
    assert len(below.paths) == 2
    with pytest.raises(BadInputError, match=r"n1 can't be read: Permission denied"):
        images_below(root / "val" / "n1")


def test_a_folder_without_an_image_says_what_is_there_instead(root: Path) -> None:
    for name in ("e/.x/a.jpg", "e/b.heic"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    with pytest.raises(BadInputError, match=r"holds no image .*avif.*: .*/e/.x; other files: 1 .heic"):
        images_below(root / "e")
