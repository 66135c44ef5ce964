"""The study, in the order of its steps: ranking, what is wrong, sample, training, record, analysis."""

import logging
import math
import shlex
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.concluding import Account, conclude, say_closing
from lightning_app.engines import choose_engine
from lightning_app.errors import BadInputError, StorageError, WorkersError
from lightning_app.exit_codes import DONE, DONE_WITH_ERRORS
from lightning_app.inputs.example import Example
from lightning_app.inputs.ranking_facts import ranking_facts
from lightning_app.parallel.hiring import several_workers
from lightning_app.preparing import Lightning, Prepared, prepare, show_sample
from lightning_app.progress import FILE_ONLY, StudyBar, StudyLog
from lightning_app.results.fingerprint import (
    Fingerprint,
    Goal,
    Stretch,
)
from lightning_app.results.records import Row, path_of
from lightning_app.results.resuming import Stock, take_stock
from lightning_app.results.run_folder import Found, RunFolder
from lightning_app.results.study_files import TENSORBOARD, folder_name
from lightning_app.results.tensorboard import Curves, LightningLogger, TensorBoardFolder, Viewer, shown_examples
from lightning_app.settings import HOW_NOT_WHAT, WHO_TRAINS, StudySettings
from lightning_app.stopping import StopSignal, exit_at_once, stop_between_examples
from lightning_app.training.engine import Engine
from lightning_app.training.trajectory import Failure, StopRule, Trajectory

log = logging.getLogger("lightning_app")


def run_study(settings: StudySettings, lightning: Lightning, config: str) -> int:
    """Runs a whole study, or goes on with one that is there.

    Args:
        settings: Checked.
        lightning: Lightning's part of the command line.
        config: The text of `config.yaml`: this study, to be run again.

    Returns:
        The exit code.

    Raises:
        BadInputError: Before any training.
        StorageError: If a result can't be written.
    """
    with opened(settings) as (folder, study_log):
        return _run(settings, lightning, config, folder, study_log)


@contextmanager
def opened(settings: StudySettings) -> Iterator[tuple[RunFolder, StudyLog]]:
    """Holds a study's folder, and logs what ends the work on it.

    Raises:
        BadInputError: If another process holds the folder, or it can't be written.
        StorageError: If a result can't be written.
    """
    with StudyLog() as study_log:
        try:
            folder = RunFolder(settings.output_dir / folder_name(settings.model_name, settings.part))
            with folder.locked():
                yield folder, study_log
        except BadInputError:
            raise
        except StorageError as error:
            log.error("%s", error, extra=FILE_ONLY)
            raise StorageError(
                f"{error}. What is done is whole; once it can be written, the same command goes on"
            ) from error
        except WorkersError as error:
            log.error("%s", error, extra=FILE_ONLY)
            raise WorkersError(f"{error}. What is done is whole, and the same command goes on") from error
        except Exception as error:
            log.critical("ended by an error that is not yours: %s: %s", type(error).__name__,
                         " ".join(str(error).split()), exc_info=True, extra=FILE_ONLY)  # fmt: skip
            raise


def _run(settings: StudySettings, lightning: Lightning, config: str, folder: RunFolder, study_log: StudyLog) -> int:
    started = time.monotonic()
    deadline = math.inf if settings.max_hours is None else started + 3600 * settings.max_hours
    with ExitStack() as at_the_end:
        with exit_at_once("; the same command goes on"):
            prepared = prepare(settings, lightning, folder)
            if settings.dry_run:
                show_sample(prepared)
                if prepared.found is not None:
                    _say_stock(stock_of(prepared), prepared.found, settings.max_steps_per_example)
                return DONE
            everything = stock_of(prepared)
            workers = (
                at_the_end.enter_context(several_workers(prepared, lightning, everything.examples, folder.folder))
                if everything.left
                else None
            )
            aside = folder.move_aside() if settings.overwrite else None
            study_log.to_file(folder.folder / f"train_single_{datetime.now():%Y%m%d-%H%M%S}.log")
            if aside is not None:
                log.info("The study that was here is now in %s", aside)
            stock = go_on(prepared, folder, config)
        with stop_between_examples(deadline, workers is not None) as stop:
            failures = train(prepared, stock, stock.left, lightning, folder, stop, workers)
            at_the_end.close()
            account = account_of(prepared)
            closing, left = conclude(account, frozenset(stock.beyond), folder, time.monotonic() - started)
            say_closing(account, closing, folder)
    if stop.came is not None or (stop.is_over and left):
        _say_how_to_go_on(stop, stock, folder.rows, left)
        return 128 + (stop.came or signal.SIGTERM)
    if failures:
        log.warning("%d examples are errors; the log names their reasons, the same command tries them again", failures)
        return DONE_WITH_ERRORS
    return DONE


def go_on(prepared: Prepared, folder: RunFolder, config: str, goal: Goal | None = None) -> Stock:
    """Takes stock of what is there, numbers it anew where the sample has grown, and writes what the study is.

    Args:
        prepared: The study.
        folder: Its folder.
        config: The text of `config.yaml`.
        goal: What the study is to become; by default what was asked for.
    """
    found, limit = prepared.found, prepared.settings.max_steps_per_example
    stock = stock_of(prepared)
    stretches: tuple[Stretch, ...] = (Stretch(prepared.environment),)
    trained_for = 0
    if found is not None:
        stretches = found.fingerprint.went_on(prepared.environment, [path_of(row) for row in stock.rows])
        trained_for = found.fingerprint.trained_for
        _say_stock(stock, found, limit)
    goal = goal or Goal(len(stock.examples), limit, stock.beyond, prepared.shard)
    fingerprint = Fingerprint(prepared.identity, stretches, goal, trained_for)
    folder.start(fingerprint, config, found.rows if found else [], stock.rows)
    return stock


def stock_of(prepared: Prepared) -> Stock:
    """What is there of the sample, and what is left to train."""
    rows, logged = (prepared.found.rows, prepared.found.logged) if prepared.found else ([], frozenset())
    return take_stock(prepared.sample, rows, logged, prepared.settings.max_steps_per_example)


def _say_stock(stock: Stock, found: Found, limit: int) -> None:
    if found.torn:
        log.warning("The table ended in the middle of a row; what there was of it is set aside here, and its example"
                    " is trained again: %r", found.torn.decode(errors="replace"))  # fmt: skip
    outcomes = {path_of(row): row["outcome"] for row in found.rows}
    for path in stock.dropped:
        reason = "was an error" if outcomes[path] == "error" else "has lost its step log"
        log.info("%r %s and is trained again", path, reason)
    again = f", {len(stock.again)} of them censored at fewer steps than {limit}" if stock.again else ""
    log.info("Going on: %d of %d examples done and kept, %d left%s",
             len(stock.done), len(stock.examples), len(stock.left), again)  # fmt: skip
    if stock.beyond:
        log.info("%d more rows are not in this sample; they stay in the table, the answer leaves them out",
                 len(stock.beyond))  # fmt: skip


def train(
    prepared: Prepared,
    stock: Stock,
    examples: Sequence[Example],
    lightning: Lightning,
    folder: RunFolder,
    stop: StopSignal,
    engine: Engine | None = None,
) -> int:
    """Trains examples of the sample, begun in the order given, and puts each on disk as soon as it ends.

    Args:
        prepared: The study.
        stock: What is there of it.
        examples: What to train.
        lightning: Lightning's part of the command line.
        folder: Of the study.
        stop: Ends the training early.
        engine: What trains; by default it is chosen here.

    Returns:
        How many could not be trained.

    Raises:
        BadInputError: If Lightning refuses its flags at the first example.
    """
    with curves_of(prepared, lightning, folder) as curves:
        curves.keep(list(folder.rows.values()), stock.again, folder.losses_of)
        if not examples:
            return 0
        with flags_that_lightning_takes(folder):
            engine = engine or engine_of(prepared, lightning, stop, len(examples))
            return _train_each(prepared, stock, examples, engine, folder, curves, stop)


def engine_of(prepared: Prepared, lightning: Lightning, stop: StopSignal, examples: int) -> Engine:
    """What trains so many examples."""
    return choose_engine(
        prepared.settings,
        prepared.pretrained,
        prepared.device,
        lightning.flags,
        lambda callbacks: lightning.make_trainer([*callbacks, stop]),
        examples,
    )


@contextmanager
def flags_that_lightning_takes(folder: RunFolder) -> Iterator[None]:
    """Says of a user's callback or plugin that Lightning refuses at the first example, and leaves the folder free.

    Raises:
        BadInputError: If there is one.
    """
    try:
        yield
    except MisconfigurationException as error:
        folder.withdraw()
        raise BadInputError(f"Lightning refuses its flags: {' '.join(str(error).split())}") from error


def _train_each(
    prepared: Prepared,
    stock: Stock,
    examples: Sequence[Example],
    engine: Engine,
    folder: RunFolder,
    curves: Curves,
    stop: StopSignal,
) -> int:
    settings = prepared.settings
    log.info("To train: %d examples (loss <= %g, at most %d steps, lr %g)",
             len(examples), settings.epsilon, settings.max_steps_per_example, settings.lr)  # fmt: skip
    kept = Counter(str(folder.rows[path]["outcome"]) for path in stock.done)
    failures = 0
    with StudyBar(len(stock.examples), kept) as bar:
        rule = StopRule(settings.epsilon, settings.max_steps_per_example)
        for result in engine.train(examples, rule, stop.is_due, bar.steps_taken):
            row = folder.commit(result, settings.epsilon)
            curves.add(row, result.losses if isinstance(result, Trajectory) else ())
            failures += isinstance(result, Failure)
            bar.example(result.outcome)
            _say_result(result)
    if (closing := engine.closing()) is not None:
        log.info("%s", closing)
    return failures


def curves_of(prepared: Prepared, lightning: Lightning, folder: RunFolder) -> Curves:
    """Where the study can be watched: TensorBoard in its folder, or the loggers that were asked for."""
    shown = shown_examples(prepared.sample, prepared.settings.seed, prepared.settings.tensorboard_examples)
    viewers: list[Viewer]
    if lightning.loggers is None:
        place = folder.folder / TENSORBOARD
        viewers = [TensorBoardFolder(place)]
        log.info("Loss curves of %d examples: tensorboard --logdir %s", len(shown), shlex.quote(str(place)))
    else:
        viewers = [LightningLogger(logger) for logger in lightning.loggers]
        for logger in lightning.loggers:
            log.info("Loss curves of %d examples, at the end: %s, %s", len(shown), type(logger).__name__,
                     logger.log_dir or logger.save_dir or "see its own settings")  # fmt: skip
    return Curves(viewers, shown, prepared.rank_digits)


def account_of(prepared: Prepared) -> Account:
    """What the summary says of a study beside its rows."""
    settings = prepared.settings
    return Account(
        {name: value for name, value in asdict(settings).items() if name not in HOW_NOT_WHAT | WHO_TRAINS},
        prepared.counts,
        ranking_facts(settings.examples_csv, settings.model_name, settings.model_csv_name),
        settings.epsilon,
        settings.max_steps_per_example,
    )


def _say_how_to_go_on(stop: StopSignal, stock: Stock, rows: Mapping[str, Row], left: int) -> None:
    reason, examples = stop.came.name if stop.came else "--max_hours", len(stock.examples)
    if not left:
        log.warning("stopped by %s after the last of %d examples: the study is complete", reason, examples)
        return
    is_there = [example.path in rows for example in stock.examples]  # easiest first
    is_the_easiest_part = not all(is_there) and is_there == sorted(is_there, reverse=True)
    easiest = ", the easiest ones: the table above says nothing of the others" if is_the_easiest_part else ""
    log.warning("stopped by %s: %d of %d examples are done%s. The same command goes on (a smaller --max_examples first"
                " completes a random part)", reason, examples - left, examples, easiest)  # fmt: skip


def _say_result(result: Trajectory | Failure) -> None:
    example = result.example
    if isinstance(result, Failure):
        log.error("example %d (rank %s) %r: error: %s", example.index, example.rank, example.path, result.reason)
        return
    log.info("example %d (rank %s) %r: %s after %d steps, loss %.3g to %.3g, %.2f s", example.index, example.rank,
             example.path, result.outcome, len(result.losses), result.losses[0], result.losses[-1], result.seconds,
             extra=FILE_ONLY)  # fmt: skip
