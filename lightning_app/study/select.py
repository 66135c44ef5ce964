"""Chooses the sample: by the matrix's row, or by asking the model itself."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import torch
from tqdm import tqdm

from lightning_app.console.log import log_left_out
from lightning_app.console.progress import progress_bar, seconds_between_bars
from lightning_app.data.correctness import ModelRow
from lightning_app.data.image import UnreadableImageError
from lightning_app.data.images import Images
from lightning_app.data.labels import Labels, doubts
from lightning_app.data.ranking import RankedPath, Ranking
from lightning_app.data.sampling import draw_sample, in_draw_order
from lightning_app.errors import BadInputError
from lightning_app.settings import StudySettings
from lightning_app.store.predictions import PredictionCache
from lightning_app.training.device import Device
from lightning_app.training.pretrained import Pretrained, predict

log = logging.getLogger("lightning_app")

ACCURACY_SAMPLE = 50
DOUBTFUL_AGREEMENT = 0.9


class SampleSelector:
    """Draws the sample, and says what is odd about it.

    Args:
        settings: Of the study.
        images: The files of the ranking's images.
        labels: Their labels.
        pretrained: The model, asked where no matrix answers.
        device: Where it is asked.
        predictions: What it said before.
    """

    def __init__(
        self,
        settings: StudySettings,
        images: Images,
        labels: Labels,
        pretrained: Pretrained,
        device: Device,
        predictions: PredictionCache,
    ) -> None:
        self.settings = settings
        self.images = images
        self.labels = labels
        self.pretrained = pretrained
        self.device = device
        self.predictions = predictions
        self.unreadable: dict[str, str] = {}
        self._seconds: list[float] = []
        self.available: int | None = None

    def choose(self, ranking: Ranking, model_row: ModelRow | None) -> list[RankedPath]:
        """Draws the sample, in draw order.

        Args:
            ranking: All paths.
            model_row: What the matrix says of this model, or None: the model is asked, in draw order, until the sample
                is full.

        Raises:
            BadInputError: If nothing is left to train on.
        """
        candidates = [entry for entry in ranking.paths if entry.path in self.images.files]
        self.pretrained.network.to(self.device.root)
        try:
            if model_row is None:
                sample = self._draw_by_predicting(candidates)
            else:
                candidates = self._known(candidates, model_row)
                sample = self._draw(candidates, lambda entry: model_row.correct[entry.path])
                right = sum(model_row.correct[entry.path] for entry in candidates)
                counts = {"correct": right, "wrong": len(candidates) - right, "all": len(candidates)}
                self.available = counts[self.settings.select]
                self._compare(candidates, sample, model_row)
        finally:
            self.pretrained.network.to("cpu")
            torch.cuda.empty_cache()  # whoever trains looks how much memory is free; nothing without CUDA
        for reason in self.unreadable.values():  # said once the bar is gone
            log.warning("an image can't be read: %s", reason)
        kind = "" if self.settings.select == "all" else f"{self.settings.select} "
        if not sample:
            raise BadInputError(
                f"--select {self.settings.select}: the model has no such image among the {len(candidates)} there are"
            )
        if len(sample) < self.settings.max_examples:
            log.warning(
                "--max_examples %d, but there are only %d %simages", self.settings.max_examples, len(sample), kind
            )
        unread = sum(entry.path in self.unreadable for entry in sample)
        of_them = f", of them {unread} that can't be read" if unread else ""
        log.info("Sample: %d %simages drawn with seed %d%s", len(sample), kind, self.settings.seed, of_them)
        return sample

    @property
    def seconds_a_prediction(self) -> float:
        """The median time of an image that the model was asked about now; NaN without one."""
        return float(np.median(self._seconds)) if self._seconds else math.nan

    def _draw(self, candidates: list[RankedPath], is_correct: Callable[[RankedPath], bool | None]) -> list[RankedPath]:
        settings = self.settings
        return draw_sample(candidates, settings.seed, settings.select, is_correct, settings.max_examples)

    def _draw_by_predicting(self, candidates: list[RankedPath]) -> list[RankedPath]:
        asked: list[RankedPath] = []

        def ask_and_keep(entry: RankedPath) -> bool | None:
            asked.append(entry)
            return self._is_correct(entry, bar)

        with self._bar(len(candidates)) as bar:
            sample = self._draw(candidates, ask_and_keep)
        self._say_accuracy(asked, "The")
        return sample

    def _compare(self, candidates: list[RankedPath], sample: list[RankedPath], model_row: ModelRow) -> None:
        """Asks the model about the sample, to see that the row is its own, and about some others, to see the labels."""
        others = in_draw_order(candidates, self.settings.seed)[:ACCURACY_SAMPLE]
        with self._bar(len(sample) + len(others)) as bar:
            for entry in others:
                self._is_correct(entry, bar)
            own = {entry.path: self._is_correct(entry, bar) for entry in sample}
        self._say_accuracy(others, "To check the labels, the")
        agreed = [answer == model_row.correct[path] for path, answer in own.items() if answer is not None]
        if agreed:
            self._say_agreement(agreed, model_row)

    def _bar(self, total: int) -> "tqdm[NoReturn]":
        return progress_bar(total=total, desc="Asking the model", unit="image", delay=seconds_between_bars())

    def _is_correct(self, entry: RankedPath, bar: "tqdm[NoReturn]") -> bool | None:
        """Whether the model gets an image right, or None if it can't be read."""
        bar.update()
        label = self.labels.of[entry.path]
        answer = self.predictions.get(entry.path, label)
        if answer is None:
            file = self.images.files[entry.path]
            started = time.perf_counter()
            try:
                answer = predict(self.pretrained.network, self.pretrained.transform, file, label, self.device.root)
            except UnreadableImageError as error:
                self.unreadable[entry.path] = str(error)
                return None
            self._seconds.append(time.perf_counter() - started)
            self.predictions.put(entry.path, label, answer)
        return answer[0]

    def _known(self, candidates: list[RankedPath], model_row: ModelRow) -> list[RankedPath]:
        for remark in model_row.remarks:
            log.warning("%s", remark)
        log_left_out("ranked paths are not in the matrix and are left out", model_row.unknown)
        known = [entry for entry in candidates if entry.path in model_row.correct]
        log.info("Correctness: row %d of the matrix, from 0 (%s), right on %.1f %%",
                 model_row.row, model_row.name, 100 * model_row.accuracy)  # fmt: skip
        return known

    def _say_accuracy(self, asked: Sequence[RankedPath], why_the: str) -> None:
        """Of images that were drawn whatever the model says of them."""
        known = [(e.path, self.labels.of[e.path], self.predictions.get(e.path, self.labels.of[e.path])) for e in asked]
        answers = [(path, label, *answer) for path, label, answer in known if answer is not None]
        if not answers:
            return
        paths, labels, correct, predicted = zip(*answers, strict=True)
        right = sum(correct)
        log.info("%s model was asked about %d images and gets %d right (%.1f %%)",
                 why_the, len(answers), right, 100 * right / len(answers))  # fmt: skip
        files = [self.images.files[path] for path in paths]
        for doubt in doubts(self.labels, self.pretrained.classes, files, labels, predicted):
            log.warning("%s", doubt)

    def _say_agreement(self, agreed: list[bool], model_row: ModelRow) -> None:
        share = sum(agreed) / len(agreed)
        log.info("The row and the model's own forward agree on %d of the sample's %d images (%.1f %%)",
                 sum(agreed), len(agreed), 100 * share)  # fmt: skip
        if share < DOUBTFUL_AGREEMENT:
            log.warning("that is little: is row %s of this model, and are the labels right? (they are by %s)",
                        model_row.name, self.labels.rule)  # fmt: skip
