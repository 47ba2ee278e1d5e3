"""Trains one model, from the checked cohort to the report."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vwmm.config.schema import Config
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.splits import cases_of, record_of_split
from vwmm.engine.check.before_training import note_cohort, warn_of_suspicions
from vwmm.engine.console import LOG, start_log
from vwmm.engine.distributed.failures import failing_once
from vwmm.engine.distributed.precision import uses_volumes
from vwmm.engine.distributed.runtime import Runtime, start_runtime
from vwmm.engine.launch.outcome import report_outcome
from vwmm.engine.launch.rendezvous import note_done, was_done
from vwmm.engine.preprocessing.fill_cache import build_dataset, prepare_images
from vwmm.engine.runs.banner import describe_run
from vwmm.engine.runs.open_run import open_run
from vwmm.engine.tracking.trackers import start_trackers
from vwmm.engine.training.trainer import Datasets, Trainer
from vwmm.models.fusion import build_model
from vwmm.system.errors import is_main_process
from vwmm.system.signals import STOP

if TYPE_CHECKING:
    from vwmm.engine.runs.finish_run import TrainResult


def train(config: Config, cohort: Cohort, assigned: Mapping[str, str]) -> "TrainResult | None":
    """One run; returns its result on every rank, None if a launcher's restart finds it done.

    cohort, assigned: as `check_config` returns them. Raises UserError where the user's input is wrong, StoppedEarly
    where the run was stopped and can be resumed.
    """
    # 1. Join the other processes. From here on a signal waits until there is nothing half done.
    start_log(is_main_process=is_main_process())
    runtime = start_runtime(
        config.train, hang_timeout_s=config.run.hang_timeout_s, has_volumes=uses_volumes(config.modalities)
    )
    STOP.defer()
    if config.train.max_minutes is not None:
        STOP.ask_after(config.train.max_minutes)
    with failing_once(runtime, report_outcome):
        if runtime.broadcast_from_main(was_done):
            LOG.info("the run was done before the launcher's restart: nothing is left to do")
            return None
        result = _train(runtime, config, cohort, assigned)
        note_done()
        return result


def _train(runtime: Runtime, config: Config, cohort: Cohort, assigned: Mapping[str, str]) -> "TrainResult":
    # 2. Transform each image once, for all processes and all later runs.
    images = prepare_images(runtime, cohort, config.modalities, config.cache)
    warn_of_suspicions(config, cohort, assigned, images)
    training, validation = (
        build_dataset(runtime, cases_of(cohort, assigned, part), cohort.classes, config.modalities, images)
        for part in ("train", "val")
    )
    datasets = Datasets(training, validation, cohort.classes)
    split = record_of_split(cohort, assigned, config.split, config.data.columns)
    model = build_model(config.model, config.modalities, len(cohort.classes), seed=config.train.seed)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())

    # 3. Open the run folder: what is needed to repeat the run is written before it begins.
    with open_run(runtime, config, cohort, assigned, split, images, num_parameters) as run:
        note_cohort(config, cohort, assigned)

        # 4. Train, or resume. After each epoch: validate, and keep the best and the last checkpoint.
        trainer = Trainer(runtime, config, datasets, run.folder, run.watch, model=model)
        LOG.info("%s", describe_run(runtime, config, datasets, split, trainer.model, run.folder))
        trainer.checkpointing.resume(run.checkpoint)
        with start_trackers(runtime, config, run.folder) as trackers:
            trainer.run_epochs(trackers)

            # 5. Log the result, and write the report: only now matplotlib, pandas and templates are imported.
            from vwmm.engine.runs.finish_run import finish_run

            return finish_run(trainer, trackers)
