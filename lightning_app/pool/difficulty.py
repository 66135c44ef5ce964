"""Universal difficulty: how many models get an image wrong."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from lightning_app.files import csv_text
from lightning_app.pool.matrix import Pool


def rank_by_difficulty(pool: Pool) -> pd.DataFrame:
    """Ranks images by the share of models that get them wrong.

    Images with the same share are many; they are ordered by their mean loss over the models, where the pool has losses,
    then by path.

    Args:
        pool: Of M models and N images.

    Returns:
        N rows, easiest first: path, rank (from 1, without ties), label (if the pool hands labels on), rank_average
        (images with the same share tie), n_correct, n_models, mean_loss (NaN without losses).
    """
    n_correct = pool.correct.sum(axis=0, dtype=np.int64)
    frame = pd.DataFrame(
        {
            "path": list(pool.paths),
            "rank_average": rankdata(-n_correct),
            "n_correct": n_correct,
            "n_models": len(pool.names),
            "mean_loss": mean_loss(pool),
        }
    )
    if pool.labels is not None:
        frame.insert(1, "label", pool.labels)
    frame = frame.sort_values(["n_correct", "mean_loss", "path"], ascending=[False, True, True], ignore_index=True)
    frame.insert(1, "rank", np.arange(1, len(frame) + 1))
    return frame


def average_ranks(n_correct: npt.NDArray[np.int64], losses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 1, easiest first; images that are equal in both share the mean of their ranks.

    Args:
        n_correct: How many models are right, shape (images,).
        losses: What decides between equals: less is easier; NaN for none. Shape (images,).
    """
    losses = np.broadcast_to(np.nan_to_num(losses), n_correct.shape)
    order = np.lexsort((losses, -n_correct))
    is_new = (np.diff(n_correct[order]) != 0) | (np.diff(losses[order]) != 0)
    group = np.concatenate([[0], is_new.cumsum()])
    sizes = np.bincount(group)
    ranks = np.empty(len(order))
    ranks[order] = (sizes.cumsum() - (sizes - 1) / 2)[group]
    return ranks


def mean_loss(pool: Pool) -> npt.NDArray[np.float64]:
    """The mean cross-entropy of each image over the models, shape (images,); NaN where the pool has no losses."""
    if pool.losses is None:
        return np.full(len(pool.paths), np.nan)
    return np.asarray(pool.losses.mean(axis=0, dtype=np.float64))


def say_ties(ranking: pd.DataFrame) -> str:
    """How many images share their place with others, and what decides between them."""
    tied = int(ranking["n_correct"].duplicated(keep=False).sum())
    if not tied:
        return f"No two of the {len(ranking):,} images have the same number of wrong models"
    by = "path, since the pool has no losses" if ranking["mean_loss"].isna().all() else "mean loss, then by path"
    return f"{tied:,} of {len(ranking):,} images have as many models wrong as another image has: ordered by {by}"


def ranking_text(ranking: pd.DataFrame) -> str:
    """A ranking as a table that `--examples_csv` reads."""
    cells = ranking.astype(object).where(ranking.notna(), None).to_numpy(dtype=object).tolist()
    return csv_text([list(ranking.columns), *cells])


def one_line(ranking: pd.DataFrame) -> str | None:
    """The published form: all paths on one line, easiest first; None where a path can't stand there."""
    paths = ranking["path"].tolist()
    if any("\n" in path or "\r" in path for path in paths) or (len(paths) == 1 and "," in paths[0]):
        return None
    return csv_text([paths])
