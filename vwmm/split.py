"""`vwmm split`: splits the patients into parts or folds and writes the split file.

    vwmm split data.csv=cohort.csv split.test_fraction=0.2 --out split.csv
    vwmm split data.csv=cohort.csv split.by_site=stratify --out split.csv
    vwmm split data.csv=cohort.csv split.by_site=hold_out split.test_sites=[Leeds] --out split.csv
    vwmm split data.csv=cohort.csv split.folds=5 --out folds.csv

Without --out it shows the split and writes nothing. Training with the same keys draws the same split; with
`split.file=split.csv` it reads the file, as `vwmm cross_validate split.file=folds.csv` does with a file of folds.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from vwmm.config.loading import find_shipped, load_config, read_config
from vwmm.config.run_folder import write_whole
from vwmm.config.schema import Config, Split
from vwmm.data.checks.duplicates import apart_problems
from vwmm.data.cohort.cases import SPLITS, Case, Cohort
from vwmm.data.cohort.cohort_notes import table_notes
from vwmm.data.cohort.read_cases import read_cohort
from vwmm.data.cohort.split_file import split_file_text
from vwmm.data.cohort.splits import check_parts, divide_in_folds, split_cohort, split_hash
from vwmm.system.command_line import CommandLine, help_text, parse_command_line
from vwmm.system.errors import EXIT_DONE, UserError, leave, print_line, run_guarded

OPTIONS = {
    "--config FILE": "a YAML file; may be repeated",
    "KEY=VALUE": "sets one key: split.val_fraction=0.2 split.folds=5 split.by_site=stratify split.seed=1",
    "--out FILE.csv": "writes case,patient,label,split and, where there are any, fold and site",
    "--force": "replaces a file that is there already",
}


def main(arguments: list[str]) -> int:
    """`vwmm split`: prints what is in each part; writes the split where it is asked to."""
    line = parse_command_line(arguments, options=["--out"], flags=["--force"])
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    config = _read_config(line)
    out = _find_out(line, config)
    cohort = read_cohort(config.data, config.modalities)
    parts, folds = divide(cohort, config.split)
    place_of = {name: f"fold {folds[name]}" if name in folds else part for name, part in parts.items()}
    places = [part for part in SPLITS if part in place_of.values()]
    if problems := apart_problems(cohort, place_of):
        raise UserError(problems)
    places = [*(f"fold {number}" for number in sorted(set(folds.values()))), *places]
    print(describe(cohort, place_of, places))
    for note in table_notes(cohort):
        print_line(f"note: {note}")
    for warning in warnings_of(cohort, place_of, places, is_held_out=config.split.by_site == "hold_out"):
        print_line(f"warning: {warning}")
    if not folds:
        print(f"\nsplit hash {split_hash(cohort, parts)}, which is in environment.json of each run with this split")
    if out is None:
        print("\nnothing was written; --out FILE writes it")
        return EXIT_DONE
    write_whole(out, split_file_text(cohort, parts, folds))
    name = line.options["--out"]
    print(f"\n{name}: {len(cohort.cases)} cases; `split.file={name}` uses it")
    return EXIT_DONE


def _read_config(line: CommandLine) -> Config:
    """The configuration; with folds, which needs one to be complete, of the first of them."""
    if load_config(line.files, [*line.overrides, "split.folds=null"]).split.fold is not None:
        raise UserError("split.fold: every fold is written here; it is training that takes one of them")
    reading = read_config(line.files, [*line.overrides, "split.fold=0"])
    has_folds = reading.config is not None and reading.config.split.folds is not None
    return load_config(line.files, [*line.overrides, *["split.fold=0"] * has_folds])


def divide(cohort: Cohort, split: Split) -> tuple[dict[str, str], dict[str, int]]:
    """The part and, with folds, the fold of each case. Raises UserError where a part lacks what training needs."""
    if split.file is not None:
        raise UserError("split.file: is a split already; this command draws one")
    if split.folds is None:
        if any(case.split for case in cohort.cases):
            raise UserError(
                f"{cohort.csv_path.name} already defines the split, in its column of splits: there is nothing to draw; "
                "rename the column there to draw a new split"
            )
        return split_cohort(cohort, split.model_copy(update={"fold": None})), {}
    drawn = divide_in_folds(cohort, split.model_copy(update={"fold": None}))
    for number in sorted(set(drawn.fold_of.values())):
        check_parts(cohort, drawn.parts(cohort, number), by_site=split.by_site)
    parts = {case.name: "test" if case.patient in drawn.aside else "train" for case in cohort.cases}
    return parts, {case.name: drawn.fold_of[case.patient] for case in cohort.cases if parts[case.name] != "test"}


def describe(cohort: Cohort, place_of: Mapping[str, str], places: Sequence[str]) -> str:
    """Cases / patients of each class and each site, by part or fold."""
    patients = len({case.patient for case in cohort.cases})
    kinds: dict[str, tuple[Sequence[str], Callable[[Case], str]]] = {
        "class": (cohort.classes, lambda case: str(case.label))
    }
    if sites := sorted({case.site for case in cohort.cases if case.site}):
        kinds["site"] = (sites, lambda case: str(case.site))
    width = max(len(name) for names, _ in kinds.values() for name in (*names, "class", "all"))
    lines = [f"{cohort.csv_path}: {len(cohort.cases)} cases of {patients} patients; cases / patients in each part"]
    for kind, (names, value_of) in kinds.items():
        lines += ["", f"  {kind:{width}}" + "".join(f"{place:>14}" for place in places)]
        for name in names:
            found = [[c for c in cohort.cases if value_of(c) == name and place_of[c.name] == p] for p in places]
            lines.append(f"  {name:{width}}" + "".join(_cell(cases) for cases in found))
    totals = [[case for case in cohort.cases if place_of[case.name] == place] for place in places]
    return "\n".join([*lines, "", f"  {'all':{width}}" + "".join(_cell(cases) for cases in totals)])


def warnings_of(cohort: Cohort, place_of: Mapping[str, str], places: Sequence[str], *, is_held_out: bool) -> list[str]:
    """What is missing in a part: a class; a site too, unless whole sites are held out; and an image in all training."""
    trained = [case for case in cohort.cases if place_of[case.name] not in ("val", "test")]
    found = [
        f"no case that is trained on has {name}, which training refuses; modalities.{name}=null leaves it out"
        for name in cohort.cases[0].images
        if not any(case.images[name] for case in trained)
    ]
    for place in places:
        inside = [case for case in cohort.cases if place_of[case.name] == place]
        labels, sites = {case.label for case in inside}, {case.site for case in inside}
        found += [f"no case with label {label!r} is in {place}" for label in cohort.classes if label not in labels]
        if not is_held_out:
            everywhere = sorted({case.site for case in cohort.cases if case.site})
            found += [f"no case of site {site!r} is in {place}" for site in everywhere if site not in sites]
    return found


def _cell(cases: Sequence[Case]) -> str:
    return f"{f'{len(cases)} / {len({case.patient for case in cases})}':>14}"


def _find_out(line: CommandLine, config: Config) -> Path | None:
    """The file that --out names, behind a link; None without it. Raises UserError where it cannot or must not be."""
    if "--out" not in line.options:
        if "--force" in line.options:
            raise UserError("--force: there is nothing to replace without --out FILE")
        return None
    out = line.options["--out"]
    file = Path(os.path.realpath(out))
    if Path(out).suffix != ".csv":
        raise UserError(f"--out {out}: expected a name that ends in .csv")
    try:
        if file.is_dir() or not file.parent.is_dir():
            raise UserError(f"--out {out}: expected the name of a file in a folder that exists")
        with TemporaryFile(dir=file.parent):
            is_there = file.exists()
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}; choose another name or folder") from error
    read = {"the cohort itself": config.data.csv} | {f"--config {name}": find_shipped(name) for name in line.files}
    for what, path in read.items():
        if is_there and path is not None and os.path.exists(path) and file.samefile(path):
            raise UserError(f"--out {out}: this is {what}; choose another name")
    if is_there and "--force" not in line.options:
        raise UserError(f"--out {out}: this file is there already; choose another name, or use --force to replace it")
    return file


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
