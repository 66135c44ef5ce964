"""A study of images and names as they are found in the wild."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_app.cli import main
from lightning_app.data.image import UnreadableImageError, read_pixels
from tests.commands.test_run import OUT, rows, steps
from tests.torture import contents

RAMP = np.arange(48 * 32 * 3, dtype=np.uint8).reshape(32, 48, 3)
BOMB = 3000


def write_images(folder: Path) -> dict[str, bool]:
    """Images by file name, and whether they can be read."""
    plain = Image.fromarray(RAMP)
    frames = [Image.fromarray(np.full_like(RAMP, value)) for value in (10, 200)]
    rotated = Image.Exif()
    rotated[0x0112] = 6
    plain.save(folder / "whole.jpg")
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(RAMP[..., 0].astype(np.uint16) * 257).save(folder / "sixteen bits.png")
    plain.convert("L").save(folder / "grey.png")
    plain.convert("1").save(folder / "one bit.png")
    plain.convert("P").save(folder / "palette.png")
    plain.convert("RGBA").save(folder / "alpha.png")
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "animated.png", save_all=True, append_images=frames[1:])
    plain.save(folder / "rotated.jpg", exif=rotated)
    plain.save(folder / "first.webp")
    plain.save(folder / "png called.jpg", format="PNG")
    Image.fromarray(RAMP[:1, :1]).save(folder / "one pixel.png")
    plain.resize((1001, 1)).save(folder / "thread.png")
    plain.resize((BOMB, 1000)).save(folder / "bomb.png")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "zero bytes.jpg").write_bytes(b"")
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "corrupt.jpg").write_bytes(whole[:300] + bytes(300) + b"\xff\xd9")
    (folder / "corrupt.png").write_bytes((folder / "grey.png").read_bytes().replace(b"IDAT", b"IDOT"))
    (folder / "text.jpg").write_text("<html>404</html>")
    unreadable = {"thread.png", "bomb.png", "zero bytes.jpg", "truncated.jpg", "corrupt.png", "text.jpg"}
    return {file.name: file.name not in unreadable for file in folder.iterdir() if file.name != "corrupt.jpg"}


NAMES = [
    *("a space.jpg", 'a "quote".jpg', "'single'.jpg", "a,comma.jpg", "a\nnew\nline.jpg", "a\r.jpg", "a\ttab.jpg"),
    *("žluťoučký 猫 🐈.jpg", "e\u0301.jpg", "=1+1.jpg", "-rf.jpg", "$(touch sprung).jpg", "%s%n.jpg", "<script>.jpg"),
    *("x" * 251 + ".jpg", "é" * 125 + ".jpg", "back\\slash.jpg", "c:drive.jpg", ".hidden.jpg", "no_suffix", "..jpg"),
]


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, bool]]:
    """A folder of odd images under odd names, and whether each can be read, by ranked path."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", BOMB * 1000 // 2 - 1)
    root = tmp_path / "root"
    (root / "val").mkdir(parents=True)
    readable = {f"/far/val/{name}": good for name, good in write_images(root / "val").items()}
    image = (root / "val" / "grey.png").read_bytes()
    for number, name in enumerate(NAMES):
        # Each an image of its own: two paths of one image are refused. A backslash is a separator in a ranking.
        file = root / "val" / name.replace("\\", "/")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(image + bytes([number]))
        readable[f"val/{name}"] = True
    (root / "val" / "up.jpg").write_bytes(image)
    readable["../../etc/../val/up.jpg"] = True
    return root, readable


def test_each_works_or_is_an_error_with_its_reason(
    study: list[str], odd: tuple[Path, dict[str, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, readable = odd
    (root / "loop").symlink_to("loop")
    (root / "val" / "loop.jpg").symlink_to("loop.jpg")
    (root / "val" / "up.png").symlink_to("..")
    (root / "val" / "folder.jpg").mkdir()
    os.mkfifo(root / "val" / "pipe.jpg")
    missing = ["loop/x.jpg", "val/loop.jpg", "val/folder.jpg", "val/pipe.jpg", "val/" + "y" * 300 + ".jpg", "../up.jpg"]
    with Path("odd.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *((path, 1) for path in [*readable, *missing, "None"])])
    study += ["--examples_csv", "odd.csv", "--root_dir", str(root), "--select", "all", "--max_examples", "-1"]
    study += ["--max_steps_per_example", "2", "--epsilon", "1e-6", "--tensorboard_examples", "-1"]
    before = {path for path in Path().resolve().parent.rglob("*") if "outputs" not in path.parts}
    assert main(study) == 3
    assert f"{len(missing)} image files are missing and left out" in capsys.readouterr().err
    table = {row["path"]: row for row in rows()}
    assert {path: row["outcome"] != "error" for path, row in table.items()} == readable
    log = next(OUT.glob("*.log")).read_text(encoding="utf-8")
    for path, row in table.items():
        if readable[path]:
            assert len(steps(OUT, row)) == 2
        else:
            assert f"example {row['example_index']} (rank {row['universal_difficulty_rank']}) {path!r}: error: " in log
    # Nothing but the output folder was written.
    assert {path for path in Path().resolve().parent.rglob("*") if "outputs" not in path.parts} == before
    first = contents(OUT)
    assert main(study) == 3  # what is an error is tried again, everything else is kept
    assert contents(OUT) == first


def test_a_transform_that_fails_is_an_image_that_cannot_be_read(photographs: Path) -> None:
    def fails(image: Image.Image) -> None:
        raise MemoryError("too large")

    with pytest.raises(UnreadableImageError, match=r"00.jpg: MemoryError: too large"):
        read_pixels(photographs / "ant" / "00.jpg", fails)  # type: ignore[arg-type]
