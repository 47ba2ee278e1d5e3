"""`vwmm predict`: applies a run's best checkpoint to new cases.

    vwmm predict runs/demo new_patients.csv
    vwmm predict runs/demo new_patients.csv --out predictions.csv data.root=/images
    accelerate launch --config_file launch/multi_gpu.yaml -m vwmm.predict runs/demo new_patients.csv

The cohort is a CSV like the one used in training; labels may be absent, and any image may be missing. The table has
one row per case, sorted by case: case,patient,label,predicted,p_<class>...,present_<modality>... and further columns.
"""

import sys
from pathlib import Path

from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.schema import Config
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.leakage import Hashes
from vwmm.system.command_line import help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, is_speaker, leave, run_guarded

OPTIONS = {
    "RUN": "a run folder, such as runs/demo",
    "COHORT.csv": "the new cases; image paths are relative to its folder, or to data.root if set",
    "--out FILE": "the table; without it: COHORT_predictions.csv in the working directory",
    "KEY=VALUE": "keys of data, cache, modalities.NAME.column and modalities.NAME.folder",
}


def main(arguments: list[str]) -> int:
    """`vwmm predict RUN COHORT.csv`."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    line = parse_command_line(arguments, options=["--out"], words=["RUN", "COHORT.csv"])
    if line.files:
        raise UserError("argument --config: the run has its own configuration; only KEY=VALUE can be added")
    run, cohort = RunFolder(Path(line.words[0])), Path(line.words[1])
    out = Path(line.options.get("--out") or f"{cohort.stem}_predictions.csv")
    config = _read(run, cohort, line.overrides)
    _check_out(out, cohort)
    predict(config, run, out)
    return EXIT_DONE


def predict(config: Config, run: RunFolder, out: Path) -> None:
    """Writes the predictions of the configuration's cohort. Raises UserError where the user's input is wrong."""
    # 1. What the model is, and the cohort. No GPU is held yet.
    from vwmm.data.cohort.cohort_notes import table_notes
    from vwmm.engine.checkpoints.checkpoint import find_checkpoint, load_weights, read_meta

    checkpoint = find_checkpoint(run.best)
    if checkpoint is None:
        raise UserError(f"{run.path}: no checkpoint in {run.best}; has the first epoch been completed?")
    meta = read_meta(checkpoint)
    classes = tuple(meta["classes"])
    cohort = _read_cases(config, classes)

    # 2. Join the other processes, and transform the images that are not in the cache.
    from vwmm.engine.console import LOG, start_log
    from vwmm.engine.distributed.runtime import start_runtime
    from vwmm.engine.preprocessing.fill_cache import build_dataset, prepare_images
    from vwmm.engine.training.validation import predict_cases

    start_log(is_speaker=is_speaker())
    for note in table_notes(cohort):
        LOG.info("note: %s", note)
    runtime = start_runtime(config.train, shares_steps=False)
    images = prepare_images(runtime, cohort, config.modalities, config.cache)
    dataset = build_dataset(runtime, cohort.cases, classes, config.modalities, images)

    # 3. The model of the run, with the best weights.
    from vwmm.models.fusion import build_model

    model = build_model(config.model, config.modalities, len(classes), seed=config.train.seed)
    load_weights(checkpoint, model)
    prepared = runtime.accelerator.prepare_model(model, evaluation_mode=True)
    predictions = predict_cases(
        runtime, prepared, dataset, classes, batch_size=config.train.eval_batch_size, title="prediction"
    )

    # 4. The table.
    if runtime.is_main:
        write_whole(out, predictions.to_csv())
        LOG.info("%d cases predicted with the checkpoint of epoch %d: %s", len(dataset), meta["progress"]["epoch"], out)
        metrics = predictions.metrics()
        if metrics["cases"]:
            for warning in _looks(run, cohort, images.hashes(cohort), num_processes=runtime.num_processes):
                LOG.info("warning: %s", warning)
            values = [f"{name} {'-' if value is None else format(value, '.4f')}" for name, value in metrics.items()]
            LOG.info("on the %d cases with a label: %s", metrics["cases"], ", ".join(values[:-1]))
    runtime.wait()


def _read_cases(config: Config, classes: tuple[str, ...]) -> Cohort:
    """The cases to predict. Raises UserError with every problem of rows and files, or where there is no case."""
    from vwmm.data.checks.preflight import check_images
    from vwmm.data.cohort.read_cases import survey_cohort

    cohort, problems = survey_cohort(config.data, config.modalities, need_labels=False, classes=classes)
    if cohort is not None and is_speaker():
        problems = problems + check_images(cohort, config.modalities)
    if problems or cohort is None:
        raise UserError(problems)
    if not cohort.cases:
        raise UserError(f"{cohort.csv_path.name}: no cases: the header is not followed by any row")
    return cohort


def _looks(run: RunFolder, cohort: Cohort, hashes: Hashes, *, num_processes: int) -> list[str]:
    """What makes the metrics too good; a look at test cases is counted, as those of `vwmm evaluate` are."""
    from vwmm.data.cohort.leakage import cases_hash, num_learned_from, num_test_cases
    from vwmm.data.cohort.split_file import read_split_file
    from vwmm.engine.evaluation.test_set import count_evaluation

    try:
        rows, warnings = read_split_file(run.split, key="RUN"), list[str]()
    except UserError as error:
        return [f"whether the run was trained on these cases is not known: {error.problems[0].text}"]
    labelled = {case.name: hashes[case.name] for case in cohort.cases if case.label is not None}
    if learned := num_learned_from(labelled, rows):
        warnings.append(f"{learned} of the labelled cases have images that the run was trained or validated on")
    if tested := num_test_cases(labelled, rows):
        looked = [case for case in cohort.cases if case.name in labelled]
        try:
            times = count_evaluation(run, cases_hash(looked, labelled), tested, num_processes=num_processes)
        except OSError as error:
            warnings.append(f"{tested} of them are test cases of the run; this look is not counted: {error}")
        else:
            warnings.append(f"{tested} of them are test cases of the run, and this is look {times} at these")
    return warnings


def _read(run: RunFolder, cohort: Path, overrides: list[str]) -> Config:
    """The run's configuration with the new cohort."""
    if not run.config.is_file():
        raise UserError(f"{run.path}: this is no run folder (it has no config.yaml)")
    allowed = ("data", "cache")
    problems = [
        f"argument {override}: prediction takes keys of data and cache, and a modality's column or folder only"
        for override in overrides
        if (key := override.partition("=")[0]).split(".")[0] not in allowed
        and not (key.startswith("modalities.") and key.endswith((".column", ".folder")))
    ]
    if problems:
        raise UserError(problems)
    return load_config([run.config], ["data.root=null", *overrides, f"data.csv={_quoted(cohort)}"])


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _check_out(out: Path, cohort: Path) -> None:
    if out.is_dir():
        raise UserError(f"--out {out}: this is a folder; expected the name of a file")
    if out.exists() and cohort.exists() and out.samefile(cohort):
        raise UserError(f"--out {out}: this is the cohort itself; choose another name")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} does not exist")


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
