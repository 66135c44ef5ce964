from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_app.training.photograph import UnreadableImageError, read_photograph

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def save(file: Path, image: Image.Image, **options: object) -> Path:
    image.save(file, **options)  # type: ignore[arg-type]
    return file


def test_sixteen_bits_are_scaled_and_not_saturated(tmp_path: Path) -> None:
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    for suffix in ("png", "tif"):
        pixels = np.asarray(read_photograph(save(tmp_path / f"deep.{suffix}", deep)))
        assert (pixels == RAMP[..., None]).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb_as_pillow_does(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    file = save(tmp_path / f"x.{suffix}", Image.fromarray(RAMP).convert("RGB").convert(mode))
    with Image.open(file) as image:
        assert image.mode == mode
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read_photograph(file)), expected)


def test_the_first_frame_and_no_rotation(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 8), value, dtype=np.uint8)) for value in (10, 200)]
    animated = read_photograph(save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:]))
    assert np.asarray(animated).max() <= 10
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_photograph(save(tmp_path / "r.jpg", frames[0], exif=exif)).size == (8, 4)


def test_what_cannot_be_read_says_why(tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (photographs / "ant" / "00.jpg").read_bytes()
    for name, data in {"empty": b"", "text": b"hello", "cut": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableImageError, match=name):
            read_photograph(tmp_path / name)
    with pytest.raises(UnreadableImageError, match="FileNotFoundError"):
        read_photograph(tmp_path / "no.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # a bomb is more than twice as large
    with pytest.raises(UnreadableImageError, match="DecompressionBombError"):
        read_photograph(photographs / "ant" / "00.jpg")
