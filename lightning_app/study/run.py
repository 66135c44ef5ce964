"""The study, in the order of its steps: ranking, what is wrong, sample, training, record, analysis."""

import logging
import math
import shlex
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.console.progress import FILE_ONLY, StudyBar, StudyLog
from lightning_app.console.signals import StopSignal, exit_at_once, stop_between_examples
from lightning_app.data.example import Example
from lightning_app.data.ranking_metadata import ranking_facts
from lightning_app.data.trajectory import Failure, StopRule, Trajectory
from lightning_app.engines.base import Engine
from lightning_app.engines.choose import choose_engine
from lightning_app.engines.workers.start import several_workers
from lightning_app.engines.workers.worker import FOUND_BY_EACH_WORKER, Task
from lightning_app.errors import DONE, DONE_WITH_ERRORS, BadInputError, StorageError, WorkersError
from lightning_app.files import OutsideError
from lightning_app.settings import HOW_NOT_WHAT, WHO_TRAINS, StudySettings
from lightning_app.store.curves import Curves, LightningLogger, TensorBoardFolder, Viewer, shown_examples
from lightning_app.store.files import TENSORBOARD, folder_name
from lightning_app.store.resume import ResumePlan, plan_resume
from lightning_app.store.study import CommandLine, StoredStudy, Target
from lightning_app.store.writer import StudyFolder
from lightning_app.study.finalize import conclude, say_closing
from lightning_app.study.prepare import Lightning, Prepared, prepare, show_sample

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
def opened(settings: StudySettings) -> Iterator[tuple[StudyFolder, StudyLog]]:
    """Holds a study's folder, and logs what ends the work on it.

    Raises:
        BadInputError: If another process holds the folder, or it can't be written.
        StorageError: If a result can't be written.
    """
    with StudyLog() as study_log:
        try:
            folder = StudyFolder(settings.output_dir / folder_name(settings.model_name, settings.part))
            with folder.locked():
                yield folder, study_log
        except BadInputError:
            raise
        except OutsideError as error:  # found when the losses are read: some commands need none
            raise BadInputError(f"--output_dir: {folder.folder} holds a study that can't be read: {error}") from error
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


def _run(settings: StudySettings, lightning: Lightning, config: str, folder: StudyFolder, study_log: StudyLog) -> int:
    deadline = math.inf if settings.max_hours is None else time.monotonic() + 3600 * settings.max_hours
    with ExitStack() as at_the_end:
        with exit_at_once("; the same command goes on"):
            prepared = prepare(settings, lightning, folder)
            plan = resume_plan_of(prepared)
            if settings.dry_run:
                show_sample(prepared)
                _say_resume(plan, prepared)
                return DONE
            workers = (
                at_the_end.enter_context(workers_of(prepared, lightning, plan.examples, folder)) if plan.left else None
            )
            aside = folder.move_aside() if settings.overwrite else None
            study_log.to_file(folder.folder / f"train_single_{datetime.now():%Y%m%d-%H%M%S}.log")
            if aside is not None:
                log.info("The study that was here is now in %s", aside)
            begin(prepared, plan, folder, config)
        with stop_between_examples(deadline, workers is not None) as stop:
            trained = train(prepared, plan, plan.left, lightning, folder, stop, workers)
            at_the_end.close()
            say_closing(conclude(folder), folder.study)
    left = len(plan.left) - trained.total()
    if stop.came is not None or (stop.is_over and left):
        _say_how_to_go_on(stop, plan, folder.study, left)
        return 128 + (stop.came or signal.SIGTERM)
    if trained["error"]:
        log.warning("%d examples are errors; the log names their reasons, the same command tries them again",
                    trained["error"])  # fmt: skip
        return DONE_WITH_ERRORS
    return DONE


def begin(
    prepared: Prepared, plan: ResumePlan, folder: StudyFolder, config: str, is_part_of_more: bool = False
) -> None:
    """Writes down what the study is.

    Args:
        prepared: The study.
        plan: What is there of it, and what is left.
        folder: Its folder.
        config: The text of `config.yaml`.
        is_part_of_more: Whether the study that is there stays as it was meant, and only gets more examples.
    """
    _say_resume(plan, prepared)
    settings, found = prepared.settings, prepared.found
    if found is not None and is_part_of_more:
        target, command = found.target, found.command
    else:
        examples = tuple((example.rank, example.path) for example in plan.examples)
        target = Target(settings.max_steps_per_example, examples, prepared.shard)
        command = CommandLine(
            config,
            {name: value for name, value in asdict(settings).items() if name not in HOW_NOT_WHAT | WHO_TRAINS},
            prepared.counts,
            ranking_facts(settings.examples_csv, settings.model_name, settings.model_csv_name),
        )
    folder.begin(found, prepared.identity, prepared.environment, target, command, plan.coming)


def resume_plan_of(prepared: Prepared) -> ResumePlan:
    """What is there of the sample, and what is left to train."""
    return plan_resume(prepared.sample, prepared.found, prepared.settings.max_steps_per_example)


def _say_resume(plan: ResumePlan, prepared: Prepared) -> None:
    if prepared.found is None:
        return
    for path in plan.errors:
        log.info("%r was an error and is trained again", path)
    limit = prepared.settings.max_steps_per_example
    again = f", {len(plan.to_retrain)} of them censored at fewer steps than {limit}" if plan.to_retrain else ""
    log.info("Resuming: %d of %d examples done and kept, %d left%s",
             len(plan.done), len(plan.examples), len(plan.left), again)  # fmt: skip
    if plan.out_of_sample:
        log.info("%d more rows are not in this sample; they stay in the table, the answer leaves them out",
                 len(plan.out_of_sample))  # fmt: skip


def train(
    prepared: Prepared,
    plan: ResumePlan,
    examples: Sequence[Example],
    lightning: Lightning,
    folder: StudyFolder,
    stop: StopSignal,
    engine: Engine | None = None,
) -> Counter[str]:
    """Trains examples of the sample, begun in the order given, and puts each on disk as soon as it ends.

    Args:
        prepared: The study.
        plan: What is there of it.
        examples: What to train.
        lightning: Lightning's part of the command line.
        folder: Of the study.
        stop: Ends the training early.
        engine: What trains; by default it is chosen here.

    Returns:
        How many examples ended how.

    Raises:
        BadInputError: If Lightning refuses its flags at the first example.
    """
    with curves_of(prepared, lightning, folder) as curves:
        curves.keep(folder.study, plan.coming)
        if not examples:
            return Counter()
        with flags_that_lightning_takes(folder):
            engine = engine or engine_of(prepared, lightning, stop, len(examples))
            return _train_each(prepared, plan, examples, engine, folder, curves, stop)


def workers_of(
    prepared: Prepared, lightning: Lightning, sample: Sequence[Example], folder: StudyFolder
) -> AbstractContextManager[Engine | None]:
    """What trains the sample on several devices, where the flags ask for that; else None."""
    task = Task(
        settings=prepared.settings,
        pretrained=prepared.pretrained,
        flags=lightning.flags,
        trainers=lightning.make_trainer.but(accelerator=prepared.device.kind, devices=1),
        numbers={name: prepared.identity[name] for name in FOUND_BY_EACH_WORKER},
        environment=prepared.environment,
        examples=len(sample),
        image=sample[0].image.absolute(),
    )
    return several_workers(task, prepared.devices, folder.folder)


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
def flags_that_lightning_takes(folder: StudyFolder) -> Iterator[None]:
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
    plan: ResumePlan,
    examples: Sequence[Example],
    engine: Engine,
    folder: StudyFolder,
    curves: Curves,
    stop: StopSignal,
) -> Counter[str]:
    settings = prepared.settings
    log.info("To train: %d examples (loss <= %g, at most %d steps, lr %g)",
             len(examples), settings.epsilon, settings.max_steps_per_example, settings.lr)  # fmt: skip
    kept = Counter[str](folder.study.examples[path].line.outcome for path in plan.done)
    trained = Counter[str]()
    with StudyBar(len(plan.examples), kept) as bar:
        rule = StopRule(settings.epsilon, settings.max_steps_per_example)
        for result in engine.train(examples, rule, stop.is_due, bar.steps_taken):
            stored = folder.commit(result)
            curves.add(stored, result.example.index, result.losses if isinstance(result, Trajectory) else ())
            trained[result.outcome] += 1
            bar.example(result.outcome)
            _say_result(result)
    if (closing := engine.closing()) is not None:
        log.info("%s", closing)
    return trained


def curves_of(prepared: Prepared, lightning: Lightning, folder: StudyFolder) -> Curves:
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


def _say_how_to_go_on(stop: StopSignal, plan: ResumePlan, study: StoredStudy, left: int) -> None:
    reason, examples = stop.came.name if stop.came else "--max_hours", len(plan.examples)
    if not left:
        log.warning("stopped by %s after the last of %d examples: the study is complete", reason, examples)
        return
    is_there = [example.path in study.examples for example in plan.examples]  # easiest first
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
