"""`vwmm split`: who is trained on, validated on and set aside, written to a file that training reads."""

import csv
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.data.making import numbers, write_nifti
from vwmm.__main__ import main
from vwmm.config.loading import load_config
from vwmm.config.schema import Config, Split
from vwmm.data.checks.preflight import check_config
from vwmm.data.cohort.read_cases import read_cohort
from vwmm.data.cohort.splits import fold_numbers, split_cohort, split_hash
from vwmm.engine.evaluation.cross_validation import plan_folds
from vwmm.system.errors import UserError

SITES = ("Berlin", "Leeds", "Lyon", "Umeå, north")
MODALITY = ["modalities.vw_mri=null", "modalities.mri=null"]


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """cohort.csv of 80 patients, every fourth with two visits; four sites of unlike size, one of them rich in `b`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.nii").write_bytes(b"x")
    rows = [["case", "patient", "label", "site", "ct"]]
    for number in range(80):
        site = SITES[min(number // 13, 3)]
        label = "b" if number % (2 if site == "Lyon" else 4) == 0 else "a"
        rows += [
            [f"c{number:02}-{visit}", f"p{number:02}", label, site, "image.nii"]
            for visit in range(2 if number % 4 == 1 else 1)
        ]
    return write_rows(tmp_path / "cohort.csv", rows)


def write_rows(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return path


def test_one_patient_in_two_spellings_in_two_folds_is_refused_by_every_command(
    clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Excel has taken the leading zeros of every second visit's table."""
    rows = [["case", "patient", "label", "ct"]]
    rows += [[f"c{n}", str(n // 2) if n % 2 else f"{n // 2:03}", "ab"[n // 2 % 2], "image.nii"] for n in range(40)]
    write_rows(clinic, rows)
    words = [f"data.csv={clinic}", *MODALITY]

    codes = [main(["split", *words, *more]) for more in ([], ["split.folds=4"])]

    assert codes == [2, 2]
    shown = capsys.readouterr().err
    assert re.search(r"cohort.csv line \d+: case \S+: patient \d+ is written almost like 0\d\d \(line \d+\)", shown)
    assert "they are in different parts of the split (train, val)" in shown
    assert "they are in different parts of the split (fold 0, fold 1)" in shown
    config = load_config([], [*words, "split.fold=0", "split.folds=4", "run.dir=runs"])
    (clinic.parent / "image.nii").unlink()
    write_nifti(clinic.parent / "image.nii", numbers(40, 40, 1))
    for refused in (lambda: check_config(config), lambda: plan_folds(config)):
        with pytest.raises(UserError, match="is written almost like"):
            refused()


def read_rows(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def change(path: Path, **columns: list[str]) -> None:
    rows = [row | {name: values[n] for name, values in columns.items()} for n, row in enumerate(read_rows(path))]
    write_rows(path, [list(rows[0]), *(list(row.values()) for row in rows)])


def split(*arguments: str) -> int:
    return main(["split", "data.csv=cohort.csv", *MODALITY, *arguments])


def groups(rows: list[dict[str, str]], what: str, by: str) -> dict[str, set[str]]:
    found = defaultdict(set)
    for row in rows:
        found[row[by]].add(row[what])
    return dict(found)


def test_the_split_is_that_of_training_with_the_same_keys(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert split("split.test_fraction=0.1", "split.seed=3", "--out", "split.csv") == 0

    rows = read_rows("split.csv")
    assert list(rows[0]) == ["case", "patient", "label", "split", "site"]
    assert [row["case"] for row in rows] == sorted(row["case"] for row in read_rows(clinic))
    assert all(len(found) == 1 for found in groups(rows, "split", by="patient").values())
    cohort = read_cohort(Config().data.model_copy(update={"csv": str(clinic)}), {"ct": Config().modalities["ct"]})
    drawn = split_cohort(cohort, Split(test_fraction=0.1, seed=3))
    assert {row["case"]: row["split"] for row in rows} == drawn
    assert split_cohort(cohort, Split(file="split.csv")) == drawn
    said = capsys.readouterr().out
    assert "100 cases of 80 patients" in said
    assert " / 8\n" in said, "a tenth of the patients is set aside"
    assert "Umeå, north" in said
    assert f"split hash {split_hash(cohort, drawn)}, " in said


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does(clinic: Path) -> None:
    for number, seed in enumerate((1, 1, 2)):
        for by_site in ("stratify", "hold_out", "null"):
            assert split(f"split.seed={seed}", f"split.by_site={by_site}", "--out", f"{by_site}_{number}.csv") == 0
        rows = read_rows(clinic)[::-1]
        write_rows(clinic, [list(rows[0]), *(list(row.values()) for row in rows)])
    for by_site in ("stratify", "hold_out", "null"):
        texts = [Path(f"{by_site}_{number}.csv").read_bytes() for number in range(3)]
        assert texts[0] == texts[1]
        assert texts[0] != texts[2] or by_site == "hold_out", "of four sites two seeds may draw the same"


def test_sites_get_their_share_in_each_part(clinic: Path) -> None:
    for seed in range(4):
        assert split("split.by_site=stratify", f"split.seed={seed}", "--out", "s.csv", "--force") == 0
        rows = read_rows("s.csv")
        everyone = groups([r | {"cell": r["site"] + r["label"]} for r in rows], "patient", by="cell")
        validated = groups(
            [r | {"cell": r["site"] + r["label"]} for r in rows if r["split"] == "val"], "patient", by="cell"
        )
        for cell, patients in everyone.items():
            assert abs(len(validated.get(cell, ())) - len(patients) / 5) < 1, cell
        assert len(groups(rows, "patient", by="split")["val"]) == 16


@pytest.mark.parametrize("named", [True, False])
def test_a_held_out_site_is_in_one_part_only(named: bool, clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["split.test_sites=[Leeds]", "split.val_sites=[Lyon, Berlin]"] if named else ["split.test_fraction=0.15"]
    assert split("split.by_site=hold_out", *keys, "--out", "s.csv") == 0
    sites = groups(read_rows("s.csv"), "site", by="split")
    if named:
        assert sites == {"test": {"Leeds"}, "val": {"Lyon", "Berlin"}, "train": {"Umeå, north"}}
    assert sorted(site for found in sites.values() for site in found) == sorted(SITES)
    assert set(sites) == {"train", "val", "test"}
    patients = groups(read_rows("s.csv"), "patient", by="split")
    if not named:
        assert [len(patients[part]) for part in ("test", "val")] == [13, 13], "the nearest to 12 and 16 there is"
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("by_site", ["null", "stratify", "hold_out"])
def test_folds_go_into_training_and_cross_validation(by_site: str, clinic: Path) -> None:
    keys = ["split.folds=3", f"split.by_site={by_site}"]
    keys += ["split.test_sites=[Leeds]"] if by_site == "hold_out" else ["split.test_fraction=0.2"]
    assert split(*keys, "--out", "folds.csv") == 0
    rows = read_rows("folds.csv")
    aside = {row["case"] for row in rows if row["split"] == "test"}
    assert {row["case"] for row in rows if row["fold"] == ""} == aside
    assert aside
    kept = [row for row in rows if row["fold"]]
    assert all(len(found) == 1 for found in groups(kept, "fold", by="patient").values())
    assert {len(found) for found in groups(kept, "fold", by="site").values()} == {1 if by_site == "hold_out" else 3}
    if by_site == "stratify":
        sizes = [len(found) for found in groups(kept, "patient", by="fold").values()]
        assert max(sizes) - min(sizes) <= 1
    config = Config()
    config = config.model_copy(
        update={
            "data": config.data.model_copy(update={"csv": str(clinic)}),
            "modalities": {"ct": config.modalities["ct"]},
            "split": Split(file="folds.csv"),
        }
    )
    cohort = read_cohort(config.data, config.modalities)
    assert fold_numbers(cohort, config.split) == [0, 1, 2]
    validated = list[str]()
    for fold in range(3):
        parts = split_cohort(cohort, Split(file="folds.csv", fold=fold))
        assert {name for name, part in parts.items() if part == "test"} == aside
        validated += [name for name, part in parts.items() if part == "val"]
    assert sorted(validated) == sorted(row["case"] for row in kept)


def test_cross_validation_plans_the_folds_of_a_file(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["split", f"data.csv={cohort}", "split.folds=3", "--out", "folds.csv"]) == 0
    config = Config()
    config = config.model_copy(
        update={
            "data": config.data.model_copy(update={"csv": str(cohort)}),
            "split": Split(file=str(tmp_path / "folds.csv")),
            "run": config.run.model_copy(update={"name": "cv"}),
        }
    )
    assert [fold.number for fold in plan_folds(config)] == [0, 1, 2]


def test_nothing_is_written_or_replaced_without_being_asked(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(clinic.parent.iterdir())
    assert split() == 0
    assert "nothing was written" in capsys.readouterr().out
    assert sorted(clinic.parent.iterdir()) == before

    Path("split.csv").write_text("mine")
    assert split("--out", "split.csv") == 2
    assert "--out split.csv: this file is there already" in capsys.readouterr().err
    assert Path("split.csv").read_text() == "mine"
    assert split("--out", "cohort.csv", "--force") == 2
    assert split("--out", "split.csv", "--force") == 0
    assert Path("split.csv").read_text().startswith("case,")


@pytest.mark.parametrize("name", ["my.yaml", "my.csv", "link.csv", "cohort.csv"])
def test_what_the_command_reads_is_never_replaced(name: str, clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("my.yaml", "my.csv"):
        Path(file).write_text("split: {seed: 1}")
    Path("link.csv").symlink_to("my.csv")
    before = {file.name: file.read_bytes() for file in clinic.parent.iterdir()}

    assert split("--config", "my.yaml", "--config", "my.csv", "--out", name, "--force") == 2

    assert f"--out {name}: " in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in clinic.parent.iterdir()} == before


def test_a_link_leads_to_the_file_that_is_written(clinic: Path) -> None:
    folder = clinic.parent / "shared"
    folder.mkdir()
    Path("split.csv").symlink_to(folder / "of_all.csv")

    for more in ([], ["--force"]):
        assert split("--out", "split.csv", *more) == 0
        assert Path("split.csv").is_symlink()
        assert (folder / "of_all.csv").read_text().startswith("case,")


def test_what_is_missing_in_a_part_is_said(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read_rows(clinic)
    change(clinic, site=["Oslo" if row["patient"] == "p07" else row["site"] for row in rows])
    assert split("split.by_site=stratify") == 0
    assert "warning: no case of site 'Oslo' is in val" in capsys.readouterr().err
    assert split("split.by_site=hold_out", "split.val_sites=[Oslo]") == 0
    assert "warning: no case with label 'b' is in val" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["split.val_sites=[Leeds]"], "split.val_sites: val_sites names sites that are held out"),
        (["split.by_site=hold_out", "split.val_sites=[Leds, Lyon]"], "split.val_sites: no case is of site 'Leds'; the"),
        (["split.by_site=hold_out", "split.val_sites=[Lyon]", "split.test_sites=[Lyon]"], "both have Lyon"),
        (["split.by_site=hold_out", "split.test_sites=[Lyon]", "split.test_fraction=0.1"], "test_fraction must be 0"),
        (["split.by_site=hold_out", "split.val_sites=[Lyon]", "split.folds=3"], "val_sites and folds exclude"),
        (["split.by_site=hold_out", "split.folds=5"], "split.folds=5: there are 4 sites, fewer than folds"),
        (["split.by_site=stratify", "data.columns.site=clinic"], "has no column of sites; set data.columns.site"),
        (["split.by_site=sites"], "split.by_site: expected 'stratify' or 'hold_out'"),
        (["split.by_site=stratify", "split.file=x.csv"], "by_site=stratify draws a split, but file has one"),
        (["split.file=x.csv"], "split.file: is a split already"),
        (["split.test_fraction=0.99"], "argument split.test_fraction=0.99: split.test_fraction: test_fraction and"),
        (["split.test_fraction=0.99", "split.folds=3"], "argument split.test_fraction=0.99: split.test_fraction: "),
        (["split.fold=1"], "split.fold: every fold is written here"),
        (["split.folds=30"], "split.folds=30: label 'b' has"),
        (["--force"], "--force: there is nothing to replace"),
        (["--out", "nowhere/split.csv"], "expected the name of a file in a folder that exists"),
        (["--out", "split.txt"], "--out split.txt: expected a name that ends in .csv"),
        (["--out", "/proc/split.csv"], "--out /proc/split.csv: cannot be written: "),
        (["--out", "s" * 300 + ".csv"], "cannot be written: File name too long; choose another name or folder"),
    ],
)  # fmt: skip
def test_a_mistake_is_said(
    arguments: list[str], message: str, clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(clinic.parent.iterdir())
    assert split(*arguments) == 2
    assert message in capsys.readouterr().err
    assert sorted(clinic.parent.iterdir()) == before


def test_sites_that_cannot_be_held_out_are_named_by_line(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sites = [row["site"] for row in read_rows(clinic)]
    sites[2], sites[10] = "Leeds", ""  # the second visit of p01, and somebody without a site
    change(clinic, site=sites)
    assert split("split.by_site=hold_out") == 2
    said = capsys.readouterr().err
    assert "cohort.csv line 4: case c01-1: patient p01 is of site Leeds, but of Berlin in line 3" in said
    assert "cohort.csv line 12: case c08-0: the site is empty" in said


def test_a_split_that_is_there_is_not_drawn_over(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(clinic, split=["test" if row["site"] == "Leeds" else "train" for row in read_rows(clinic)])
    assert split() == 2
    assert "there is nothing to draw" in capsys.readouterr().err
    assert split("split.folds=3", "--out", "folds.csv") == 0
    assert groups(read_rows("folds.csv"), "site", by="split")["test"] == {"Leeds"}


@pytest.mark.parametrize("by_site", ["stratify", "hold_out"])
def test_folds_that_are_there_are_not_drawn_over_by_site(
    by_site: str, clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(clinic, fold=[str(int(row["patient"][1:]) % 3) for row in read_rows(clinic)])
    for keys in ([], ["split.folds=3"]):
        assert split(f"split.by_site={by_site}", *keys) == 2
        assert "in its column of folds; rename the column there" in capsys.readouterr().err
    assert split("split.folds=4") == 2
    assert "- split.folds=4: the CSV has the folds 0, 1, 2" in capsys.readouterr().err


@pytest.mark.parametrize("keys", [[], ["split.folds=3"]])
def test_a_modality_that_nobody_is_trained_on_with_is_said(
    keys: list[str], clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(clinic, mri=[""] * 100)
    assert split("modalities.mri={dims: 2, size: [32, 32]}", *keys) == 0
    assert (
        "warning: no case that is trained on has mri, which training refuses; modalities.mri=null leaves it out"
    ) in capsys.readouterr().err
