"""The study, in the order of its steps: ranking, what is wrong, sample, training, record, analysis."""

import logging
import shlex
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from lightning_app.console.log import FILE_ONLY
from lightning_app.console.progress import StudyBar
from lightning_app.console.signals import StopSignal, exit_at_once
from lightning_app.data.example import Example
from lightning_app.data.ranking_metadata import read_ranking_metadata
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Failure, Result, Trajectory
from lightning_app.engines.base import Engine
from lightning_app.errors import DONE, DONE_WITH_ERRORS
from lightning_app.settings import EXECUTION_ONLY, PLACEMENT_ONLY, StudySettings
from lightning_app.store.files import TENSORBOARD
from lightning_app.store.resume import ResumePlan
from lightning_app.store.study_folder import StudyFolder
from lightning_app.store.study_log import CommandLine, StoredStudy, Target
from lightning_app.store.tensorboard import CurveLogger, Curves, LightningLogger, TensorBoardFolder, shown_examples
from lightning_app.study.finalize import finalize, log_summary
from lightning_app.study.prepare import Lightning, Prepared, log_sample
from lightning_app.study.session import Session, flags_that_lightning_takes, session

log = logging.getLogger("lightning_app")


def run_study(settings: StudySettings, lightning: Lightning, config: str) -> int:
    """Runs a whole study, or resumes one that is there.

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
    with session(settings, lightning, "train_single") as at_work:
        prepared, plan, folder, stop = at_work.prepared, at_work.plan, at_work.folder, at_work.stop
        if settings.dry_run:
            log_sample(prepared)
            log_resume(plan, prepared)
            return DONE
        with exit_at_once(f"; {stop.advice}"):
            log_resume(plan, prepared)
            begin(prepared, plan, folder, config)
        with at_work.stopping_gently():
            trained = train(at_work, prepared, plan, plan.left)
            at_work.dismiss_workers()
            log_summary(finalize(folder), folder.study)
        left = len(plan.left) - trained.total()
        if stop.came is not None or (stop.is_over and left):
            _say_how_to_go_on(stop, plan, folder.study, left)
            return 128 + (stop.came or signal.SIGTERM)
        if trained["error"]:
            log.warning("%d examples are errors; the log names their reasons, rerun the command to try them again",
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
    settings, existing = prepared.settings, prepared.existing
    if existing is not None and is_part_of_more:
        target, command = existing.target, existing.command
    else:
        examples = tuple((example.rank, example.path) for example in plan.examples)
        target = Target(settings.max_steps_per_example, examples, prepared.shard)
        command = CommandLine(
            config,
            {name: value for name, value in asdict(settings).items() if name not in EXECUTION_ONLY | PLACEMENT_ONLY},
            prepared.counts,
            read_ranking_metadata(settings.examples_csv, settings.model_name, settings.model_csv_name),
        )
    folder.begin(existing, prepared.identity, prepared.environment, target, command, plan.coming)


def log_resume(plan: ResumePlan, prepared: Prepared) -> None:
    """Says what is there of a study, if there is one."""
    if prepared.existing is None:
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


def train(at_work: Session, prepared: Prepared, plan: ResumePlan, examples: Sequence[Example]) -> Counter[str]:
    """Trains examples of the sample, begun in the order given, and puts each on disk as soon as it ends.

    Args:
        at_work: The session.
        prepared: The study.
        plan: What is there of it.
        examples: What to train.

    Returns:
        How many examples ended how.

    Raises:
        BadInputError: If Lightning refuses its flags at the first example.
    """
    folder, engine, stop = at_work.folder, at_work.engine, at_work.stop
    with curves_of(prepared, at_work.lightning, folder) as curves:
        curves.keep(folder.study, plan.coming)
        if not examples or stop.came is not None:
            return Counter()
        assert engine is not None
        with flags_that_lightning_takes(folder):
            return _train_each(prepared, plan, examples, engine, folder, curves, stop)


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
        for result in engine.train(examples, rule, stop.should_stop, bar.steps_taken):
            stored = folder.commit(result)
            curves.add(stored, result.example.index, result.losses if isinstance(result, Trajectory) else ())
            trained[result.outcome] += 1
            bar.example(result.outcome)
            _say_result(result)
    if (summary_line := engine.summary_line()) is not None:
        log.info("%s", summary_line)
    return trained


def curves_of(prepared: Prepared, lightning: Lightning, folder: StudyFolder) -> Curves:
    """Where the study can be watched: TensorBoard in its folder, or the loggers that were asked for."""
    shown = shown_examples(prepared.sample, prepared.settings.seed, prepared.settings.tensorboard_examples)
    loggers: list[CurveLogger]
    if lightning.loggers is None:
        place = folder.folder / TENSORBOARD
        loggers = [TensorBoardFolder(place)]
        log.info("Loss curves of %d examples: tensorboard --logdir %s", len(shown), shlex.quote(str(place)))
    else:
        loggers = [LightningLogger(logger) for logger in lightning.loggers]
        for logger in lightning.loggers:
            log.info("Loss curves of %d examples, at the end: %s, %s", len(shown), type(logger).__name__,
                     logger.log_dir or logger.save_dir or "see its own settings")  # fmt: skip
    return Curves(loggers, shown, prepared.rank_digits)


def _say_how_to_go_on(stop: StopSignal, plan: ResumePlan, study: StoredStudy, left: int) -> None:
    reason, examples = stop.came.name if stop.came else "--max_hours", len(plan.examples)
    if not left:
        log.warning("stopped by %s after the last of %d examples: the study is complete", reason, examples)
        return
    is_there = [example.path in study.examples for example in plan.examples]  # easiest first
    is_the_easiest_part = any(is_there) and is_there == sorted(is_there, reverse=True)
    easiest = ", the easiest ones: the table above says nothing of the others" if is_the_easiest_part else ""
    log.warning("stopped by %s: %d of %d examples are done%s; %s (a smaller --max_examples first completes a random"
                " part)", reason, examples - left, examples, easiest, stop.advice)  # fmt: skip


def _say_result(result: Result) -> None:
    example = result.example
    if isinstance(result, Failure):
        log.error("example %d (rank %s) %r: error: %s", example.index, example.rank, example.path, result.reason)
        return
    log.info("example %d (rank %s) %r: %s after %d steps, loss %.3g to %.3g, %.2f s", example.index, example.rank,
             example.path, result.outcome, len(result.losses), result.losses[0], result.losses[-1], result.seconds,
             extra=FILE_ONLY)  # fmt: skip
