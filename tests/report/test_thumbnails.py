import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_app.report.thumbnails import EXTREMES, MAX_THUMBNAILS, choose, thumbnail
from tests.report.making import frame


def test_a_small_page_has_them_all() -> None:
    assert choose([frame(3), frame(2)], False, 0) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_a_large_page_has_the_extremes_and_a_seeded_sample() -> None:
    examples = frame(5000)
    chosen = choose([examples], False, 1)
    assert len(chosen) == len(set(chosen)) == MAX_THUMBNAILS
    positions = {position for _, position in chosen}
    for column in ("universal_difficulty_rank", "steps"):
        order = np.argsort(examples[column].to_numpy(), kind="stable")
        assert {*order[:EXTREMES], *order[-EXTREMES:]} <= positions
    assert chosen == choose([examples], False, 1)
    assert chosen != choose([examples], False, 2)
    assert len(choose([examples], True, 1)) == 5000


@pytest.mark.parametrize("studies", [2, 300])
def test_many_studies_share_the_room(studies: int) -> None:
    chosen = choose([frame(3000 // studies + 10)] * studies, False, 0)
    assert len(chosen) == MAX_THUMBNAILS
    assert {number for number, _ in chosen} == set(range(studies))


def _made(image: Image.Image, name: str, **how: Any) -> tuple[Image.Image, str]:
    image.save(name, **how)
    made = thumbnail(Path(name))
    assert made is not None
    return Image.open(io.BytesIO(made[1])), made[0]


def test_a_photograph_becomes_a_small_jpeg_without_its_notes() -> None:
    small, kind = _made(Image.new("RGB", (1000, 500), "red"), "a.jpg", comment=b"secret", icc_profile=b"secret")
    assert (small.format, kind, small.size) == ("JPEG", "jpeg", (128, 64))
    assert not {"comment", "icc_profile", "exif"} & set(small.info)


def test_a_tiny_image_is_kept_exactly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    small, kind = _made(Image.fromarray(pixels), "a.png")
    assert (small.format, kind) == ("PNG", "png")
    assert np.array_equal(np.asarray(small), pixels)


def test_one_of_middle_size_is_not_enlarged() -> None:
    assert _made(Image.new("RGB", (100, 20)), "a.png")[0].size == (100, 20)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    small, _ = _made(Image.new("RGB", (300, 200), "blue").convert(mode), "a.tif")
    assert (small.mode, small.size) == ("RGB", (128, 85))


def test_sixteen_bits_are_scaled() -> None:
    small, _ = _made(Image.fromarray(np.full((20, 20), 32896, dtype=np.uint16)), "a.png")
    assert set(np.asarray(small).ravel().tolist()) == {128}


def test_sixteen_bits_are_rounded_as_the_model_was_shown_them() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (64, 40), dtype=np.uint16)
    small, kind = _made(Image.fromarray(values), "a.png")
    assert kind == "png"
    expected = Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8)).convert("RGB")
    assert np.array_equal(np.asarray(small), np.asarray(expected))


def test_a_tall_sixteen_bit_image_is_whole() -> None:
    rows = np.repeat(np.arange(1000, dtype=np.uint16)[:, None] * 65, 20, axis=1)
    small, _ = _made(Image.fromarray(rows), "a.png")
    grey = np.asarray(small)[:, 1, 0].astype(int)
    assert np.abs(grey - np.linspace(0, 252, len(grey))).max() < 6


def test_a_large_sixteen_bit_image_takes_little_memory() -> None:
    Image.fromarray(np.zeros((6000, 6000), dtype=np.uint16)).save("large.png", compress_level=1)
    code = (
        "import resource; from pathlib import Path; from lightning_app.report.thumbnails import thumbnail;"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024; before = most();"
        f"assert thumbnail(Path({str(Path('large.png').resolve())!r})); print(most() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[2])
    assert float(done.stdout) < 160  # MiB; the image itself has 69, and in int64 it would have 275 more


def test_the_first_frame_is_shown() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    small, _ = _made(frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert small.getpixel((5, 5)) == (255, 0, 0)


def test_what_cannot_be_read_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("text.jpg").write_text("no image")
    assert thumbnail(Path("text.jpg")) is None
    assert thumbnail(Path("missing.jpg")) is None
    assert thumbnail(Path()) is None
    Image.effect_noise((200, 200), 50).save("cut.jpg")
    Path("cut.jpg").write_bytes(Path("cut.jpg").read_bytes()[:2000])
    assert thumbnail(Path("cut.jpg")) is None
    Image.new("RGB", (100, 100)).save("large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_000)  # one and a half times warns, twice raises
    assert thumbnail(Path("large.png")) is None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4_000)
    assert thumbnail(Path("large.png")) is None
