"""`vwmm evaluate RUN [COHORT.csv]`: the best checkpoint on cases that nobody has learned from, and who is refused."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tests.conftest import Trained, run_command, without_origin
from vwmm.__main__ import main
from vwmm.data.cohort.split_file import hash_of_images, hash_of_split, read_split_file

RESULTS = ("predictions_test.csv", "evaluation.json", "report.html")
Rows = list[dict[str, str]]


def copy_with_test_cases(trained: Trained, target: Path) -> Path:
    """A copy of the trained run that says that its validation cases, but one, were set aside."""
    shutil.copytree(trained.folder, target)
    rows = read_rows(target / "split.csv")
    for row in [row for row in rows if row["split"] == "val"][1:]:
        row["split"] = "test"
    write_rows(target / "split.csv", rows)
    environment = json.loads((target / "environment.json").read_text())
    environment["split_hash"] = hash_of_split(read_split_file(target / "split.csv"))
    (target / "environment.json").write_text(json.dumps(environment))
    return target


def call_a_training_case_a_test_case(run: Path) -> None:
    path = run / "split.csv"
    path.write_text(path.read_text().replace(",train,", ",test,", 1))


def forget_an_image(run: Path) -> None:
    """So that nobody could tell that it was trained on."""
    rows = read_rows(run / "split.csv")
    next(row for row in rows if row["split"] == "train" and row["hash_ct"])["hash_ct"] = ""
    write_rows(run / "split.csv", rows)


def become_a_cross_validation(run: Path) -> None:
    (run / "fold-0").mkdir()
    (run / "config.yaml").rename(run / "fold-0" / "config.yaml")


def read_rows(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_rows(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def evaluated(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was evaluated once on its test cases, by one process."""
    run = copy_with_test_cases(trained, tmp_path_factory.mktemp("evaluated") / "tiny")
    done = run_command("evaluate", run, cwd=trained.cwd)
    assert done.returncode == 0, done.stderr
    assert "is evaluation" not in done.stderr
    return run


def test_test_cases_are_predicted_as_in_validation_bit_for_bit(evaluated: Path, trained: Trained) -> None:
    table = (evaluated / "evaluations" / "test" / "predictions_test.csv").read_text().splitlines()
    found = [line.rsplit(",", 4)[0] for line in table]
    assert table[0].endswith(",without_images,shapley_vw_mri,shapley_mri,shapley_ct")
    validated = (trained.folder / "predictions_val.csv").read_text().splitlines()
    tested = {row["case"] for row in read_rows(evaluated / "split.csv") if row["split"] == "test"}
    assert len(found) == len(tested) + 1 == len(validated) - 1
    assert found == [line for line in validated if line.split(",")[0] in {"case", *tested}]


def test_several_runs_are_evaluated_as_one_model_and_each_counts_the_look(
    evaluated: Path, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (shutil.copytree(evaluated, tmp_path / name) for name in ("one", "other"))
    done = run_command("evaluate", one, other, "--out", tmp_path / "both", cwd=trained.cwd)
    assert done.returncode == 0, done.stderr
    single = json.loads((evaluated / "evaluations" / "test" / "evaluation.json").read_text())
    both = json.loads((tmp_path / "both" / "evaluation.json").read_text())
    assert both["run"] == "2 runs"
    assert [member["run"] for member in both["members"]] == ["one", "other"]
    assert both["metrics"]["accuracy"] == single["metrics"]["accuracy"]
    assert both["metrics"]["brier"]["value"] == pytest.approx(single["metrics"]["brier"]["value"], rel=1e-6)
    assert both["times_evaluated"] == 2
    for run in (one, other):
        assert len((run / "evaluations" / "log.jsonl").read_text().splitlines()) == 2
    page = (tmp_path / "both" / "report.html").read_text()
    assert "set aside before training, the mean of 2 runs was right in" in page
    assert "The runs: one (epoch " in page
    assert "None" not in re.sub("<img[^>]*>", "", page)
    table = pd.read_csv(tmp_path / "both" / "predictions_test.csv")
    assert (table["spread_no_plaque"] < 1e-9).all()

    assert main(["evaluate", str(one), str(other)]) == 2
    assert "--out DIR: several runs are evaluated together" in capsys.readouterr().err
    assert main(["evaluate", str(one), str(trained.folder), "--out", str(tmp_path / "x")]) == 2
    assert f"{trained.folder}: has other test cases than {one} (0 and " in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_patients_of_a_further_run_are_no_new_patients(
    evaluated: Path, trained: Trained, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = shutil.copytree(evaluated, tmp_path / "one")
    rows = read_rows(one / "split.csv")
    for row in rows:
        row["patient"] = f"other_{row['patient']}"
    write_rows(one / "split.csv", rows)
    environment = json.loads((one / "environment.json").read_text())
    environment["split_hash"] = hash_of_split(read_split_file(one / "split.csv"))
    (one / "environment.json").write_text(json.dumps(environment))
    assert main(["evaluate", str(one), str(trained.folder), str(cohort), "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert "(of tiny)" in said
    assert not (tmp_path / "x").exists()


def test_shapley_values_of_a_case_add_up_to_its_probability(evaluated: Path) -> None:
    folder = evaluated / "evaluations" / "test"
    table = pd.read_csv(folder / "predictions_test.csv")
    names = ["vw_mri", "mri", "ct"]
    added = table[[f"shapley_{name}" for name in names]].sum(axis=1)
    of_predicted = [row[f"p_{row['predicted']}"] for _, row in table.iterrows()]
    assert (table["without_images"] + added).tolist() == pytest.approx(of_predicted, abs=1e-6)
    for name in names:
        assert (table.loc[table[f"present_{name}"] == 0, f"shapley_{name}"] == 0).all()
    assert (table[[f"present_{name}" for name in names]] == 0).any(axis=None)
    means = json.loads((folder / "evaluation.json").read_text())["shapley"]
    assert list(means) == names
    right = (table["label"] == table["predicted"]).all()
    for name in names:
        assert means[name]["n"] == len(table)
        if right:
            assert means[name]["value"] == pytest.approx(table[f"shapley_{name}"].mean())
    assert "What each image adds" in (folder / "report.html").read_text()


def test_every_number_is_that_of_sklearn_and_has_its_n_and_interval(evaluated: Path) -> None:
    summary = json.loads((evaluated / "evaluations" / "test" / "evaluation.json").read_text())
    table = pd.read_csv(evaluated / "evaluations" / "test" / "predictions_test.csv")
    metrics, n = summary["metrics"], len(table)
    assert (summary["cases"], summary["times_evaluated"], summary["num_test_cases"]) == (n, 1, n)
    assert metrics["accuracy"]["value"] == (table.label == table.predicted).mean()
    assert metrics["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(table.label, table.predicted))
    scores = table[[f"p_{name}" for name in summary["classes"]]]
    area = roc_auc_score(table.label, scores, multi_class="ovr", labels=summary["classes"])
    assert metrics["auroc"]["value"] == pytest.approx(area)
    for number, row in enumerate(summary["by_class"]):
        is_class, is_called = table.label == row["class"], table.predicted == row["class"]
        assert row["sensitivity"]["n"] == is_class.sum()
        assert row["sensitivity"]["value"] == pytest.approx((is_called & is_class).sum() / is_class.sum())
        assert row["specificity"]["value"] == pytest.approx((~is_called & ~is_class).sum() / (~is_class).sum())
        assert (row["specificity"]["interval"], row["specificity"]["no_interval"]) == (None, "fewer than 10 patients")
        assert sum(summary["confusion"][number]) == is_class.sum()
    for row in summary["by_site"]:
        inside = table.site == row["site"]
        assert row["cases"] == row["accuracy"]["n"] == inside.sum()
        assert row["accuracy"]["value"] == (table.label == table.predicted)[inside].mean()
    assert sum(row["cases"] for row in summary["by_site"]) == n
    assert len(summary["by_site"]) == 2
    assert (metrics["accuracy"]["n"], metrics["accuracy"]["no_interval"]) == (n, "fewer than 10 patients")


def test_the_page_is_self_contained_and_names_nobody(evaluated: Path) -> None:
    page = (evaluated / "evaluations" / "test" / "report.html").read_text()
    assert "set aside before training" in page
    assert f"<code>vwmm evaluate {evaluated.name}</code>" in page
    assert re.search(r"<dd>\d{4}-\d\d-\d\d \d\d:\d\d UTC</dd>", page)
    for word in ("Sensitivity", "Specificity", "Confusion matrix", "ROC", "site_1", "95 % interval"):
        assert word in page
    assert "The split of the run: drawn: validation 0.2 of the patients, seed 0, stratified by class;" in page
    assert re.search(r"\d+ cases of \d+ patients to train on, \d+ cases of \d+ patients to validate on", page)
    assert "This is evaluation" not in page
    assert not any(row["case"] in page for row in read_rows(evaluated / "split.csv"))
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_second_look_on_three_processes_finds_the_same_and_is_counted_wherever_its_results_are(
    evaluated: Path, tmp_path: Path
) -> None:
    run, before = shutil.copytree(evaluated, tmp_path / "tiny"), evaluated / "evaluations" / "test"
    launcher = ["--multi_gpu", "--num_processes", "3", "--main_process_port", "0"]
    done = run_command("-m", "vwmm.evaluate", run, "--out", "again", cwd=tmp_path, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("this is evaluation 2 of test cases of this run") == 1
    log = [json.loads(line) for line in (run / "evaluations" / "log.jsonl").read_text().splitlines()]
    assert [entry["num_processes"] for entry in log] == [1, 3]
    again = tmp_path / "again"
    assert sorted(path.name for path in again.iterdir()) == sorted(RESULTS)
    assert (again / RESULTS[0]).read_bytes() == (before / RESULTS[0]).read_bytes()
    summary = json.loads((again / RESULTS[1]).read_text())
    assert summary == json.loads((before / RESULTS[1]).read_text()) | {"times_evaluated": 2}
    pages = [without_origin((folder / RESULTS[2]).read_text()) for folder in (before, again)]
    warning = pages[1].index("<p><strong>This is evaluation 2 of test cases of this run.</strong>")
    assert pages[1][:warning] + pages[1][pages[1].index("</p>", warning) + 5 :] == pages[0]


def test_another_hospitals_patients_may_share_names_but_not_images(
    evaluated: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """New images under names of the run; then, beside them, an image that was trained on."""
    from vwmm.data.synthetic.phantom import make_cohort

    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(evaluated, tmp_path / "tiny")
    other = make_cohort(tmp_path / "leeds", cases=10, missing=0, sites=1, size="small", seed=77)
    arguments = ["evaluate", str(run), str(other), "--new-patients", f"cache.dir={tmp_path / 'cache'}"]
    assert {row["patient"] for row in read_rows(other)} <= {row["patient"] for row in read_rows(run / "split.csv")}
    assert main(arguments) == 0
    summary = json.loads((run / "evaluations" / "cohort" / "evaluation.json").read_text())
    assert (summary["is_test"], summary["times_evaluated"], summary["num_test_cases"]) == (False, 1, 0)
    assert len(read_rows(run / "evaluations" / "cohort" / "predictions_test.csv")) == 10

    trained_on = next(row["case"] for row in read_rows(run / "split.csv") if row["split"] == "train" and row["hash_ct"])
    rows = read_rows(other)
    theirs = next(row for row in read_rows(cohort) if row["case"] == trained_on)
    source, target = cohort.parent / theirs["ct"], other.parent / "copy"
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target.with_suffix(source.suffix))
    rows[3]["ct"] = "copy" + ("" if source.is_dir() else source.suffix)
    write_rows(other, rows)
    assert main([*arguments, "--out", "nothing"]) == 2
    assert (
        f"cohort.csv line 5: case {rows[3]['case']}: ct: is, to the byte, an image of case {trained_on}"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "nothing").exists()
    assert len((run / "evaluations" / "log.jsonl").read_text().splitlines()) == 2


def with_columns(rows: Rows) -> Rows:
    """Ages from 30 on, one of them not known, and sexes."""
    ages = ["", *(str(30 + number) for number in range(1, len(rows)))]
    return [
        row | {"age": age, "sex": "fm"[number % 2], "note": f"free text {number}", "same": "x"}
        for number, (row, age) in enumerate(zip(rows, ages, strict=True))
    ]


def test_results_by_columns_have_groups_with_numbers_and_a_corrected_test(
    evaluated: Path, cohort: Path, tmp_path: Path
) -> None:
    run, rows = shutil.copytree(evaluated, tmp_path / "tiny"), with_columns(read_rows(cohort))
    changed = write_rows(cohort.with_name("columns.csv"), rows)
    asked = ["--by", "sex", "--by", "age:40,50", "--out", str(tmp_path / "o")]
    assert main(["evaluate", str(run), f"data.csv={changed}", *asked]) == 0

    summary = json.loads((tmp_path / "o" / "evaluation.json").read_text())
    table = pd.read_csv(tmp_path / "o" / "predictions_test.csv")
    by_sex, by_age, *by_images = summary["by_group"]
    assert (by_sex["by"], by_age["by"]) == ("sex", "age")
    assert [one["by"] for one in by_images] in ([], ["modalities present"])
    assert {one["group"] for one in by_age["groups"]} <= {"below 40", "40 to below 50", "50 and above", "not known"}
    for one in by_sex["groups"]:
        inside = table.sex == one["group"]
        assert (one["cases"], one["metrics"]["accuracy"]["n"]) == (inside.sum(), inside.sum())
        assert one["metrics"]["accuracy"]["value"] == (table.label == table.predicted)[inside].mean()
        assert len(one["by_class"]) == len(summary["classes"])
    assert all(("no_test" in one) == (one["p"] is None) for one in summary["by_group"])
    page = (tmp_path / "o" / "report.html").read_text()
    assert "<h3>By sex</h3>" in page
    assert "<h3>By age</h3>" in page


def test_the_calibration_of_the_validation_cases_is_judged_on_the_test_cases(evaluated: Path) -> None:
    folder = evaluated / "evaluations" / "test"
    fitted = json.loads((folder / "evaluation.json").read_text())["fitted"]

    assert fitted["fitted_on"]["of"] == "validation"
    assert (fitted["temperature"], fitted["no_temperature"]) == (None, "fewer than 20 validation cases")
    assert fitted["operating_point"] == {"none": "an operating point needs two classes, and there are 3"}
    assert [(one["promised"], one["class_conditional"]) for one in fitted["prediction_sets"]] == [
        (level, kind) for kind in (False, True) for level in (0.8, 0.9, 0.95)
    ]
    assert fitted["prediction_sets"][-1]["thresholds"] == [0.0, 0.0, 0.0]
    assert fitted["prediction_sets"][-1]["covered"]["value"] == 1.0
    assert "always in the set: no_plaque" in (folder / "report.html").read_text()


# --- what is refused before anything starts ------------------------------------------------------------------------


def relabel(rows: Rows, parts: dict[str, str]) -> None:
    row = next(row for row in rows if parts[row["case"]] == "test")
    row["label"] = next(other["label"] for other in rows if other["label"] != row["label"])


def unlabel(rows: Rows, parts: dict[str, str]) -> None:
    next(row for row in rows if parts[row["case"]] == "test")["label"] = ""


def relabel_what_was_trained_on(rows: Rows, parts: dict[str, str]) -> None:
    row = next(row for row in rows if parts[row["case"]] == "train")
    row["label"] = next(other["label"] for other in rows if other["label"] != row["label"])


def call_a_trained_patient_a_tested_one(rows: Rows, parts: dict[str, str]) -> None:
    tested = next(row for row in rows if parts[row["case"]] == "test")
    next(row for row in rows if parts[row["case"]] == "train")["patient"] = tested["patient"]


def exchange_the_parts(rows: Rows, parts: dict[str, str]) -> None:
    for row in rows:
        row["split"] = {"train": "test", "test": "train", "val": "val"}[parts[row["case"]]]


def drop(rows: Rows, parts: dict[str, str]) -> None:
    rows.remove(next(row for row in rows if parts[row["case"]] == "test"))


def swap_patient(rows: Rows, parts: dict[str, str]) -> None:
    trained_on = next(row for row in rows if parts[row["case"]] == "train")
    next(row for row in rows if parts[row["case"]] == "test")["patient"] = trained_on["patient"]


@pytest.mark.parametrize(
    ("change", "patterns"),
    [
        (relabel, ["line {line}: case {case}: has label ", " in the run"]),
        (unlabel, ["line {line}: case {case}: has no label"]),
        (drop, ["split.csv line ", "case {case}: a test case of the run, but not in changed.csv"]),
        (relabel_what_was_trained_on, ["has label ", " in the run"]),
        (call_a_trained_patient_a_tested_one, ["is of patient", "when it was trained on"]),
        (exchange_the_parts, ["line {line}: case {case}: is in 'train', but was in 'test' in the run"]),
        (swap_patient, ["line {line}: case {case}: is of patient", "case {case}: patient ", "was trained on"]),
    ],
)  # fmt: skip
def test_a_cohort_that_contradicts_the_split_is_refused_by_line(
    change: Callable[[Rows, dict[str, str]], None],
    patterns: list[str],
    evaluated: Path,
    cohort: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = {row["case"]: row["split"] for row in read_rows(evaluated / "split.csv")}
    rows = read_rows(cohort)
    line, case = next((n, row["case"]) for n, row in enumerate(rows, 2) if parts[row["case"]] == "test")
    change(rows, parts)
    changed = write_rows(cohort.with_name("changed.csv"), rows)
    before = sorted(evaluated.rglob("*"))

    assert main(["evaluate", str(evaluated), f"data.csv={changed}"]) == 2

    said = capsys.readouterr().err
    for pattern in patterns:
        assert pattern.format(line=line, case=case) in said
    assert sorted(evaluated.rglob("*")) == before


def test_columns_that_give_no_groups_are_refused_together_before_anything_is_computed(
    evaluated: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = with_columns(read_rows(cohort))
    changed = write_rows(cohort.with_name("columns.csv"), rows * 1)
    log = (evaluated / "evaluations" / "log.jsonl").read_text()
    asked = [word for text in ("agee", "same", "sex:2", "age:50,40") for word in ("--by", text)]

    assert main(["evaluate", str(evaluated), f"data.csv={changed}", *asked]) == 2

    said = capsys.readouterr().err
    assert "--by agee: columns.csv has no such column; did you mean age?" in said
    assert "columns.csv: --by same: the column has one value only in these cases (x)" in said
    assert re.search(r"--by sex: the column has a cell that is no number \(line \d+\), so that there are no bins", said)
    assert "--by age:50,40: the edges 50,40 do not rise; expected age:40,60" in said
    assert (evaluated / "evaluations" / "log.jsonl").read_text() == log


def test_patients_that_were_learned_from_are_no_other_cohort(
    evaluated: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {row["case"]: row["split"] for row in read_rows(evaluated / "split.csv")}
    rows = [row for row in read_rows(cohort) if parts[row["case"]] != "test"]
    some = [row for row in rows if parts[row["case"]] == "train"][:2]
    some += [row for row in rows if parts[row["case"]] == "val"]
    assert main(["evaluate", str(evaluated), str(write_rows(cohort.with_name("seen.csv"), some))]) == 2
    said = capsys.readouterr().err
    assert f"seen.csv line 2: case {some[0]['case']}: patient {some[0]['patient']} was trained on" in said
    assert "if they only share their names with the run's: --new-patients" in said
    assert "more" not in said.replace("--new", "")
    assert "line 4: " in said
    assert "was validated on, which chose the checkpoint" in said


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.yaml").unlink(), "this is no run folder"),
        (lambda run: (run / "status.json").write_text('{"state": "preempted"}'), "the run is not finished (preempted)"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "no checkpoint in"),
        (lambda run: (run / "split.csv").unlink(), "file not found"),
        (lambda run: call_a_training_case_a_test_case(run), "is not the split that the run was trained with"),
        (lambda run: forget_an_image(run), "is not the split that the run was trained with"),
        (lambda run: become_a_cross_validation(run), "cross-validation with unfinished folds: fold-0"),
        (lambda run: (run / "environment.json").unlink(), "has no hash of the run's split"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_evaluated_is_refused(
    damage: Callable[[Path], None], message: str, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(evaluated, tmp_path / "run")
    damage(run)
    assert main(["evaluate", str(run)]) == 2
    assert message in capsys.readouterr().err


def test_the_hashes_of_the_split_are_those_that_training_wrote(trained: Trained) -> None:
    environment, rows = (
        json.loads((trained.folder / "environment.json").read_text()),
        read_split_file(trained.folder / "split.csv"),
    )
    assert hash_of_split(rows) == environment["split_hash"]
    assert hash_of_images(rows) == environment["images_hash"]


def test_a_folder_that_cannot_be_written_costs_no_look(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = (evaluated / "evaluations" / "log.jsonl").read_text()
    (tmp_path / "file").touch()
    for out in ("/proc/results", tmp_path / ("n" * 300), tmp_path / "file" / "results"):
        assert main(["evaluate", str(evaluated), "--out", str(out)]) == 2
        assert "choose another one: --out DIR" in capsys.readouterr().err
    assert (evaluated / "evaluations" / "log.jsonl").read_text() == log


def test_an_evaluation_that_was_ended_while_it_wrote_is_done_again(evaluated: Path, tmp_path: Path) -> None:
    run = shutil.copytree(evaluated, tmp_path / "run")
    folder = run / "evaluations" / "test"
    for name in RESULTS[:1] + RESULTS[2:]:
        (folder / name).unlink()
    assert main(["evaluate", str(run)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(RESULTS)


def test_an_image_counts_for_one_patient(evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vwmm.data.synthetic.phantom import make_cohort

    other = make_cohort(tmp_path / "leeds", cases=10, missing=0, sites=1, size="small", seed=78)
    rows = read_rows(other)
    again = rows + [row | {"case": f"again_{row['case']}", "patient": f"again_{row['patient']}"} for row in rows[:2]]
    write_rows(other, again)
    arguments = ["evaluate", str(evaluated), str(other), "--new-patients", f"cache.dir={tmp_path / 'cache'}"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "line 12: case again_case_0001: ct: is the same file as ct of case case_0001 in line 2" in said
    assert "count nobody twice" in said


def test_prediction_says_whose_metrics_are_too_good_and_counts_the_look(
    evaluated: Path, cohort: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(evaluated, tmp_path / "run")
    parts = {row["case"]: row["split"] for row in read_rows(run / "split.csv")}
    tested = sum(part == "test" for part in parts.values())
    done = run_command("predict", run, cohort, "--out", "p.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(parts) - tested} of the labelled cases have images that the run was trained or" in done.stderr
    assert f"{tested} of them are test cases of the run, and this is look 2 at these" in done.stderr
    assert len((run / "evaluations" / "log.jsonl").read_text().splitlines()) == 2
    (run / "split.csv").write_text("case\n")
    done = run_command("predict", run, cohort, "--out", "p.csv", "--force", cwd=tmp_path)
    assert (done.returncode, "whether the run was trained on these cases is not known" in done.stderr) == (0, True)
    assert "cases with a label: loss" in done.stderr
    unlabelled = write_rows(cohort.with_name("unlabelled.csv"), [row | {"label": ""} for row in read_rows(cohort)])
    done = run_command("predict", run, unlabelled, "--out", "p.csv", "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert len((run / "evaluations" / "log.jsonl").read_text().splitlines()) == 2


def test_a_run_without_test_cases_says_what_to_do(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained.folder)]) == 2
    assert "the run has set no test cases aside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--new-patients"], "expected RUN COHORT.csv"),
        (["train.epochs=3"], "evaluation takes keys of data and cache"),
        (["--config", "configs/default.yaml"], "the run has its own configuration"),
        (["a.csv", "b.csv"], "a.csv: this is no run folder (it has no config.yaml)"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str], message: str, evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(evaluated), *arguments]) == 2
    assert message in capsys.readouterr().err
