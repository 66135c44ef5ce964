"""What `run` and `plan` share: a study's folder, held and logged; what is there of it; what trains, ready."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.console.log import FILE_ONLY, StudyLog
from lightning_app.console.progress import WorkerBars
from lightning_app.console.signals import StopSignal, exit_at_once, stop_between_examples
from lightning_app.data.worker_state import WorkerState
from lightning_app.engines.base import Engine
from lightning_app.engines.choose import Training, choose_engine
from lightning_app.engines.workers.worker import FOUND_BY_EACH_WORKER, Expected
from lightning_app.engines.workers.worker_pool import WorkerOptions, are_several
from lightning_app.errors import BadInputError, StorageError, WorkersError
from lightning_app.files import OutsideError
from lightning_app.settings import StudySettings
from lightning_app.store.files import folder_name
from lightning_app.store.resume import ResumePlan, plan_resume
from lightning_app.store.status import forget_workers, write_workers
from lightning_app.store.study_folder import StudyFolder
from lightning_app.study.prepare import Lightning, Prepared, prepare

log = logging.getLogger("lightning_app")


@dataclass(frozen=True)
class Session:
    """A study at work.

    Args:
        prepared: What goes in.
        plan: What is there of it, and what is left.
        lightning: Lightning's part of the command line.
        folder: Its folder, held for this process.
        stop: Notes what ends it early.
        engine: What trains; None where nothing is left, or a dry run only shows the sample.
        dismiss_workers: Ends what the engine has started.
    """

    prepared: Prepared
    plan: ResumePlan
    lightning: Lightning
    folder: StudyFolder
    stop: StopSignal
    engine: Engine | None
    dismiss_workers: Callable[[], None]

    def stopping_gently(self) -> AbstractContextManager[None]:
        """While examples are trained: what ends the study ends it between two of them."""
        several = are_several(self.prepared.devices, self.prepared.settings.ray_address)
        return stop_between_examples(self.stop, has_workers=several)


@contextmanager
def session(settings: StudySettings, lightning: Lightning, log_name: str) -> Iterator[Session]:
    """Holds a study's folder, prepares what goes in and what trains, and logs what ends the work on it.

    Args:
        settings: Of the study.
        lightning: Lightning's part of the command line.
        log_name: How the log file's name begins.

    Raises:
        BadInputError: Before any training: if anything given can't be used, another process holds the folder, or the
            study that is there is another one.
        StorageError: If a result can't be written.
        WorkersError: If no worker can train.
    """
    how = how_to_resume(settings)
    deadline = math.inf if settings.max_hours is None else time.monotonic() + 3600 * settings.max_hours
    with StudyLog() as study_log:
        try:
            folder = StudyFolder(settings.output_dir / folder_name(settings.model_name, settings.part))
            with folder.locked(), ExitStack() as workers:
                with exit_at_once(f"; {how}"):
                    prepared = prepare(settings, lightning, folder)
                    plan = plan_resume(prepared.sample, prepared.existing, settings.max_steps_per_example)
                    stop, engine = StopSignal(how, deadline), None
                    if plan.left and not settings.dry_run:
                        show = workers.enter_context(_worker_lines(folder))
                        with flags_that_lightning_takes(folder):
                            engine = workers.enter_context(_engine(prepared, plan, lightning, stop, show))
                    if not settings.dry_run:
                        aside = folder.move_aside() if settings.overwrite else None
                        study_log.to_file(folder.folder / f"{log_name}_{datetime.now():%Y%m%d-%H%M%S}.log")
                        if aside is not None:
                            log.info("The study that was here is now in %s", aside)
                yield Session(prepared, plan, lightning, folder, stop, engine, workers.close)
        except BadInputError:
            raise
        except OutsideError as error:  # found when the losses are read: some commands need none
            raise BadInputError(f"--output_dir: {folder.folder} holds a study that can't be read: {error}") from error
        except StorageError as error:
            log.error("%s", error, extra=FILE_ONLY)
            raise StorageError(f"{error}. What is done is whole; once it can be written, {how}") from error
        except WorkersError as error:
            log.error("%s", error, extra=FILE_ONLY)
            raise WorkersError(f"{error}. What is done is whole; {how}") from error
        except Exception as error:
            log.critical("ended by an error that is not yours: %s: %s", type(error).__name__,
                         " ".join(str(error).split()), exc_info=True, extra=FILE_ONLY)  # fmt: skip
            raise


def how_to_resume(settings: StudySettings) -> str:
    """What a user whose study ends early is told."""
    return f"rerun the command {'without --overwrite ' if settings.overwrite else ''}to resume"


@contextmanager
def flags_that_lightning_takes(folder: StudyFolder) -> Iterator[None]:
    """Says of a user's callback or plugin that Lightning refuses at the first example, and leaves the folder free.

    Raises:
        BadInputError: If there is one.
    """
    try:
        yield
    except MisconfigurationException as error:
        folder.discard()
        raise BadInputError(f"Lightning refuses its flags: {' '.join(str(error).split())}") from error


def _engine(
    prepared: Prepared,
    plan: ResumePlan,
    lightning: Lightning,
    stop: StopSignal,
    show: Callable[[Sequence[WorkerState]], None],
) -> AbstractContextManager[Engine]:
    settings = prepared.settings
    return choose_engine(
        Training(
            engine=settings.engine,
            slots=settings.slots,
            pretrained=prepared.pretrained,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            flags=lightning.flags,
            make_trainer=lightning.make_trainer,
            examples=len(plan.left),
        ),
        prepared.devices,
        [stop],
        WorkerOptions(settings.ray_address, settings.workers, settings.max_retries),
        Expected(
            numbers={name: prepared.identity[name] for name in FOUND_BY_EACH_WORKER},
            matmul_precision=settings.matmul_precision,
            environment=prepared.environment,
            is_another_allowed=settings.allow_mixed_environment,
            image=plan.left[0].image.absolute(),
        ),
        show,
    )


@contextmanager
def _worker_lines(folder: StudyFolder) -> Iterator[Callable[[Sequence[WorkerState]], None]]:
    """Shows how workers are doing, at most once a second: below the bar, and in the folder, where `status` looks."""
    shown = 0.0
    forget_workers(folder.folder)  # of a run that was killed

    def show(states: Sequence[WorkerState]) -> None:
        nonlocal shown
        if time.monotonic() - shown >= 1.0:
            shown = time.monotonic()
            write_workers(folder.folder, states)
            bars.show([state.describe() for state in states])

    with WorkerBars() as bars:
        try:
            yield show
        finally:
            forget_workers(folder.folder)
