"""`vwmm predict RUN COHORT.csv`: the best checkpoint on new cases."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Trained, run_command
from tests.faults.rehearsing import in_long_form


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
    assert (tmp_path / "p.csv").read_bytes() == (trained.folder / "predictions_val.csv").read_bytes()


def test_a_case_is_predicted_the_same_in_any_company(trained: Trained, cohort: Path, tmp_path: Path) -> None:
    done = run_command("predict", trained.folder, cohort, "--out", "all.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    everyone = pd.read_csv(tmp_path / "all.csv", dtype=str).set_index("case")
    validated = pd.read_csv(trained.folder / "predictions_val.csv", dtype=str).set_index("case")
    assert len(everyone) == 36
    pd.testing.assert_frame_equal(everyone.loc[validated.index], validated)


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
