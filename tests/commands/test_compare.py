"""`vwmm compare`: the models of a recipe, or finished runs, on the same cases."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.conftest import BIN, ROOT, TINY, run_command
from tests.faults.rehearsing import in_long_form
from vwmm.__main__ import main
from vwmm.engine.runs.ensemble import distinct_names

FILES = ("comparison.json", "predictions.csv")
MODELS = ["all", "only_mri", "only_ct"]


@pytest.fixture(scope="module")
def two_modalities(cohort: Path) -> Path:
    """The cohort without its volumes: some cases then have one image or none; age says a little of the label."""
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    classes = sorted(table.label.unique())
    noise = np.random.default_rng(0).normal(size=len(table))
    table["age"] = [f"{60 + 5 * classes.index(label) + 4 * noise[n]:.1f}" for n, label in enumerate(table.label)]
    table["sex"] = ["f" if n % 2 else "m" for n in range(len(table))]
    table.loc[3, "age"] = ""
    path = cohort.with_name("two_modalities.csv")
    table.to_csv(path, index=False)
    return path


def recipe(table: Path, *more: str) -> list[str]:
    return [
        f"data.csv={table}", *TINY, "modalities.vw_mri=null", "train.epochs=1", "split.folds=2", "run.name=fusion",
        "tracking.trackers=[wandb]", "tracking.mode=offline", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def compared(two_modalities: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a comparison that was stopped once in its third training and went on."""
    cwd = tmp_path_factory.mktemp("compared")
    arguments = [*recipe(two_modalities), "--baselines", f"cache.dir={cwd}/cache"]
    stopped = run_command(
        "compare", *arguments, "split.fold=1", cwd=cwd, VWMM_FAULT="rank=0,step=2,phase=forward,do=usr1"
    )
    assert stopped.returncode == 75, stopped.stderr
    assert not (cwd / "runs" / "fusion" / "comparison.json").exists()
    done = run_command("compare", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch 0, step 2" in done.stderr
    assert f"report   {cwd / 'runs/fusion/report.html'}" in done.stdout
    return cwd


def read(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    table = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
    return json.loads((folder / "comparison.json").read_text()), table


def test_every_model_judges_the_same_cases(compared: Path, two_modalities: Path) -> None:
    folder = compared / "runs" / "fusion"
    summary, table = read(folder)

    cohort = pd.read_csv(two_modalities, dtype=str, keep_default_na=False)
    usable = cohort[(cohort.mri != "") | (cohort.ct != "")]
    assert [model["name"] for model in summary["models"]] == [*MODELS, "commonest_class", "clinical", "acquisition"]
    assert [model["modalities"] for model in summary["models"][:3]] == [["mri", "ct"], ["mri"], ["ct"]]
    assert summary["cases"] == len(usable)
    for name in [*MODELS, "commonest_class", "clinical", "acquisition"]:
        assert sorted(table[table.model == name].case) == sorted(usable.case)
    assert summary["models"][1]["without_its_images"] == int((usable.mri == "").sum()) > 0
    assert summary["complete"]["cases"] == int(((usable.mri != "") & (usable.ct != "")).sum())


def test_all_models_are_trained_on_the_same_folds(compared: Path) -> None:
    folder = compared / "runs" / "fusion"
    folds = pd.read_csv(folder / "folds.csv", dtype=str, keep_default_na=False).set_index("case")
    for model in MODELS:
        for number in ("0", "1"):
            split = pd.read_csv(folder / model / f"fold-{number}" / "split.csv", dtype=str, keep_default_na=False)
            inside = split[split.split == "val"].case
            assert len(inside)
            assert set(folds.loc[inside].fold) == {number}


def test_a_case_without_the_models_images_gets_the_shares_of_its_training_cases(
    compared: Path, two_modalities: Path
) -> None:
    _, table = read(compared / "runs" / "fusion")
    cohort = pd.read_csv(two_modalities, dtype=str, keep_default_na=False).set_index("case")
    own = table[table.model == "only_mri"].set_index("case")
    guessed = own[own.present_mri == "0"]
    assert (cohort.loc[guessed.index].mri == "").all()
    for case, row in guessed.iterrows():
        trained = own[(own.fold != row.fold) & (own.present_mri == "1")]
        shares = trained.label.value_counts(normalize=True)
        for label, share in shares.items():
            assert float(row[f"p_{label}"]) == pytest.approx(share), case


def test_the_differences_are_those_of_the_predictions(compared: Path) -> None:
    summary, table = read(compared / "runs" / "fusion")
    right = {
        name: (one.set_index("case").label == one.set_index("case").predicted) for name, one in table.groupby("model")
    }
    for name in ("only_mri", "only_ct"):
        (row,) = [
            one for one in summary["differences"]
            if (one["a"], one["b"], one["metric"]) == ("all", name, "accuracy")
        ]  # fmt: skip
        better = int((right["all"] & ~right[name]).sum())
        worse = int((~right["all"] & right[name]).sum())
        assert row["difference"] == pytest.approx((better - worse) / summary["cases"])
        assert row["test"] == "exact McNemar"
        expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
        assert row["p"] == pytest.approx(expected)
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["p_adjusted"] >= row["p"]
    assert summary["conclusion"].startswith("It cannot be told whether fusion helps: AUROC ")


def test_page_has_the_conclusion_and_every_model(compared: Path) -> None:
    page = (compared / "runs" / "fusion" / "report.html").read_text()
    assert "It cannot be told whether fusion helps" in page
    for text in (
        *MODELS,
        "commonest_class",
        "Cases with all images",
        "exact McNemar",
        "logistic regression on age, sex",
    ):
        assert text in page
    assert str(compared) not in page


def test_trainings_are_one_group_of_the_tracker_with_names_of_their_own(compared: Path) -> None:
    names = set()
    for model in MODELS:
        config = (compared / "runs" / "fusion" / model / "fold-0" / "config.yaml").read_text()
        assert "group: fusion" in config
        tracker = json.loads((compared / "runs" / "fusion" / model / "fold-0" / "tracker.json").read_text())
        names.add(tracker["wandb_id"])
    assert len(names) == 3


def test_the_result_is_an_entry_of_its_own_in_the_group_with_a_table(compared: Path) -> None:
    folder = compared / "runs" / "fusion" / "comparison"
    (log,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    shown = subprocess.run(
        [str(BIN / "wandb"), "leet", "inspect", "--summary", "--json", str(log)],
        capture_output=True,
        text=True,
        check=True,
    )
    record = json.loads(shown.stdout)
    text = json.dumps(record)
    assert "comparison_table" in text
    summary, _ = read(compared / "runs" / "fusion")
    for model in summary["models"]:
        if (value := model["metrics"]["accuracy"]["value"]) is not None:
            assert f'"{model["name"]}/accuracy": {value}' in text
    for private in ("case_0", "patient_0", str(compared)):
        assert private.encode() not in log.read_bytes()


def test_the_same_command_trains_nothing_again_and_writes_the_same(compared: Path, two_modalities: Path) -> None:
    folder = compared / "runs" / "fusion"
    before = [(folder / name).read_bytes() for name in FILES]
    done = run_command("compare", *recipe(two_modalities), "--baselines", f"cache.dir={compared}/cache", cwd=compared)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is finished: ") == 6
    assert [(folder / name).read_bytes() for name in FILES] == before


def test_cross_validations_and_tables_are_compared_without_training(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = compared / "runs" / "fusion"
    reader = pd.read_csv(folder / "all" / "predictions.csv", dtype=str, keep_default_na=False)
    assert (reader["patient"] != reader["case"]).all()
    reader = reader[["case", "label", *[name for name in reader if name.startswith("p_")]]]
    reader.sample(frac=1, random_state=1).to_csv(tmp_path / "reader.csv", index=False)

    assert main(["compare", str(folder / "all"), str(tmp_path / "reader.csv"), "--out", str(tmp_path / "out")]) == 0

    summary, table = read(tmp_path / "out")
    assert [model["name"] for model in summary["models"]] == ["all", "reader"]
    assert {one["difference"] for one in summary["differences"]} == {0.0}
    assert "It cannot be told which of all and reader is better" in capsys.readouterr().out
    assert list(table[table.model == "reader"].case) == list(table[table.model == "all"].case)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.iloc[1:], "reader.csv: lacks 1 case of "),
        (lambda t: pd.concat([t, t.iloc[:1]]), "stands twice"),
        (lambda t: t.assign(label=t.label.iloc[0]), " cases differ)"),
        (lambda t: t.rename(columns={t.columns[3]: "p_other"}), "reader.csv: has the classes other, "),
        (lambda t: t.assign(**{t.columns[3]: "2.5"}), "are not from 0 to 1 with a sum of 1: 2.5, "),
        (lambda t: t.drop(columns="label"), "reader.csv: has no column label"),
        (lambda t: t.iloc[:0], "reader.csv: has no rows"),
    ],
    ids=["case absent", "case twice", "other labels", "other classes", "no probabilities", "no labels", "empty"],
)
def test_tables_that_do_not_go_together_are_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame],
    expected: str,
    compared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = compared / "runs" / "fusion"
    table = pd.read_csv(folder / "all" / "predictions.csv", dtype=str, keep_default_na=False)
    table = table[["case", "patient", "label", *[name for name in table if name.startswith("p_")]]]
    change(table).to_csv(tmp_path / "reader.csv", index=False)

    code = main(["compare", str(folder / "all"), str(tmp_path / "reader.csv"), "--out", str(tmp_path / "out")])

    assert code == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "all"], "nowhere: no such run, cross-validation or table of predictions"),
        (["all"], "one run; expected at least two"),
        (["all", "all"], "all: given twice"),
        (["all", "only_mri", "train.epochs=2"], "leave out --config, KEY=VALUE"),
        (["all", "only_mri", "--out", "all"], "--out all: exists already"),
        (["all", "unfinished"], "unfinished: the run is not finished (preempted)"),
        (["--out", "x"], "argument --out: what is trained is written to runs/NAME"),
    ],
)
def test_wrong_command_lines_are_answered(
    arguments: list[str], expected: str, compared: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("all", "only_mri"):
        shutil.copytree(compared / "runs" / "fusion" / name, tmp_path / name, ignore=shutil.ignore_patterns("fold-*"))
    shutil.copytree(compared / "runs" / "fusion" / "all" / "fold-0", tmp_path / "unfinished")
    (tmp_path / "unfinished" / "status.json").write_text('{"state": "preempted"}')
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_other_cases_under_the_same_name_are_refused(
    compared: Path, two_modalities: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(compared)
    assert main(["compare", *recipe(two_modalities, "split.seed=7")]) == 2
    assert "runs/fusion/folds.csv was drawn for other cases, labels, or split settings" in capsys.readouterr().err


def test_a_cross_validation_does_not_write_into_a_comparison(
    compared: Path, two_modalities: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(compared)
    assert main(["cross_validate", *recipe(two_modalities)]) == 2
    assert "runs/fusion is a comparison, not a cross-validation; choose another run.name" in capsys.readouterr().err
    assert not (compared / "runs" / "fusion" / "fold-0").exists()


def test_models_with_the_same_last_name_are_told_apart(compared: Path, tmp_path: Path) -> None:
    folder = compared / "runs" / "fusion"
    tables = [tmp_path / name / "x.csv" for name in ("a", "b")]
    for table in tables:
        table.parent.mkdir()
        shutil.copy(folder / "all" / "predictions.csv", table)
    assert main(["compare", *map(str, tables), "--out", str(tmp_path / "o")]) == 0
    assert [model["name"] for model in read(tmp_path / "o")[0]["models"]] == ["a/x", "b/x"]
    assert distinct_names([Path("r/a/all/fold-0"), Path("r/b/all/fold-0")]) == ["a/all/fold-0", "b/all/fold-0"]
    assert distinct_names([Path("r/a/fold-0"), Path("r/a/fold-1")]) == ["fold-0", "fold-1"]


def test_one_modality_needs_baselines_to_be_compared_with(
    two_modalities: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *recipe(two_modalities, "modalities.ct=null")]) == 2
    assert "one modality (mri): there is nothing to compare; --baselines" in capsys.readouterr().err


@in_long_form
def test_two_processes_compare_as_one_does(two_modalities: Path, compared: Path, tmp_path: Path) -> None:
    arguments = [*recipe(two_modalities, "train.exact=true"), f"cache.dir={compared}/cache"]
    one = run_command("compare", *arguments, cwd=compared / "cache")
    launcher = ["--config_file", str(ROOT / "launch" / "cpu_two_processes.yaml"), "-m", "vwmm.compare"]
    two = run_command(*arguments, launcher=launcher, cwd=tmp_path)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    for name in FILES:
        expected = (compared / "cache" / "runs" / "fusion" / name).read_bytes()
        assert (tmp_path / "runs" / "fusion" / name).read_bytes() == expected
