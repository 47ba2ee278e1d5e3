"""`vwmm cross_validate`: each fold once, each case predicted once, whatever happens in between."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tests.conftest import TINY, run_command
from tests.faults.rehearsing import bits, environment, in_long_form, processes_in, wait_for_silence
from tests.warm_start import WarmPopen
from vwmm.__main__ import main
from vwmm.analysis.statistics.intervals import accuracy_interval

FOLDS = 3
RECIPE = [*TINY, "train.epochs=1", f"split.folds={FOLDS}", "run.name=cv"]
POOLED = ("predictions.csv", "cross_validation.json", "report.html")


def cross_validate(cwd: Path, cohort: Path, *arguments: str, cache: Path | None = None, **env: Any) -> tuple[int, str]:
    """Exit code and what was said."""
    done = run_command(
        "cross_validate", "--launch", "launch/cpu.yaml", f"data.csv={cohort}", *RECIPE, *arguments,
        f"cache.dir={cache or cwd / 'cache'}", cwd=cwd, **env,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def crossed(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a cross-validation of three folds; the first was stopped once and went on."""
    cwd = tmp_path_factory.mktemp("crossed")
    code, text = cross_validate(cwd, cohort, VWMM_FAULT="rank=0,step=2,phase=forward,do=usr1")
    assert code == 75, text
    assert not (cwd / "runs" / "cv" / "fold-1").exists()
    code, text = cross_validate(cwd, cohort)
    assert code == 0, text
    assert "fold 0 (1 of 3): " in text
    assert "resuming after epoch 0, step 2" in text
    assert "fold 2 (3 of 3), about " in text
    return cwd


def test_each_case_is_predicted_once_by_its_fold(crossed: Path, cohort: Path) -> None:
    folder = crossed / "runs" / "cv"
    table = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
    assert list(table.case) == sorted(pd.read_csv(cohort, dtype=str).case)
    assert list(table.columns[:4]) == ["case", "patient", "label", "predicted"]
    for fold in range(FOLDS):
        own = pd.read_csv(folder / f"fold-{fold}" / "predictions_val.csv", dtype=str, keep_default_na=False)
        of_fold = table[table.fold == str(fold)].drop(columns="fold").reset_index(drop=True)
        pd.testing.assert_frame_equal(of_fold, own)


def test_the_metrics_are_those_of_sklearn(crossed: Path) -> None:
    folder = crossed / "runs" / "cv"
    summary = json.loads((folder / "cross_validation.json").read_text())
    table = pd.read_csv(folder / "predictions.csv")
    classes = sorted(table.label.unique())
    scores = table[[f"p_{name}" for name in classes]].to_numpy()
    right = (table.label == table.predicted).to_numpy()
    pooled = summary["pooled"]
    assert (pooled["cases"], pooled["right"], pooled["accuracy"]) == (36, right.sum(), right.mean())
    assert pooled["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(table.label, table.predicted))
    areas = [roc_auc_score(table.label == name, scores[:, k]) for k, name in enumerate(classes)]
    assert pooled["auroc"] == pytest.approx(np.mean(areas))
    assert pooled["accuracy_interval"] == list(accuracy_interval(right, table.patient.to_numpy()) or ())
    of_label = scores[np.arange(len(table)), [classes.index(label) for label in table.label]]
    assert pooled["loss"] == pytest.approx(-np.log(of_label).mean())
    for row in summary["folds"]:
        part = table[table.fold == row["fold"]]
        assert (row["cases"], row["run"]) == (len(part), f"fold-{row['fold']}")
        assert row["accuracy"] == pytest.approx((part.label == part.predicted).mean())
    accuracies = [row["accuracy"] for row in summary["folds"]]
    assert summary["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert summary["std"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))


def test_page_states_the_origin_and_sizes_of_the_folds(crossed: Path) -> None:
    folder = crossed / "runs" / "cv"
    summary, page = json.loads((folder / "cross_validation.json").read_text()), (folder / "report.html").read_text()
    assert "Folds 0, 1, 2, drawn: seed 0, stratified by class." in page
    for row in summary["folds"]:
        split = pd.read_csv(folder / f"fold-{row['fold']}" / "split.csv", dtype=str)
        for part in ("train", "val"):
            inside = split[split.split == part]
            assert row["parts"][part] == {"cases": len(inside), "patients": inside.patient.nunique()}
            assert f"{len(inside)}; {inside.patient.nunique()}" in page
    assert "<code>vwmm cross_validate data.csv=cohort.csv" in page
    assert "split.fold=" not in page
    report = (folder / "fold-1" / "report.html").read_text()
    assert "fold 1 of 0, 1, 2, drawn: seed 0, stratified by class" in report


def test_a_column_of_parts_that_folds_pass_over_is_named(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    number = {name: n for n, name in enumerate(sorted(table.patient.unique()))}
    table["split"] = [("train", "train", "val", "test")[number[name] % 4] for name in table.patient]
    table.to_csv(cohort.with_name("with_parts.csv"), index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vwmm.cross_validate.train_folds", lambda *_: 1)
    csv = cohort.with_name("with_parts.csv")

    assert main(["cross_validate", f"data.csv={csv}", *TINY, "split.stratified=false", "run.name=x"]) == 1

    (note,) = [line for line in capsys.readouterr().err.splitlines() if "note: " in line]
    tested = table[table.split == "test"]
    assert (
        f"note: with_parts.csv, column 'split': {len(tested)} cases of {tested.patient.nunique()} patients set aside "
        "to test; 'train' and 'val' are not used, since the folds define the validation part"
    ) in note


def test_finished_folds_are_not_trained_again(crossed: Path, cohort: Path) -> None:
    folder = crossed / "runs" / "cv"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("fold-*/*")}
    pooled = [(folder / name).read_bytes() for name in POOLED]
    code, text = cross_validate(crossed, cohort)
    assert code == 0, text
    assert text.count("is finished: ") == FOLDS
    assert {path: path.stat().st_mtime_ns for path in folder.glob("fold-*/*")} == before
    assert [(folder / name).read_bytes() for name in POOLED] == pooled


def test_one_fold_alone_pools_only_when_the_others_are_there(crossed: Path, cohort: Path, tmp_path: Path) -> None:
    """What the tasks of a Slurm array do; and a fold that was never stopped has the bits of one that was."""
    ours, folder = tmp_path / "runs" / "cv", crossed / "runs" / "cv"
    code, text = cross_validate(tmp_path, cohort, "split.fold=0", cache=crossed / "cache")
    assert code == 0, text
    assert "not pooled yet: fold 1, 2 unfinished" in text
    assert bits(ours / "fold-0") == bits(folder / "fold-0")
    for fold in (1, 2):
        shutil.copytree(folder / f"fold-{fold}", ours / f"fold-{fold}")
    code, text = cross_validate(tmp_path, cohort, "split.fold=2", cache=crossed / "cache")
    assert code == 0, text
    assert (ours / "predictions.csv").read_bytes() == (folder / "predictions.csv").read_bytes()


def test_processes_that_run_already_train_the_folds_together(crossed: Path, cohort: Path, tmp_path: Path) -> None:
    launcher = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    (tmp_path / "runs" / "cv").mkdir(parents=True)
    shutil.copytree(crossed / "runs" / "cv" / "fold-2", tmp_path / "runs" / "cv" / "fold-2")
    done = run_command(
        "-m", "vwmm.cross_validate", f"data.csv={cohort}", *RECIPE, f"cache.dir={crossed}/cache", cwd=tmp_path,
        launcher=launcher,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("result   accuracy") == 1 + 2, "each said once"
    environment = json.loads((tmp_path / "runs" / "cv" / "fold-1" / "environment.json").read_text())
    assert environment["num_processes"] == 2
    table = pd.read_csv(tmp_path / "runs" / "cv" / "predictions.csv")
    other = pd.read_csv(crossed / "runs" / "cv" / "predictions.csv")
    columns = [name for name in table if name.startswith("p_")]
    np.testing.assert_allclose(
        table[columns], other[columns], atol=0.02
    )  # one process adds in another order than two, and Adam divides by what is small


def test_folds_of_the_csv_need_no_number(cohort: Path, tmp_path: Path) -> None:
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    patients = {name: number for number, name in enumerate(sorted(table.patient.unique()))}
    table["fold"] = [str(7 + patients[name] % 2) for name in table.patient]
    table.to_csv(cohort.with_name("with_folds.csv"), index=False)
    csv, recipe = cohort.with_name("with_folds.csv"), [*TINY, "split.stratified=false", "run.name=x"]
    done = run_command("cross_validate", f"data.csv={csv}", *recipe, "split.fold=1", cwd=tmp_path)
    assert (done.returncode, "split.fold=1: the folds are 7, 8" in done.stderr) == (2, True), done.stderr
    done = run_command("cross_validate", f"data.csv={csv}", *recipe, "split.folds=3", cwd=tmp_path)
    assert (done.returncode, "the CSV has the folds 7, 8" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["run.resume=never"], "run.resume=never: a cross-validation resumes its existing folds"),
        (["split.file=runs/cv/fold-0/split.csv", "split.folds=null"], "holds one split, without a column 'fold'"),
        (["split.fold=abc"], "split.fold: expected a valid integer"),
        (["split.fold=-1"], "split.fold: "),
        (["split.fold=3"], "fold counts from 0: with folds=3 it is 0 to 2"),
        (["train.lr=0.5"], "fold-0 is finished with another configuration: train.lr: was 0.002, is 0.5"),
        (["run.name=fold-1", "run.dir=runs/cv"], "is a run, not a cross-validation"),
        (["split.folds=30"], "split.folds=30: label"),
        (["train.lr=fast"], "train.lr"),
    ],
)
def test_a_mistake_is_said_before_any_fold_is_trained(
    change: list[str], message: str, crossed: Path, cohort: Path
) -> None:
    before = sorted(crossed.rglob("*"))
    code, text = cross_validate(crossed, cohort, *change)
    assert code == 2, text
    assert message in text
    assert "Traceback" not in text
    assert text.count("split.folds=30: label") <= 1, "said once for all folds"
    assert sorted(crossed.rglob("*")) == before


def test_a_cohort_that_has_changed_since_is_noticed(crossed: Path, cohort: Path) -> None:
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    table.iloc[:-1].to_csv(cohort.with_name("shorter.csv"), index=False)
    code, text = cross_validate(crossed, cohort, f"data.csv={cohort.with_name('shorter.csv')}")
    assert code == 2, text
    assert "is finished with another configuration: data.csv: was" in text
    assert "of its cases have changed in label or split" in text


@in_long_form
def test_a_damaged_table_of_a_fold_is_not_pooled(crossed: Path, cohort: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "cv"
    shutil.copytree(crossed / "runs" / "cv", folder)
    table = folder / "fold-1" / "predictions_val.csv"
    whole, pooled = table.read_text(), (folder / "predictions.csv").read_bytes()
    lines = whole.splitlines(keepends=True)
    last = lines[-1].split(",")
    for damaged in ("", "".join(lines[:4]), whole[:-30], "case,patient\nx\n", whole + lines[1],
                    "".join([*lines[:-1], ",".join([*last[:4], "abc", *last[5:]])]),
                    (folder / "fold-0" / "predictions_val.csv").read_text()):  # fmt: skip
        table.write_text(damaged)
        code, text = cross_validate(tmp_path, cohort, cache=crossed / "cache")
        assert (code, f"{table}: is damaged" in text) == (2, True), text
        assert (folder / "predictions.csv").read_bytes() == pooled


def test_the_folder_of_a_sweep_is_left_alone(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "cv").mkdir(parents=True)
    (tmp_path / "runs" / "cv" / "sweep.journal").touch()
    code, text = cross_validate(tmp_path, cohort)
    assert (code, "is a sweep, not a cross-validation" in text) == (2, True), text


def test_forked_fold_has_the_bits_and_the_record_of_a_training_of_its_own(
    crossed: Path, cohort: Path, tmp_path: Path
) -> None:
    """Folds 1 and 2 of `crossed` are forks of one process."""
    fold = crossed / "runs" / "cv" / "fold-2"
    done = run_command(
        "train", "--launch", "launch/cpu.yaml", f"data.csv={cohort}", *RECIPE, f"cache.dir={crossed}/cache",
        "split.fold=2", "run.name=alone", "tracking.group=cv", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    alone = tmp_path / "runs" / "alone"
    assert bits(fold) == bits(alone)
    first, second = (json.loads((run / "environment.json").read_text()) for run in (fold, alone))
    assert first["command_line"].split()[0] == second["command_line"].split()[0]
    assert first["arguments"] == first["command_line"].split()[1:]
    assert {"split.fold=2", 'run.name="fold-2"', 'tracking.group="cv"'} <= set(first["arguments"])
    for key in ("started", "command_line", "arguments"):
        first.pop(key), second.pop(key)
    assert first == second


def test_killed_fold_is_reported_and_resumed_by_the_same_command(crossed: Path, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "cv").mkdir(parents=True)
    shutil.copytree(crossed / "runs" / "cv" / "fold-0", tmp_path / "runs" / "cv" / "fold-0")
    fault = f"step=2,phase=forward,do=kill,once={tmp_path}/killed"
    code, text = cross_validate(tmp_path, cohort, cache=crossed / "cache", VWMM_FAULT=fault)
    assert code == 1, text
    assert "the process was killed from outside (out of memory?)" in text
    assert json.loads((tmp_path / "runs" / "cv" / "fold-1" / "status.json").read_text())["state"] == "failed"
    assert not (tmp_path / "runs" / "cv" / "fold-2").exists()
    code, text = cross_validate(tmp_path, cohort, cache=crossed / "cache", VWMM_FAULT=fault)
    assert code == 0, text
    for fold in (1, 2):
        name = f"fold-{fold}"
        assert bits(tmp_path / "runs" / "cv" / name) == bits(crossed / "runs" / "cv" / name)


def test_killed_cross_validation_leaves_no_process_behind(crossed: Path, cohort: Path, tmp_path: Path) -> None:
    words = ["cross_validate", "--launch", "launch/cpu.yaml", f"data.csv={cohort}", *RECIPE, "train.epochs=1000"]
    command = [sys.executable, "-m", "vwmm", *words, f"cache.dir={crossed}/cache"]
    process = WarmPopen(command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics, end = tmp_path / "runs" / "cv" / "fold-0" / "metrics.jsonl", time.monotonic() + 120
    while not metrics.exists() or not metrics.read_text():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len(processes_in(tmp_path)) == 4, "the command, the launcher, what it forks, and the fold"
    process.kill()
    process.wait()
    wait_for_silence(tmp_path)
    status = json.loads((tmp_path / "runs" / "cv" / "fold-0" / "status.json").read_text())
    assert status["state"] == "preempted"
