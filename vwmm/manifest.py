"""`vwmm manifest`: drafts the cohort's CSV from a folder tree; writes only with --out.

    vwmm manifest images                                            # proposes patterns
    vwmm manifest images --pattern 'vw_mri={patient}/vw*.nii.gz' --pattern 'ct={patient}/ct/'
    vwmm manifest images --pattern 'ct=ct/{patient}_*.nii.gz' --labels labels.csv:patient:diagnosis --out cohort.csv
    vwmm manifest bids --pattern 'mri=sub-{patient}/anat/*_T1w.nii.gz' --labels participants.tsv:participant_id:group
    vwmm manifest dicom --series 'ct=*angio*' --labels labels.csv:PatientID:label --out cohort.csv

In a pattern `{patient}`, `{session}` and `{case}` identify the case, any other word in braces becomes a column, `*`
stays within a name, `**/` goes over folders, and a `/` at the end means a folder with one DICOM series. With --series,
DICOM headers identify the case; a number then replaces each PatientID.
"""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from vwmm.config.run_folder import write_whole
from vwmm.config.schema import DEFAULT_MODALITIES
from vwmm.data.drafting.dicom_series import Series, match_series, scan_series
from vwmm.data.drafting.draft import (
    Row,
    draft_rows,
    give_numbers,
    mixed_sessions,
    placed_from,
    table_cells,
)
from vwmm.data.drafting.lookups import fill_in, find_lookup, read_lookup
from vwmm.data.drafting.patterns import Found, compile_pattern, match_tree, parse_named, parse_patterns
from vwmm.data.drafting.suggest import DESCRIPTION, is_image, propose_patterns, propose_series
from vwmm.data.drafting.tree import Tree, walk_tree
from vwmm.data.readers.absent import HOW_TO_FETCH
from vwmm.engine.console import ProgressBar, start_log
from vwmm.system.command_line import CommandLine, help_text, parse_command_line
from vwmm.system.csv_cells import csv_text
from vwmm.system.errors import EXIT_DONE, UserError, leave, print_line, run_guarded
from vwmm.system.problems import Problem, printable

OPTIONS = {
    "DIR": "the folder with the images",
    "--pattern MODALITY=PATTERN": "which files or folders are a modality's images; may be repeated",
    "--series MODALITY=DESCRIPTION": "which DICOM series are, by SeriesDescription; may be repeated",
    "--labels FILE:KEY:COLUMN": "a table with the label of each patient or case, and the names of its two columns; "
    "KEY may be two, PATIENT+SESSION, and FILE may have {patient} in it",
    "--sites FILE:KEY:COLUMN": "the same for the site",
    "--keep-ids": "with --series: writes PatientID instead of a number",
    "--out FILE": "writes the table; without it nothing is written",
    "--force": "replaces a table that is there already",
}
_NUM_SHOWN = 5


@dataclass
class Draft:
    """What would be written, and what a person should know before."""

    rows: list[Row]
    """A row a case."""
    modalities: list[str]
    """In the order of the command line."""
    warnings: list[str] = field(default_factory=list)
    """What is probably not as meant."""


def main(arguments: list[str]) -> int:
    """`vwmm manifest`: shows what it would match, or writes it."""
    line = parse_command_line(
        arguments,
        options=["--labels", "--sites", "--out"],
        repeated=["--pattern", "--series"],
        flags=["--keep-ids", "--force"],
        words=["DIR"],
        optional=["ANOTHER"] * len(arguments),
        configs=[],
    )
    if "--help" in line.options:
        print(help_text(__doc__, OPTIONS))
        return EXIT_DONE
    out = Path(line.options["--out"]) if "--out" in line.options else None
    _check_options(line, out)
    start_log(is_main_process=True)
    tree = walk_tree(Path(line.words[0]))
    if not line.lists:
        print(propose(tree))
        for warning in _absent(tree):
            print_line(f"warning: {printable(warning)}")
        return EXIT_DONE
    draft = make_draft(tree, line)
    print(describe(tree, draft, out))
    for warning in draft.warnings:
        print_line(f"warning: {printable(warning)}")
    if out is None:
        print("\nnothing was written; --out cohort.csv writes it")
        return EXIT_DONE
    place = placed_from(tree.root, out)
    try:
        write_whole(out, csv_text(table_cells(draft.rows, draft.modalities, place)))
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}") from error
    print(
        f"\n{printable(str(out))}: {len(draft.rows)} cases\n{_next(draft, out, is_outside=place('.').startswith('..'))}"
    )
    return EXIT_DONE


def make_draft(tree: Tree, line: CommandLine) -> Draft:
    """The table of a command line. Raises UserError with everything that stands against it."""
    named, strange = parse_named("--series", line.lists.get("--series", []))
    problems: list[str | Problem] = [*strange]
    try:
        patterns = parse_patterns(line.lists.get("--pattern", []))
    except UserError as error:
        raise UserError([*error.problems, *problems]) from error
    problems += tree.problems
    lookups = []
    for option, column in (("--labels", "label"), ("--sites", "site")):
        try:
            if option in line.options:
                lookups.append(read_lookup(option, column, line.options[option], tree))
        except UserError as error:
            problems += error.problems
    found, absent = match_tree(tree, patterns)
    by_header, others, strange = match_series(_series(tree), named, tree.root) if named else ([], [], [])
    rows, against = draft_rows([*found, *by_header])
    problems += [*absent, *strange, *against]
    draft = Draft(rows, list(dict.fromkeys([p.modality for p in patterns] + [name for name, _ in named])))
    for lookup in lookups:
        wrong, warnings = fill_in(rows, lookup)
        problems += wrong
        draft.warnings += warnings
    if problems:
        raise UserError(list(dict.fromkeys(problems)))
    if mixed := mixed_sessions([*found, *by_header]):
        draft.warnings.append(
            "patients with images in and outside of a session, which are cases apart: "
            f"{len(mixed)} of {len({row.patient for row in rows})}; give every pattern {{session}}, or none"
        )
    draft.warnings += _left_over(tree, [*found, *by_header], others) + _absent(tree)
    if named and "--keep-ids" not in line.options:
        if count := sum(any(row.patient in path for path in row.images.values()) for row in rows):
            draft.warnings.append(
                f"cases with the PatientID in a path, which stands in the table: {count} of {len(rows)}"
            )
        give_numbers(rows)
        rows.sort(key=lambda row: row.case)
    if count := sum(not "".join([row.case, row.patient, *row.images.values()]).isprintable() for row in rows):
        draft.warnings.append(
            f"cases with a name or path with invisible characters, such as a line break: {count} of {len(rows)}"
        )
    return draft


def describe(tree: Tree, draft: Draft, out: Path | None) -> str:
    """Counts, and the first rows as they would be written."""
    rows = draft.rows
    lines = [f"{tree.root}: {len(rows)} cases of {len({row.patient for row in rows})} patients", ""]
    for name in draft.modalities:
        count = sum(name in row.images for row in rows)
        lines.append(f"  {name}: {count} images, {len(rows) - count} missing")
    for column in ("label", "site"):
        if any(column in row.values for row in rows):
            counts = Counter(row.values.get(column) or "none" for row in rows)
            lines.append(f"  {column}: " + ", ".join(f"{value} {count}" for value, count in sorted(counts.items())))
    place = placed_from(tree.root, out or tree.root / "cohort.csv")
    shown = [[printable(cell) for cell in row] for row in table_cells(rows[:_NUM_SHOWN], draft.modalities, place)]
    lines += ["", *csv_text(shown).splitlines()]
    lines += [f"... and {len(rows) - _NUM_SHOWN} more"] if len(rows) > _NUM_SHOWN else []
    return "\n".join(map(printable, lines))


def propose(tree: Tree) -> str:
    """Patterns that would fit, as a command to change and run. Raises UserError where there is no image."""
    found = _series(tree)
    patterns, series = propose_patterns(tree, found), propose_series(found)
    if not patterns and not series:
        raise UserError(f"DIR {tree.root}: no image was found in {len(tree.files)} files")
    kind = "a BIDS data set" if DESCRIPTION in tree.files else f"{len(tree.files)} files"
    lines = [f"{tree.root}: {kind}"]
    if patterns:
        lines += ["", "Patterns that would fit, with the number of images (what is the patient is a guess):", ""]
        lines += [f"{count:8}  --pattern {shlex.quote(text)}" for text, count in patterns]
    if series:
        lines += ["", "DICOM series, with the number of patients:", ""]
        lines += [f"{count:8}  --series {shlex.quote(text)}" for text, count in series]
    chosen = [f"--pattern {shlex.quote(text)}" for text, _ in patterns[:3]] if patterns else []
    chosen = chosen or [f"--series {shlex.quote(text)}" for text, _ in series[:3]]
    if DESCRIPTION in tree.files and "participants.tsv" in tree.files:
        columns = (tree.root / "participants.tsv").read_text(encoding="utf-8-sig", errors="replace").split("\n")[0]
        lines += ["", f"participants.tsv has the columns {', '.join(columns.strip().split(chr(9)))}"]
        chosen.append("--labels participants.tsv:participant_id:COLUMN")
    command = " \\\n    ".join([f"vwmm manifest {shlex.quote(str(tree.root))}", *chosen]).split("\n")
    lines += ["", "Rename the modalities, leave out what is none, and look at what it matches:", ""]
    return "\n".join([*map(printable, lines), *map(printable, command)])


def _series(tree: Tree) -> list[Series]:
    """The DICOM series of the tree; of half a million files, a header each is minutes."""
    with ProgressBar("looking for DICOM", len(tree.files), "file") as progress:
        return scan_series(tree, each=progress.advance)


def _left_over(tree: Tree, found: Sequence[Found], others: Sequence[Series]) -> list[str]:
    """Images that are in no cell."""
    used = {image.path for image in found}
    left = [
        file for file in tree.files
        if is_image(file) and file not in used and not any(folder in used for folder in _above(file))
    ]  # fmt: skip
    warnings = []
    if left:
        shown = ", ".join(left[:_NUM_SHOWN]) + (", ..." if len(left) > _NUM_SHOWN else "")
        warnings.append(f"image files left over: {len(left)} ({shown})")
    others = [series for series in others if not used & {series.path, *_above(series.path)}]
    if others:
        counts = Counter(series.description or "(no description)" for series in others)
        shown = ", ".join(f"{name!r} {count}" for name, count in counts.most_common(_NUM_SHOWN))
        warnings.append(f"DICOM series left over: {len(others)} ({shown})")
    return warnings


def _absent(tree: Tree) -> list[str]:
    """Dangling links to images; their cases are absent or have fewer images."""
    absent = [file for file in tree.absent if is_image(file) or not Path(file).suffix]
    if not absent:
        return []
    shown = ", ".join(absent[:_NUM_SHOWN]) + (", ..." if len(absent) > _NUM_SHOWN else "")
    return [f"links to files that are not there, left out: {len(absent)} ({shown}); {HOW_TO_FETCH}"]


def _above(path: str) -> list[str]:
    """The folders that a path is in."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) or "." for depth in range(len(parts))]


def _next(draft: Draft, out: Path, *, is_outside: bool) -> str:
    """What to type next, and what has to be set for it."""
    words = ["vwmm", "check", f"data.csv={out}"]
    words += [f"modalities.{name}=null" for name in DEFAULT_MODALITIES if name not in draft.modalities]
    lines = [f"next: {shlex.join(words)}"]
    if is_outside:
        lines.append("the images lie outside the CSV's folder: data.allow_outside_root=true, or write it above them")
    if unknown := [name for name in draft.modalities if name not in DEFAULT_MODALITIES]:
        lines.append(f"describe {', '.join(unknown)} in a configuration first: modalities.{unknown[0]}.dims and .size")
    return "\n".join(map(printable, lines))


def _check_options(line: CommandLine, out: Path | None) -> None:
    problems = [f"argument {word}: there is no configuration here" for word in line.overrides]
    problems += [f"argument {word}: there is one DIR only; it is {line.words[0]}" for word in line.words[1:]]
    if out is None and "--force" in line.options:
        problems.append("--force: there is nothing to replace without --out FILE")
    if "--keep-ids" in line.options and "--series" not in line.lists:
        problems.append("--keep-ids: belongs to --series")
    for option in ("--labels", "--sites", "--out"):
        if option in line.options and not line.lists:
            problems.append(f"{option}: needs --pattern or --series; without them patterns are proposed")
    if out is not None and (why := _against_writing(out, line)):
        problems.append(f"--out {out}: {why}")
    if problems:
        raise UserError(problems)


def _against_writing(out: Path, line: CommandLine) -> str:
    """Why the table is not written there; empty where it can be."""
    try:
        if out.is_dir() or not out.absolute().parent.is_dir() or out.suffix.lower() != ".csv":
            return "expected the name of a .csv file in a folder that exists"
        if out.is_symlink():
            return f"this is a link to {out.readlink()}; name that file, since a table is relative to its own folder"
        if out.exists():
            options = [option for option in ("--labels", "--sites") if option in line.options]
            tables = [(option, find_lookup(line.options[option], Path(line.words[0]))) for option in options]
            if read := [option for option, path in tables if path.exists() and out.samefile(path)]:
                return f"{read[0]} reads this file; choose another name"
            names = [line.options[option].rsplit(":", 2)[0] for option in options]
            place = os.path.relpath(out.resolve(), Path(line.words[0]).resolve())
            if any("{" in name and compile_pattern(name).fullmatch(place) for name in names):
                return "this is one of the tables that are read; choose another name"
            if "--force" not in line.options:
                return "this file is there already; choose another name, or use --force to replace it"
        with TemporaryFile(dir=out.absolute().parent):
            return ""
    except OSError as error:
        return f"cannot be written: {error.strerror}"


if __name__ == "__main__":
    leave(run_guarded(main, sys.argv[1:]))
