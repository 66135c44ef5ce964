from pathlib import Path

import pytest

from lightning_app.errors import BadInputError
from lightning_app.inputs.images import find_images
from lightning_app.inputs.ranking import RankedPath


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
