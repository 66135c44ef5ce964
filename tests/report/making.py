"""Studies made up for the page's tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lightning_app.report.page import Picture, StudyOnPage, Table

FORMULAS = ("=cmd|' /C calc'!A0.jpg", "+1,5.jpg", "-2.jpg", "@SUM(1).jpg", "\t=tab.jpg", '\r="return".jpg')
HOSTILE = (
    "<script>alert(1)</script>.jpg",
    '"><img src=x onerror=alert(2)>, and "quotes".jpg',
    "two\nlines, </script><script>alert(3)</script>.jpg",
    "line\u2028separator & <b>bold</b> ${title} $title.jpg",
    "broken \udcff name.jpg",
    *FORMULAS,
)
CLASSES = {0: "<script>alert(4)</script>", 1: "<img src=x onerror=alert(5)>", 2: "=cmd, 'quoted'"}
LIMIT = 100


def frame(count: int, limit: int = LIMIT) -> pd.DataFrame:
    """Examples of spread steps and ranks; each tenth isn't reached; the first have hostile names."""
    rng = np.random.default_rng(count)
    missed = np.arange(count) % 10 == 9
    steps = np.where(missed, limit + 1, np.rint(np.geomspace(1, limit * 0.8, count)))
    paths = [HOSTILE[i] if i < len(HOSTILE) else f"class{i % 3}/{i:05}.jpg" for i in range(count)]
    return pd.DataFrame(
        {
            "example_index": np.arange(count),
            "path": paths,
            "outcome": np.where(missed, np.where(np.arange(count) % 20 == 19, "diverged", "censored"), "reached"),
            "steps": steps.astype(np.float64),
            "not_reached": missed,
            "universal_difficulty_rank": rng.permutation(count) * 7 + 1,
            "label": np.arange(count) % 3,
            "predicted_before": (np.arange(count) + 1) % 3,
            "initial_loss": rng.gamma(2, 1, count),
            "final_loss": np.where(missed, 0.5 + rng.random(count), rng.random(count) * 0.01),
        }
    )


def losses(position: int) -> Sequence[float]:
    """A curve of as many steps as the position and two more, at most 300; every seventh is missing."""
    if position % 7 == 6:
        raise FileNotFoundError(f"example_{position}")
    return [3 / step for step in range(1, min(position + 2, 300) + 1)]


def study(
    examples: pd.DataFrame,
    images: Path | None = None,
    name: str = "a study",
    class_names: Mapping[int, str] = CLASSES,
    limit: int = LIMIT,
) -> StudyOnPage:
    """A study of some examples; those at even positions have an image where there is a folder for them."""

    def image_of(position: int) -> Path | None:
        if images is None or position % 2:
            return None
        file = images / f"{position}.png"
        if not file.exists():
            Image.new("RGB", (32, 32), (position % 256, 80, 120)).save(file)
        return file

    return StudyOnPage(name, examples, 0.01, limit, (0.1, 0.01), losses, image_of, class_names)


TABLES = (Table("Correlation <b>", ("Statistic", "Value"), (("Spearman </td>", "0.4"),), ("A note & more.",)),)


def picture(folder: Path) -> Picture:
    """A small PNG."""
    file = folder / "made.png"
    Image.new("RGB", (40, 30), "white").save(file)
    return Picture("survival.png", file.read_bytes(), 'Survival "quoted" <script>alert(6)</script>')
