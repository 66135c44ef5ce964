import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_app.data.image import UnreadableImageError, formats, open_image, read_image, suffixes

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def save(file: Path, image: Image.Image, **options: object) -> Path:
    image.save(file, **options)  # type: ignore[arg-type]
    return file


def test_sixteen_bits_are_scaled_and_not_saturated(tmp_path: Path) -> None:
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    for suffix in ("png", "tif"):
        pixels = np.asarray(read_image(save(tmp_path / f"deep.{suffix}", deep)))
        assert (pixels == RAMP[..., None]).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb_as_pillow_does(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    file = save(tmp_path / f"x.{suffix}", Image.fromarray(RAMP).convert("RGB").convert(mode))
    with Image.open(file) as image:
        assert image.mode == mode
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read_image(file)), expected)


def test_the_first_frame_and_no_rotation(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 8), value, dtype=np.uint8)) for value in (10, 200)]
    animated = read_image(save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:]))
    assert np.asarray(animated).max() <= 10
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(save(tmp_path / "r.jpg", frames[0], exif=exif)).size == (8, 4)


def test_floats_and_more_than_sixteen_bits_are_refused_with_the_reason(tmp_path: Path) -> None:
    floats = save(tmp_path / "f.tif", Image.fromarray(RAMP.astype(np.float32) / 255))
    with pytest.raises(UnreadableImageError, match=r"f.tif: ValueError: its pixels are floats, and nothing says which"):
        read_image(floats)
    for name, pixels in {"large": RAMP.astype(np.int32) * 1000, "negative": RAMP.astype(np.int32) - 9}.items():
        with pytest.raises(
            UnreadableImageError, match=rf"{name}.tif: ValueError: its pixels go from .* more than 16 bits"
        ):
            read_image(save(tmp_path / f"{name}.tif", Image.fromarray(pixels)))


def test_every_suffix_is_of_a_format_that_is_opened(tmp_path: Path) -> None:
    assert {".jpg", ".jpeg", ".jfif", ".jpe", ".jp2", ".png", ".avif", ".webp", ".bmp", ".tif", ".ppm"} <= suffixes()
    assert not {".eps", ".ps", ".pdf", ".heic", ".svg", ".wmf"} & suffixes()
    image = Image.fromarray(RAMP).convert("RGB")
    for name in formats():
        assert read_image(save(tmp_path / name, image, format=name)).size == (16, 16)


def test_postscript_never_comes_to_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / "photo.jpg", Image.fromarray(RAMP), format="EPS")
    called: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **how: called.append(args))
    with pytest.raises(UnreadableImageError, match="UnidentifiedImageError"):
        read_image(file)
    assert not called


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for read in (open_image, read_image):
        with pytest.raises(UnreadableImageError, match=r"pipe.jpg: no regular file"):
            read(tmp_path / "pipe.jpg")


def test_what_cannot_be_read_says_why(tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (photographs / "ant" / "00.jpg").read_bytes()
    for name, data in {"empty": b"", "text": b"hello", "cut": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableImageError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(UnreadableImageError, match="FileNotFoundError"):
        read_image(tmp_path / "no.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # a bomb is more than twice as large
    with pytest.raises(UnreadableImageError, match="DecompressionBombError"):
        read_image(photographs / "ant" / "00.jpg")
