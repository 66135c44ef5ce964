"""Universal difficulty: how many models get an image wrong."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from lightning_app.csv_text import csv_text

RANKING = "ranking.csv"


def rank_by_difficulty(
    paths: Sequence[str], correct: npt.NDArray[np.uint8], losses: npt.NDArray[np.float64]
) -> pd.DataFrame:
    """Ranks images by the share of models that get them wrong.

    Images with the same share are many; they are ordered by their mean loss over the models, then by path.

    Args:
        paths: Of the images.
        correct: 1 where a model is right, shape (models, images).
        losses: Cross-entropies, shape (models, images).

    Returns:
        A row an image, easiest first: path, rank (from 1, without ties), rank_average (images with the same share tie),
        n_correct, n_models, mean_loss.
    """
    n_correct = correct.sum(axis=0, dtype=np.int64)
    frame = pd.DataFrame(
        {
            "path": list(paths),
            "rank_average": rankdata(-n_correct),
            "n_correct": n_correct,
            "n_models": correct.shape[0],
            "mean_loss": losses.mean(axis=0),
        }
    )
    frame = frame.sort_values(["n_correct", "mean_loss", "path"], ascending=[False, True, True], ignore_index=True)
    frame.insert(1, "rank", np.arange(1, len(frame) + 1))
    return frame


def write_ranking(folder: Path, ranking: pd.DataFrame) -> None:
    """Writes ranking.csv, a table that `--examples_csv` reads.

    Args:
        folder: Gets the file.
        ranking: As `rank_by_difficulty` makes it.
    """
    text = csv_text([list(ranking.columns), *ranking.to_numpy(dtype=object).tolist()])
    (folder / RANKING).write_text(text, encoding="utf-8", newline="")
