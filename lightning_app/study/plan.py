"""The plan, in the order of its steps: the first examples of the draw, their curves, the forecast, what to do."""

import logging
import math
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from lightning_app.analysis.extrapolation import Curve
from lightning_app.analysis.forecast import MIN_CURVES, Pilot, format_forecast, format_size, make_forecast
from lightning_app.data.example import Example
from lightning_app.data.sampling import in_draw_order
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Trajectory
from lightning_app.engines.base import Engine
from lightning_app.errors import DONE, DONE_WITH_ERRORS, FAILED
from lightning_app.files import json_text
from lightning_app.settings import PlanSettings, StudySettings
from lightning_app.store.export import step_log_text
from lightning_app.store.files import PLAN
from lightning_app.store.resume import plan_resume
from lightning_app.store.study_log import ExampleLine, StoredStudy, gave_up_earlier
from lightning_app.study.finalize import finalize
from lightning_app.study.prepare import Lightning, Prepared, log_sample
from lightning_app.study.run import begin, log_resume, train
from lightning_app.study.session import Session, flags_that_lightning_takes, session

log = logging.getLogger("lightning_app")

PROBES = (5, 30)
"""Steps: the first training pays for what is loaded late, the second tells the pace."""
MIN_STEPS = 100
"""Of a pilot example, however slow the model: a shorter curve says nothing of its tail."""
GAIN = 1.5
"""Times the steps that pilot examples were given before: for less they are not trained again."""
MAX_CENSORED = 0.2
"""Of the examples, before the plan warns first."""


def plan_study(settings: PlanSettings, lightning: Lightning, config: str) -> int:
    """Trains the pilot, or takes what is there of it, and says what the study would be.

    Args:
        settings: Checked.
        lightning: Lightning's part of the command line.
        config: The text of `config.yaml`: the study, to be run.

    Returns:
        The exit code.

    Raises:
        BadInputError: Before any training.
        StorageError: If a result can't be written.
    """
    study = settings.study()
    wanted = settings.pilot_examples
    pilot = replace(study, max_examples=wanted if study.max_examples == -1 else min(wanted, study.max_examples))
    with session(pilot, lightning, "plan") as at_work:
        prepared, folder, stop = at_work.prepared, at_work.folder, at_work.stop
        if study.dry_run:
            log_sample(prepared)
            return DONE
        stop.deadline = min(stop.deadline, time.monotonic() + 60 * settings.pilot_minutes)
        devices = at_work.engine.devices if at_work.engine else 1
        with at_work.stopping_gently():
            prepared = train_pilot(at_work, settings, config)
            at_work.dismiss_workers()
        if stop.came is not None:
            log.warning("stopped by %s: what is trained is kept; %s", stop.came.name, stop.advice)
            return 128 + (stop.came or signal.SIGTERM)
        stored = folder.find()
        curves = read_curves(prepared, stored)
        if len(curves) < 2:
            log.error("No forecast: it takes the curves of two examples or more, and there are %d", len(curves))
            return FAILED
        if len(curves) < MIN_CURVES:
            log.warning("a forecast from %d examples says little; --pilot_minutes and --pilot_examples give more",
                        len(curves))  # fmt: skip
        forecast = make_forecast(
            pilot_of(study, prepared, stored, curves),
            study.epsilon,
            study.max_steps_per_example,
            study.max_examples,
        )
        free = shutil.disk_usage(folder.folder).free
        content = {"lr": study.lr, "device": prepared.device.name, "free_bytes": free, **asdict(forecast)}
        folder.replace(PLAN, json_text(content).encode())
        if forecast.censored > MAX_CENSORED:
            log.warning("with these flags about %.0f %% of the examples would be censored or diverge",
                        100 * forecast.censored)  # fmt: skip
        log.info(
            "%s\n\nThe forecast is also in %s", format_forecast(forecast, prepared.device.name), folder.folder / PLAN
        )
        if devices > 1:
            log.info("The times are those of one device; %d share them, but for the longest examples at the end",
                     devices)  # fmt: skip
        if forecast.step_log_bytes.high > free:
            log.warning("the disk has %s left, log and step logs may need more", format_size(free))
        if len(curves) == len(prepared.sample):
            log.info("Next: the same flags with run; it keeps what the pilot has trained")
        failures = [e for e in prepared.sample if stored and e.path in stored.examples and e.path not in curves]
    return DONE_WITH_ERRORS if failures else DONE


def train_pilot(at_work: Session, settings: PlanSettings, config: str) -> Prepared:
    """Trains what is not there of the pilot, in draw order: where time runs out, what is there is a random part.

    Returns:
        The pilot with the number of steps that its examples were given.
    """
    asked, prepared, engine = settings.max_steps_per_example, at_work.prepared, at_work.engine
    left = at_work.plan.left  # with all the steps that are asked for
    if not left or engine is None:
        log.info("The pilot's %d examples are there already", len(prepared.sample))
        return prepared
    existing = prepared.existing
    before = existing.trained_for if existing else 0
    is_part_of_more = existing is not None and len(existing.sampled) > len(prepared.sample)
    affordable = 0.0
    if not is_part_of_more:
        with flags_that_lightning_takes(at_work.folder):
            pace = engine.steps_a_second or engine.devices * steps_a_second(engine, left, settings.epsilon)
        affordable = 0.8 * 60 * settings.pilot_minutes / len(left) * pace
        if affordable < GAIN * before:
            affordable = 0.0  # what is there stays as it is; a little more would train all that was given up again
    limit = int(min(asked, max(before or MIN_STEPS, affordable)))
    prepared = replace(prepared, settings=replace(prepared.settings, max_steps_per_example=limit))
    plan = plan_resume(prepared.sample, existing, limit)
    if not plan.left:
        log.info("The pilot's %d examples are there already, with up to %d steps each", len(prepared.sample), limit)
        return prepared
    if limit < asked:
        log.info("Pilot: %d examples get up to %d of the %d steps, for --pilot_minutes %g; a run trains those again"
                 " that need more", len(plan.left), limit, asked, settings.pilot_minutes)  # fmt: skip
    log_resume(plan, prepared)
    begin(prepared, plan, at_work.folder, config, is_part_of_more)
    train(at_work, prepared, plan, in_draw_order(plan.left, settings.seed))
    finalize(at_work.folder)
    there = sum(example.path in at_work.folder.study.examples for example in prepared.sample)
    if at_work.stop.is_over and there < len(prepared.sample):
        log.warning("--pilot_minutes %g are over: %d of the pilot's %d examples are trained; rerun the command to"
                    " resume", settings.pilot_minutes, there, len(prepared.sample))  # fmt: skip
    return prepared


def steps_a_second(engine: Engine, left: Sequence[Example], epsilon: float) -> float:
    """The pace, from a few steps that are not kept; infinite where no example can be read."""
    pace = math.inf
    for steps in PROBES:
        for result in engine.train(left, StopRule(epsilon, steps)):
            if isinstance(result, Trajectory):
                pace = len(result.losses) / result.seconds
                break
    return pace


def read_curves(prepared: Prepared, stored: StoredStudy | None) -> dict[str, Curve]:
    """The pilot's curves by path; examples that could not be trained have none."""
    curves: dict[str, Curve] = {}
    for example in prepared.sample:
        there = stored.examples.get(example.path) if stored else None
        if stored is not None and there is not None and there.line.seconds is not None:
            has_ended = there.line.outcome in ("reached", "diverged")
            curves[example.path] = Curve(stored.losses_of(example.path), has_ended, there.line.seconds)
    return curves


def pilot_of(
    study: StudySettings, prepared: Prepared, stored: StoredStudy | None, curves: Mapping[str, Curve]
) -> Pilot:
    """What the forecast needs to know of the pilot."""
    assert stored is not None
    settings = prepared.settings
    in_draw = [entry.path for entry in in_draw_order(prepared.candidates, settings.seed)]
    sampled = {example.path for example in prepared.sample}
    is_whole = len(sampled) < settings.max_examples  # there are no more
    drawn = len(in_draw) if is_whole else 1 + max(place for place, path in enumerate(in_draw) if path in sampled)
    sizes = [stored.examples[path].size + len(step_log_text(curve.losses.tolist())) for path, curve in curves.items()]
    return Pilot(
        curves=list(curves.values()),
        examples=len(sampled),
        drawn=drawn,
        candidates=len(in_draw),
        known=prepared.available,
        seconds_a_prediction=prepared.seconds_a_prediction,
        others_done=[
            place
            for place, path in enumerate(in_draw)
            if path in stored.examples
            and path not in sampled
            and _is_done(stored.examples[path].line, study.max_steps_per_example)
        ],
        bytes_a_step=sum(sizes) / sum(len(curve.losses) for curve in curves.values()),
    )


def _is_done(line: ExampleLine, max_steps: int) -> bool:
    return line.outcome != "error" and not gave_up_earlier(line, max_steps)
