"""`vwmm predict RUN COHORT.csv`: the best checkpoint on new cases."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.conftest import TINY, Trained, run_command
from tests.faults.rehearsing import in_long_form
from vwmm.__main__ import main


def validation_cohort(trained: Trained, cohort: Path, target: Path) -> Path:
    """The rows of the validation cases, as a user would cut them out."""
    split = pd.read_csv(trained.folder / "split.csv").set_index("case").split
    rows = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    rows[rows.case.map(split) == "val"].to_csv(target, index=False)
    return target


@pytest.mark.parametrize(
    "num_processes", [1, pytest.param(2, marks=in_long_form), pytest.param(3, marks=in_long_form), 4]
)
def test_the_validation_cases_give_the_validation_table_again_bit_for_bit(
    num_processes: int, trained: Trained, cohort: Path, tmp_path: Path
) -> None:
    table = validation_cohort(trained, cohort, cohort.with_name(f"val_{num_processes}.csv"))
    assert len(pd.read_csv(table)) % 2, "a split that two processes do not divide"
    launcher = ["--multi_gpu", "--num_processes", str(num_processes), "--main_process_port", "0"]
    arguments: list[str | Path] = [trained.folder, table, "--out", "p.csv"]
    if num_processes == 1:
        done = run_command("predict", *arguments, cwd=tmp_path)
    else:
        done = run_command("-m", "vwmm.predict", *arguments, cwd=tmp_path, launcher=launcher)
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False)
    validated = pd.read_csv(trained.folder / "predictions_val.csv", dtype=str, keep_default_na=False)
    assert list(found.columns)[: len(validated.columns)] == list(validated.columns)
    pd.testing.assert_frame_equal(found[validated.columns], validated)


def test_a_case_is_predicted_the_same_in_any_company(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    done = run_command("predict", trained.folder, cohort, "--out", "all.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    everyone = pd.read_csv(tmp_path / "all.csv", dtype=str).set_index("case")
    validated = pd.read_csv(trained.folder / "predictions_val.csv", dtype=str).set_index("case")
    assert len(everyone) == 36
    pd.testing.assert_frame_equal(everyone.loc[validated.index, validated.columns], validated)


def test_labels_and_images_may_be_missing(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(cohort, dtype=str, keep_default_na=False).drop(columns="label")
    rows = rows[(rows.vw_mri != "") & (rows.ct != "")].head(4)
    rows.loc[rows.index[0], ["mri", "ct"]] = ""
    rows.loc[rows.index[1], ["vw_mri", "mri"]] = ""
    rows.to_csv(cohort.with_name("new.csv"), index=False)
    done = run_command("predict", trained.folder, cohort.with_name("new.csv"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "new_predictions.csv").set_index("case")
    assert table.label.isna().all()
    assert list(table.loc[rows.case.iloc[0], ["present_vw_mri", "present_mri", "present_ct"]]) == [1, 0, 0]
    np.testing.assert_allclose(table.filter(like="p_").filter(regex="^p_").sum(axis=1), 1)


def test_a_label_that_the_model_does_not_know_is_an_error(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    rows.loc[2, "label"] = "aneurysm"
    rows.to_csv(cohort.with_name("unknown.csv"), index=False)
    done = run_command("predict", trained.folder, cohort.with_name("unknown.csv"), cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown.csv line 4: case" in done.stderr
    assert "none of no_plaque, stable_plaque, vulnerable_plaque" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        (lambda run: (run / "config.yaml").unlink(), "this is no run folder"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "no checkpoint in"),
        (lambda run: flip(run / "checkpoints" / "best" / "model.safetensors"), "damaged: model.safetensors"),
        (lambda run: (run / "checkpoints" / "best" / "model.safetensors").unlink(), "not complete"),
        (lambda run: (run / "checkpoints" / "best" / "meta.json").write_text("{}"), "not complete"),
    ],
)
def test_a_damaged_run_is_refused_in_words(damage, pattern, trained: Trained, cohort: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(trained.folder, tmp_path / "run")
    damage(tmp_path / "run")
    done = run_command("predict", "run", cohort, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert pattern in done.stderr
    assert "Traceback" not in done.stderr
    is_of_checkpoint = pattern.startswith(("damaged", "not complete"))
    assert ("to do: copy the folder back from a backup" in done.stderr) == is_of_checkpoint


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


def test_the_output_never_replaces_the_cohort(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    before = cohort.read_bytes()
    done = run_command("predict", trained.folder, cohort, "--out", cohort, cwd=tmp_path)
    assert done.returncode == 2
    assert cohort.read_bytes() == before


def test_predict_needs_a_run_and_a_cohort(tmp_path: Path) -> None:
    done = run_command("predict", cwd=tmp_path)
    assert done.returncode == 2
    assert "missing: RUN COHORT.csv" in done.stderr


@in_long_form
def test_any_part_of_the_cohort_is_predicted_as_the_whole_is(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    """Bit for bit, whichever cases stand beside a case and whatever these lack."""
    rows = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    done = run_command("predict", trained.folder, cohort, "--out", "all.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    everyone = pd.read_csv(tmp_path / "all.csv", dtype=str).set_index("case")
    for number, part in enumerate((rows[::3], rows[5:18], rows.tail(1))):
        part.to_csv(cohort.with_name(f"part_{number}.csv"), index=False)
        done = run_command(
            "predict", trained.folder, cohort.with_name(f"part_{number}.csv"), "--out", "p", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        found = pd.read_csv(tmp_path / "p", dtype=str).set_index("case")
        pd.testing.assert_frame_equal(everyone.loc[found.index], found)


CLASSES = ["no_plaque", "stable_plaque", "vulnerable_plaque"]


def test_a_run_keeps_what_was_fitted_on_its_validation_cases_with_the_checkpoints_hash(trained: Trained) -> None:
    content = json.loads((trained.folder / "calibration.json").read_text())
    meta = json.loads((trained.folder / "checkpoints" / "best" / "meta.json").read_text())
    validated = pd.read_csv(trained.folder / "predictions_val.csv")

    assert content["weights_xxh3"] == meta["files"]["model.safetensors"]["xxh3"]
    assert content["classes"] == CLASSES
    assert content["fitted_on"] == {
        "cases": len(validated),
        "patients": validated.patient.nunique(),
        "of": "validation",
    }
    assert content["validation"]["probabilities"] == validated[[f"p_{name}" for name in CLASSES]].to_numpy().tolist()
    assert [CLASSES[label] for label in content["validation"]["labels"]] == validated.label.tolist()


def predicted(run: Path, cohort: Path, tmp_path: Path, *options: str) -> pd.DataFrame:
    assert main(["predict", str(run), str(cohort), "--out", str(tmp_path / "p.csv"), *options]) == 0
    return pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False)


def test_few_validation_patients_put_all_classes_into_the_set_and_this_is_said(
    trained: Trained, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = predicted(trained.folder, cohort, tmp_path, "--coverage", "0.95", "--class-conditional")

    assert set(table.prediction_set) == {"|".join(CLASSES)}
    said = capsys.readouterr().err
    assert "note: no calibrated probabilities: fewer than 20 validation cases" in said
    assert re.search(r"note: always in the prediction set: no_plaque \(\d validation patients\)", said)
    assert "n patients can promise a coverage of n / (n + 1) at most, and 0.95 is asked for" in said


def test_calibrated_probabilities_and_sets_come_after_all_other_columns(
    trained: Trained, cohort: Path, tmp_path: Path
) -> None:
    """With as many validation cases as a real study has."""
    run = shutil.copytree(trained.folder, tmp_path / "run")
    content = json.loads((run / "calibration.json").read_text())
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=200)
    logits = 4 * generator.normal(size=(200, 3)) + 2 * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    content["validation"] = {
        "patients": list(range(200)), "labels": labels.tolist(), "probabilities": probabilities.tolist(),
    }  # fmt: skip
    content |= {"temperature": 2.0}
    (run / "calibration.json").write_text(json.dumps(content))

    table = predicted(run, cohort, tmp_path, "--coverage", "0.5")

    new = [*(f"calibrated_p_{name}" for name in CLASSES), "prediction_set"]
    assert list(table.columns)[-4:] == new
    raw = table[[f"p_{name}" for name in CLASSES]].to_numpy(float)
    roots = np.sqrt(raw)
    np.testing.assert_allclose(table[new[:3]].to_numpy(float), roots / roots.sum(axis=1, keepdims=True), rtol=1e-9)
    threshold = np.sort(probabilities[np.arange(200), labels])[::-1][int(np.ceil(201 * 0.5)) - 1]
    sets = ["|".join(name for name, p in zip(CLASSES, row, strict=True) if p >= threshold) for row in raw]
    assert table.prediction_set.tolist() == sets


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coverage", "90"], "--coverage 90: expected a share between 0 and 1, such as 0.9"),
        (["--operating-point", "best"], "--operating-point best: expected 0.5, youden, sensitivity=0.9 or"),
        (["--operating-point", "youden"], "--operating-point: an operating point needs two classes, and there are 3"),
    ],
)
def test_what_cannot_be_asked_of_the_calibration_is_refused(
    options: list[str], message: str, trained: Trained, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(trained.folder), str(cohort), "--out", str(tmp_path / "p.csv"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_a_run_of_an_older_version_predicts_without_the_further_columns_until_its_report_is_written_again(
    trained: Trained, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "run")
    written = (run / "calibration.json").read_bytes()
    (run / "calibration.json").unlink()

    table = predicted(run, cohort, tmp_path)
    assert not {"prediction_set", "calibrated_p_no_plaque"} & set(table.columns)
    assert "calibration.json is not there (the run is of an older version); `vwmm report RUN` writes it" in (
        capsys.readouterr().err
    )
    assert main(["predict", str(run), str(cohort), "--out", str(tmp_path / "q.csv"), "--coverage", "0.8"]) == 2
    assert "--operating-point, --coverage and --class-conditional need it" in capsys.readouterr().err

    assert main(["report", str(run)]) == 0
    assert (run / "calibration.json").read_bytes() == written


def test_a_calibration_of_another_checkpoint_is_not_used(
    trained: Trained, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "run")
    text = (run / "calibration.json").read_text()
    (run / "calibration.json").write_text(re.sub('"weights_xxh3": "[0-9a-f]{4}', '"weights_xxh3": "zzzz', text))

    assert "prediction_set" not in predicted(run, cohort, tmp_path).columns
    assert "calibration.json belongs to another checkpoint" in capsys.readouterr().err


@pytest.fixture(scope="module")
def second(trained: Trained, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with other weights, which was not finished."""
    cwd = tmp_path_factory.mktemp("second")
    words = [f"data.csv={cohort}", *TINY, "train.epochs=1", "train.seed=5", "run.name=second"]
    done = run_command("train", *words, f"cache.dir={trained.cwd}/cache", cwd=cwd)
    assert done.returncode == 0, done.stderr
    (cwd / "runs" / "second" / "status.json").write_text('{"state": "preempted"}')
    return cwd / "runs" / "second"


def test_several_runs_predict_the_mean_of_their_probabilities(
    trained: Trained, second: Path, cohort: Path, tmp_path: Path
) -> None:
    tables = {}
    for name, runs in {"tiny": [trained.folder], "second": [second], "both": [trained.folder, second]}.items():
        done = run_command("predict", *runs, cohort, "--out", f"{name}.csv", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        tables[name] = pd.read_csv(tmp_path / f"{name}.csv").set_index("case")
    assert "is not finished (preempted): its best checkpoint so far, of epoch 1, predicts" in done.stderr
    assert "36 cases predicted with the mean of 2 runs: both.csv" in done.stderr
    one, other, both = tables["tiny"], tables["second"], tables["both"]
    names = [f"p_{name}" for name in CLASSES]
    assert not np.allclose(one[names], other[names]), "the checkpoints differ"
    np.testing.assert_allclose(both[names], (one[names] + other[names]) / 2, rtol=1e-12)
    for name in CLASSES:
        np.testing.assert_allclose(both[f"tiny_p_{name}"], one[f"p_{name}"])
        np.testing.assert_allclose(both[f"second_p_{name}"], other[f"p_{name}"])
        distance = (one[f"p_{name}"] - other[f"p_{name}"]).abs() / np.sqrt(2)
        np.testing.assert_allclose(both[f"spread_{name}"], distance, atol=1e-12)
    added = both[["without_images", "shapley_vw_mri", "shapley_mri", "shapley_ct"]].sum(axis=1)
    np.testing.assert_allclose(added, both[names].max(axis=1), atol=1e-6)


def test_a_table_that_is_there_is_replaced_only_by_force(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("mine")
    done = run_command("predict", trained.folder, cohort, "--out", "p.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "--out p.csv: exists already; --force replaces it" in done.stderr
    assert (tmp_path / "p.csv").read_text() == "mine"
    done = run_command("predict", trained.folder, cohort, "--out", "p.csv", "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "p.csv")) == 36


def test_runs_that_do_not_go_together_are_refused(
    trained: Trained, second: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(second, tmp_path / "other")
    config = yaml.safe_load((other / "config.yaml").read_text())
    del config["modalities"]["mri"], config["augment"]["mri"]
    (other / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    crossed = tmp_path / "crossed"
    shutil.copytree(second, crossed / "fold-0")
    for runs, message in (
        ([trained.folder, other], f"{other}: has the modalities vw_mri, ct; {trained.folder} has vw_mri, mri, ct"),
        ([trained.folder, trained.folder], f"{trained.folder}: given twice"),
        ([trained.folder, tmp_path], f"{tmp_path}: this is no run folder"),
        ([crossed], f"{crossed}: cross-validation with unfinished folds: fold-0"),
        ([trained.folder, second, "--coverage=0.8"], "the mean of 2 runs has no calibration of its own"),
    ):
        options = [word for word in runs if str(word).startswith("--")]
        words = [str(word) for word in runs if word not in options]
        assert main(["predict", *words, str(cohort), *map(str, options), "--out", str(tmp_path / "p.csv")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()
