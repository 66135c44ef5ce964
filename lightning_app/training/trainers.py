"""Builds Lightning's Trainers from the flags that the user gave."""

import copy
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning.pytorch as L

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
"""A Trainer that neither writes nor says anything."""


@dataclass(frozen=True)
class TrainerMaker:
    """Builds a new Trainer at every call. It can be sent to another process, where its callbacks and plugins can.

    Args:
        flags: The Trainer's arguments.
    """

    flags: Mapping[str, Any]

    def __call__(self, callbacks: Sequence[L.Callback]) -> L.Trainer:
        """A new Trainer, with these callbacks behind the user's."""
        theirs = self.flags.get("callbacks") or []
        flags = {**self.flags, "callbacks": theirs if isinstance(theirs, list) else [theirs]}
        # Copies: what one example leaves behind in a callback or a plugin must not reach the next.
        own = {name: copy.deepcopy(flags[name]) for name in ("callbacks", "plugins") if flags.get(name)}
        return L.Trainer(**{**flags, **own, "callbacks": [*own.get("callbacks", []), *callbacks]})

    def with_overrides(self, **flags: object) -> "TrainerMaker":
        """The same with some other arguments."""
        return replace(self, flags={**self.flags, **flags})

    def for_an_example(self) -> "TrainerMaker":
        """For one example: one epoch of all its steps, nothing but our callback to watch it."""
        return self.with_overrides(max_epochs=1, limit_val_batches=0, **QUIET)


def quieten_lightning() -> None:
    """Keeps to itself what Lightning would say again for every example."""
    # A Trainer for every example would repeat its banner and its hints for each; nothing in them is the user's to do.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # it is meant to be
    # Lightning 2.6 calls a jsonargparse method that is deprecated since 4.49.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
