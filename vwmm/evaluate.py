"""`vwmm evaluate`: evaluates a finished run on its test cases or on another hospital's patients.

    vwmm evaluate runs/first
    vwmm evaluate runs/first leeds.csv --new-patients
    accelerate launch --config_file launch/multi_gpu.yaml -m vwmm.evaluate runs/first

Rejects a cohort that contradicts the run's split: patients or images used in training, changed labels or images of
test cases, absent test cases. Writes evaluation.json, predictions_test.csv and report.html into RUN/evaluations/NAME.
Nothing is chosen on these cases, and each evaluation is counted.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vwmm.config.loading import load_config
from vwmm.config.run_digests import altered_files, altered_notes
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.split_file import SplitRow
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, RunError, UserError, is_speaker, leave, run_guarded, say
from vwmm.system.problems import Problem

if TYPE_CHECKING:  # of torch, which `--help` does not wait for
    from vwmm.analysis.statistics.predictions import Predictions
    from vwmm.data.cohort.leakage import Hashes
    from vwmm.data.loading.dataset import CaseDataset
    from vwmm.engine.distributed.runtime import Runtime

OPTIONS = {
    "RUN": "the folder of a finished run, such as runs/first",
    "COHORT.csv": "other cases; image paths are relative to its folder, or to data.root if set",
    "--new-patients": "no patient of COHORT.csv is one of the run's, even where names are equal; images are compared",
    "--out DIR": "the folder of the results; without it: RUN/evaluations/test, or COHORT's name",
    "KEY=VALUE": "keys of data, cache, modalities.NAME.column and modalities.NAME.folder",
}


@dataclass(frozen=True)
class Job:
    """A requested evaluation."""

    run: RunFolder
    """The finished run."""
    config: Config
    """Its configuration, with the cohort that is evaluated."""
    is_test: bool
    """Whether it is on the run's own test cases."""
    are_new: bool
    """Whether equal names of patients mean nothing."""
    out: Path
    """The folder of the results."""
    arguments: Sequence[str]
    """The words of the command line."""


def main(arguments: list[str]) -> int:
    """`vwmm evaluate RUN [COHORT.csv]`."""
    line = parse_command_line(
        arguments, options=["--out"], flags=["--new-patients"], words=["RUN"], optional=["COHORT.csv"]
    )
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    if line.files:
        raise UserError("argument --config: the run has its own configuration; only KEY=VALUE can be added")
    run, cohort = RunFolder(Path(line.words[0])), Path(line.words[1]) if len(line.words) > 1 else None
    if cohort is None and "--new-patients" in line.options:
        raise UserError("--new-patients: applies to another cohort only; expected RUN COHORT.csv")
    name = "test" if cohort is None else re.sub(r"[^\w.-]", "_", cohort.stem).lstrip(".") or "cohort"
    out = Path(line.options.get("--out") or run.path / "evaluations" / name)
    config = _read(run, cohort, line.overrides)
    evaluate(Job(run, config, cohort is None, "--new-patients" in line.options, out, arguments))
    return EXIT_DONE


def evaluate(job: Job) -> None:
    """Writes the evaluation. Raises UserError where the user's input is wrong or contradicts the run."""
    # 1. The checkpoint, the cases, and whether the run has seen them. No GPU is held yet.
    from vwmm.data.cohort.cohort_notes import table_notes
    from vwmm.data.cohort.leakage import cases_hash, num_test_cases
    from vwmm.data.cohort.split_file import read_split_file
    from vwmm.engine.checkpoints.checkpoint import find_checkpoint, read_meta
    from vwmm.engine.evaluation.test_set import check_folder, check_split, count_evaluation

    checkpoint = find_checkpoint(job.run.best)
    if checkpoint is None:
        raise UserError(f"{job.run.path}: no checkpoint in {job.run.best}")
    meta, rows = read_meta(checkpoint), read_split_file(job.run.split, key="RUN")
    check_split(job.run, rows)
    classes = tuple(meta["classes"])
    cohort = find_cases(job, rows, classes)

    # 2. Join the other processes, and transform the images; their content tells whether they were seen before.
    from vwmm.engine.console import LOG, start_log
    from vwmm.engine.distributed.runtime import start_runtime
    from vwmm.engine.preprocessing.fill_cache import build_dataset, prepare_images

    start_log(is_speaker=is_speaker())
    for note in table_notes(cohort):
        LOG.info("note: %s", note)
    for note in altered_notes(job.run):
        LOG.info("warning: %s", note)
    runtime = start_runtime(job.config.train, shares_steps=False)
    images = prepare_images(runtime, cohort, job.config.modalities, job.config.cache)
    hashes = images.hashes(cohort)
    check_unseen(job, cohort, hashes, rows)
    identity = cases_hash(cohort.cases, hashes)
    runtime.decide(lambda: check_folder(job.run, job.out, identity))
    dataset = build_dataset(runtime, cohort.cases, classes, job.config.modalities, images)

    # 3. The model of the run, with the best weights.
    predictions = _predict(runtime, job.config, checkpoint, dataset, classes)

    # 4. Count the look, then write what it showed.
    num_own = num_test_cases(hashes, rows)
    processes = runtime.num_processes
    times = runtime.decide(lambda: count_evaluation(job.run, identity, num_own, num_processes=processes))
    if runtime.is_main:
        epoch = meta["progress"]["epoch"]
        _write(job, cohort, rows, predictions, epoch=epoch, identity=identity, num_own=num_own, times=times)
    runtime.wait()


def check_unseen(job: Job, cohort: Cohort, hashes: "Hashes", rows: Mapping[str, SplitRow]) -> None:
    """Raises UserError with every image that the run has seen; warns of files that two of its own patients share."""
    from vwmm.data.checks.identical_files import same_images
    from vwmm.data.cohort.leakage import image_problems
    from vwmm.engine.console import LOG

    copies = same_images(cohort, hashes)
    problems = image_problems(cohort, hashes, rows, is_own=job.is_test)
    if not job.is_test:
        hint = "count nobody twice; find out who it shows (`vwmm check`)"
        problems += [replace(copy, found=f"{copy.found}: {hint}") for copy in copies]
    if problems:
        raise UserError(problems)
    for copy in copies:
        LOG.info("warning: %s", copy.text)


def _predict(
    runtime: "Runtime", config: Config, checkpoint: Path, dataset: "CaseDataset", classes: tuple[str, ...]
) -> "Predictions":
    """The checkpoint's predictions of the cases. Raises RunError where they are not finite."""
    import numpy as np

    from vwmm.engine.checkpoints.checkpoint import load_weights
    from vwmm.engine.training.validation import predict_cases
    from vwmm.models.fusion import build_model

    model = build_model(config.model, config.modalities, len(classes), seed=config.train.seed)
    load_weights(checkpoint, model)
    prepared = runtime.accelerator.prepare_model(model, evaluation_mode=True)
    predictions = predict_cases(
        runtime, prepared, dataset, classes, batch_size=config.train.eval_batch_size, title="evaluation"
    )
    if not np.isfinite(predictions.logits).all():
        raise RunError("the model's predictions are not finite numbers; nothing was evaluated")
    return predictions


def _write(
    job: Job,
    cohort: Cohort,
    rows: Mapping[str, SplitRow],
    predictions: "Predictions",
    *,
    epoch: int,
    identity: str,
    num_own: int,
    times: int,
) -> None:
    """The table, the JSON and the page, and the result in the log.

    epoch: of the checkpoint; identity: the hash of the cases; num_own: how many of them are the run's test cases;
    times: how often these have been evaluated.
    """
    from vwmm.analysis.run_record import read_run
    from vwmm.data.cohort.split_file import hash_of_split
    from vwmm.engine.console import LOG
    from vwmm.engine.evaluation.test_set import split_of, write_evaluation
    from vwmm.engine.runs.provenance import origin_now

    split = split_of(job.run)
    facts: dict[str, Any] = {
        "run": job.run.path.resolve().name,
        "epoch": epoch,
        "is_test": job.is_test,
        "cohort": cohort.csv_path.name,
        "cases_hash": identity,
        "split_hash": hash_of_split(rows),
        "num_test_cases": num_own,
        "times_evaluated": times,
        "split": None if split is None else split.to_json(),
        "altered": altered_files(job.run),
    }
    sites = [case.site or "" for case in cohort.cases] if any(case.site for case in cohort.cases) else []
    text, summary = write_evaluation(
        job.out, predictions, sites, facts,
        origin=origin_now("evaluate", job.arguments), record=read_run(job.run.path),
    )  # fmt: skip
    LOG.info("%s", text)
    if times > 1:
        what = "test cases of this run" if num_own else "these cases with this run"
        LOG.info("this is evaluation %d of %s: what was chosen after the first is too good", times, what)
    LOG.info("%d cases, results: %s", summary["cases"], job.out)


def find_cases(job: Job, rows: dict[str, SplitRow], classes: tuple[str, ...]) -> Cohort:
    """The cases that are evaluated. Raises UserError with everything by which they contradict the run's split."""
    from vwmm.data.checks.preflight import check_images
    from vwmm.data.cohort.leakage import (
        label_problems,
        num_gone,
        patient_problems,
        set_aside_problems,
        unlabelled_problems,
    )
    from vwmm.data.cohort.read_cases import survey_cohort

    tested = {name: row for name, row in rows.items() if row.part == "test"}
    if job.is_test and not tested:
        raise UserError(
            f"{job.run.path}: the run has set no test cases aside (split.test_fraction, or `vwmm split`); on other "
            "patients: vwmm evaluate RUN COHORT.csv"
        )
    config = job.config
    cohort, problems = survey_cohort(config.data, config.modalities, need_labels=False, classes=classes)
    if cohort is None:
        raise UserError(problems)
    if job.is_test:
        has_parts = config.split.file is None and config.split.fold is None
        problems = problems + set_aside_problems(cohort, rows, has_parts=has_parts) + label_problems(cohort, rows)
        if is_speaker() and (count := num_gone(cohort, rows)):
            say(f"note: {count} training or validation cases of the run are not in {cohort.csv_path.name} any more")
        cohort = replace(cohort, cases=tuple(case for case in cohort.cases if case.name in tested))
    elif not cohort.cases:
        found = "no cases: the header is not followed by any row"
        problems = [*problems, Problem(found, "table", where=cohort.csv_path.name)]
    hint = "" if job.is_test else "; if they only share their names with the run's: --new-patients"
    if not job.are_new and not job.is_test:
        problems = problems + label_problems(cohort, tested, hint=hint)
    problems = problems + unlabelled_problems(cohort, cohort.cases)
    if not job.are_new and (seen := patient_problems(cohort, rows)):
        problems = [*problems, replace(seen[0], found=seen[0].found + hint), *seen[1:]]
    if is_speaker():
        problems = problems + check_images(cohort, config.modalities)
    if problems:
        raise UserError(problems)
    return cohort


def _read(run: RunFolder, cohort: Path | None, overrides: list[str]) -> Config:
    """The run's configuration, with its cohort replaced by the other one, if there is one."""
    if not run.config.is_file():
        folds = sorted(path.parent for path in run.path.glob("fold-*/config.yaml"))
        hint = f"; it is a cross-validation: evaluate one of its runs, such as {folds[0]}" if folds else ""
        raise UserError(f"{run.path}: this is no run folder (it has no config.yaml){hint}")
    if run.state() != "done":
        raise UserError(
            f"{run.path}: the run is not finished ({run.state() or 'no state in status.json'}); only a finished one is"
        )
    allowed = ("data", "cache")
    problems = [
        f"argument {override}: evaluation takes keys of data and cache, and a modality's column or folder only"
        for override in overrides
        if (key := override.partition("=")[0]).split(".")[0] not in allowed
        and not (key.startswith("modalities.") and key.endswith((".column", ".folder")))
    ]
    if problems:
        raise UserError(problems)
    if cohort is None:
        return load_config([run.config], overrides)
    quoted = "'" + str(cohort).replace("'", "''") + "'"
    return load_config([run.config], ["data.root=null", *overrides, f"data.csv={quoted}"])


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
