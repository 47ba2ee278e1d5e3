"""What a user of `accelerate launch vwmm/train.py` and `vwmm train` sees."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from tests.conftest import ROOT, TINY, Trained, read_metrics, run_command

SCRIPT = ROOT / "vwmm" / "train.py"
LAUNCH = {1: "cpu.yaml", 2: "cpu_two_processes.yaml"}


@pytest.fixture(scope="module")
def on_processes(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same run on one process and on two, started from another working directory than the project's."""
    runs = {}
    for number, file in LAUNCH.items():
        cwd = tmp_path_factory.mktemp(f"processes_{number}")
        arguments = [f"data.csv={cohort}", *TINY, "run.name=same", "train.micro_batch_size=4", "model.norm=group"]
        done = run_command(SCRIPT, *arguments, cwd=cwd, launcher=["--config_file", str(ROOT / "launch" / file)])
        assert done.returncode == 0, done.stderr
        runs[number] = cwd / "runs" / "same"
    return runs


def test_a_run_folder_has_every_file_of_the_contract(trained: Trained) -> None:
    names = {path.name for path in trained.folder.iterdir()}
    assert {
        "config.yaml", "environment.json", "split.csv", "metrics.jsonl", "predictions_val.csv", "checkpoints",
        "report.html", "status.json", "train.log",
    } <= names  # fmt: skip
    for checkpoint in ("best", "last"):
        assert {"model.safetensors", "meta.json"} <= {
            p.name for p in (trained.folder / "checkpoints" / checkpoint).iterdir()
        }
    status = json.loads((trained.folder / "status.json").read_text())
    assert status["state"] == "done"
    assert (status["epoch"], status["step"]) == (2, 8)


def test_the_end_of_a_run_names_result_folder_and_report(trained: Trained) -> None:
    last = trained.process.stderr.splitlines()[-3:]
    assert last[0].startswith("result   accuracy 0.")
    assert last[1].split() == ["run", str(trained.folder)]
    assert last[2].split() == ["report", str(trained.folder / "report.html")]
    assert "Traceback" not in trained.process.stderr
    assert "\x1b" not in (trained.folder / "train.log").read_text()


def test_the_split_is_by_patient_stratified_and_eighty_to_twenty(trained: Trained, cohort: Path) -> None:
    split = pd.read_csv(trained.folder / "split.csv", dtype=str, keep_default_na=False)
    assert list(split.columns) == ["case", "patient", "label", "split", "hash_vw_mri", "hash_mri", "hash_ct"]
    assert list(split.case) == sorted(pd.read_csv(cohort).case)
    counts = split.groupby(["split", "label"]).size()
    assert counts["val"].sum() == round(0.2 * len(split))
    assert counts["val"].max() - counts["val"].min() <= 1
    assert split.groupby("patient").split.nunique().max() == 1


def test_banner_report_and_record_state_the_origin_of_the_split(trained: Trained) -> None:
    split = pd.read_csv(trained.folder / "split.csv", dtype=str)
    record = json.loads((trained.folder / "environment.json").read_text())["split"]
    page = (trained.folder / "report.html").read_text()
    words = "drawn: validation 0.2 of the patients, seed 0, stratified by class"
    for part in ("train", "val"):
        inside = split[split.split == part]
        assert record["parts"][part] == {"cases": len(inside), "patients": inside.patient.nunique()}
        counts = f"{len(inside)} cases of {inside.patient.nunique()} patients to "
        assert counts in trained.process.stderr
        assert counts in page
    assert f"  split      {words}\n" in trained.process.stderr
    assert words in page


def test_metrics_have_each_step_and_epoch_once(trained: Trained) -> None:
    steps = read_metrics(trained.folder, "train")
    assert [record["step"] for record in steps] == list(range(1, 9))
    assert [record["epoch"] for record in steps] == [1] * 4 + [2] * 4
    assert all(record.keys() >= {"loss", "lr", "cases_per_s"} and math.isfinite(record["loss"]) for record in steps)
    assert [record["epoch"] for record in read_metrics(trained.folder, "validation")] == [1, 2]


def test_validation_numbers_are_those_of_the_predictions_table(trained: Trained) -> None:
    table = pd.read_csv(trained.folder / "predictions_val.csv")
    records = read_metrics(trained.folder, "validation")
    best = min(records, key=lambda record: record["loss"])
    classes = [column.removeprefix("p_") for column in table.columns if column.startswith("p_")]
    p = table[[f"p_{name}" for name in classes]].to_numpy()
    truth = table.label.map(classes.index).to_numpy()

    assert best["cases"] == len(table)
    assert best["loss"] == pytest.approx(-np.log(p[np.arange(len(p)), truth]).mean(), abs=1e-12)
    assert best["accuracy"] == accuracy_score(table.label, table.predicted)
    assert best["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(table.label, table.predicted))
    assert best["auroc"] == pytest.approx(roc_auc_score(truth, p, multi_class="ovr"))
    split = pd.read_csv(trained.folder / "split.csv")
    assert list(table.case) == list(split[split.split == "val"].case)


def test_missing_images_are_carried_to_the_table(trained: Trained, cohort: Path) -> None:
    rows = pd.read_csv(cohort).set_index("case")
    table = pd.read_csv(trained.folder / "predictions_val.csv").set_index("case")
    for name in ("vw_mri", "mri", "ct"):
        assert (table[f"present_{name}"] == rows.loc[table.index, name].notna().astype(int)).all()
    assert (table.site == rows.loc[table.index, "site"]).all()


def test_one_and_two_processes_learn_the_same(on_processes: dict[int, Path]) -> None:
    environments = {n: json.loads((run / "environment.json").read_text()) for n, run in on_processes.items()}
    assert {n: environment["num_processes"] for n, environment in environments.items()} == {1: 1, 2: 2}
    assert environments[2]["backend"] == "gloo"
    assert on_processes[1].joinpath("split.csv").read_bytes() == on_processes[2].joinpath("split.csv").read_bytes()
    losses = {n: [record["loss"] for record in read_metrics(run, "train")] for n, run in on_processes.items()}
    assert len(losses[1]) == 8
    np.testing.assert_allclose(losses[1][:3], losses[2][:3], atol=1e-5)
    np.testing.assert_allclose(losses[1], losses[2], atol=5e-4)  # rounding that eight steps of Adam let grow
    values = {n: [record["loss"] for record in read_metrics(run, "validation")] for n, run in on_processes.items()}
    np.testing.assert_allclose(values[1], values[2], atol=5e-4)


def test_more_processes_than_micro_batches_is_an_error_that_names_the_largest_number(
    cohort: Path, tmp_path: Path
) -> None:
    arguments = [f"data.csv={cohort}", *TINY, "train.batch_size=4", "train.micro_batch_size=4"]
    done = run_command("train", "--launch", "launch/cpu_two_processes.yaml", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("2 processes cannot share train.batch_size=4") == 1
    assert "at most 1 processes" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_finished_run_is_unchanged_and_repeats_from_its_own_configuration(trained: Trained, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in trained.folder.rglob("*")}
    done = run_command("train", "--launch", "launch/cpu.yaml", "--config", trained.folder / "config.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in trained.folder.rglob("*")} == before
    again = trained.folder.with_name("tiny-2")
    assert (again / "predictions_val.csv").read_bytes() == (trained.folder / "predictions_val.csv").read_bytes()
    weights = "checkpoints/best/model.safetensors"
    assert (again / weights).read_bytes() == (trained.folder / weights).read_bytes()
    shutil.rmtree(again)


def test_an_unfinished_run_of_another_configuration_is_refused(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    shutil.copytree(trained.folder, run)
    (run / "status.json").write_text('{"state": "failed", "reason": "x"}')
    arguments = [f"data.csv={cohort}", *TINY, "run.name=tiny", "train.lr=0.5"]
    done = run_command("train", "--launch", "launch/cpu.yaml", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "train.lr: was 0.002, is 0.5" in done.stderr


def test_print_config_prints_yaml_that_reads_back_and_does_not_run(tmp_path: Path) -> None:
    done = run_command("train", "--print-config", "train.epochs=7", "modalities.ct.window_hu=[-100,300]", cwd=tmp_path)
    assert done.returncode == 0
    assert "# Passes over the training cases." in done.stdout
    values = yaml.safe_load(done.stdout)
    assert values["train"]["epochs"] == 7
    assert values["modalities"]["ct"]["window_hu"] == [-100, 300]
    assert list(tmp_path.iterdir()) == []


def test_no_argument_means_the_demo_and_print_config_makes_no_cohort(tmp_path: Path) -> None:
    done = run_command("train", "--print-config", cwd=tmp_path)
    assert done.returncode == 0
    values = yaml.safe_load(done.stdout)
    assert values["run"]["name"] == "demo"
    assert values["data"]["csv"] == str(tmp_path / "data" / "demo" / "cohort.csv")
    assert list(tmp_path.iterdir()) == []


def test_the_original_recipe_trains_on_the_original_layout(cohort: Path, tmp_path: Path) -> None:
    """configs/notebook.yaml made small: one file name column and three folders."""
    import nibabel
    import SimpleITK as sitk  # noqa: N813

    root = cohort.parent
    rows = pd.read_csv(cohort).dropna().head(16)
    labels = {"no_plaque": 0, "stable_plaque": 1, "vulnerable_plaque": 2}
    with (tmp_path / "cohort.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["filename", "label"])
        for number, row in enumerate(rows.itertuples()):
            name = f"{number:03d}.nii.gz"
            for modality in ("vw_mri", "mri", "ct"):
                target = tmp_path / modality / name
                target.parent.mkdir(exist_ok=True)
                if modality == "ct":
                    array = sitk.GetArrayFromImage(sitk.ReadImage(str(root / row.ct))).T
                    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.eye(4)), target)
                else:
                    shutil.copy(root / getattr(row, modality), target)
            writer.writerow([name, labels[row.label]])
    small = [
        "modalities.vw_mri.size=[32,32,32]", "modalities.mri.size=[32,32]", "modalities.ct.size=[32,32]",
        "model.backbone=densenet_thin",
    ]  # fmt: skip
    done = run_command(
        "train", "--launch", "launch/cpu.yaml", "--config", "configs/notebook.yaml", "data.csv=cohort.csv", *small,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = read_metrics(tmp_path / "runs" / "notebook", "validation")
    assert [record["epoch"] for record in records] == list(range(1, 21))
    predictions = pd.read_csv(tmp_path / "runs" / "notebook" / "predictions_val.csv")
    assert list(predictions.columns)[4:7] == ["p_0", "p_1", "p_2"]


def test_a_run_whose_images_have_changed_is_not_gone_on_with(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort.parent, tmp_path / "cohort")
    shutil.copytree(trained.folder, tmp_path / "runs" / "tiny")
    run = tmp_path / "runs" / "tiny"
    config = (run / "config.yaml").read_text().replace(str(cohort), str(tmp_path / "cohort" / "cohort.csv"))
    (run / "config.yaml").write_text(config)
    (run / "status.json").write_text('{"state": "failed", "reason": "x"}')
    first, second = sorted((tmp_path / "cohort" / "ct").iterdir())[:2]
    shutil.copy(first, second)
    before = (run / "split.csv").read_bytes()

    arguments = [f"data.csv={tmp_path}/cohort/cohort.csv", *TINY, "run.name=tiny"]
    done = run_command("train", "--launch", "launch/cpu.yaml", *arguments, cwd=tmp_path)

    assert done.returncode == 2, done.stderr
    assert f"1 of its cases have changed since in label, split or image ({second.stem})" in done.stderr
    assert (run / "split.csv").read_bytes() == before
