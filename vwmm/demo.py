"""`vwmm demo`: makes the synthetic demonstration cohort with known truth.

    vwmm demo
    vwmm demo --out data/hospitals --cases 600 --missing 0.1 --sites 3

The same options make the same bytes; a folder that already holds their cohort is not changed.
"""

import argparse
import csv
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from vwmm.data.synthetic import phantom, phantom_truth
from vwmm.data.synthetic.demo import make_showing_progress
from vwmm.system.errors import EXIT_DONE, UserError
from vwmm.system.problems import Problem

DEFAULT_OUT = "data/demo"


def main(arguments: list[str]) -> int:
    """Makes the cohort if needed and prints its contents; returns the exit code. Raises UserError."""
    parser = _parser()
    given, unknown = parser.parse_known_args(arguments)
    if given.help:
        print(parser.format_help(), end="")
        return EXIT_DONE
    out, options = _checked(given, unknown)
    if phantom.existing_cohort(out, options):
        print(f"{out} already holds this cohort, made with the same options; nothing was written.")
        cohort_path = out / "cohort.csv"
    else:
        cohort_path = make_showing_progress(out, options)
    print(_summary(cohort_path))
    return EXIT_DONE


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage like every other user error: argparse itself would print and exit."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"vwmm demo: {message}; `vwmm demo --help` shows the options")


def _parser() -> _Parser:
    """Values are read as text, so that all that are wrong can be reported at once."""
    parser = _Parser(
        prog="vwmm demo",
        description="Make the demonstration cohort: synthetic images with a known truth.",
        epilog="examples:\n" + "\n".join((__doc__ or "").splitlines()[2:4]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    default = phantom.Options()
    parser.add_argument("--out", metavar="DIR", default=DEFAULT_OUT, help=f"folder to make (default: {DEFAULT_OUT})")
    parser.add_argument("--cases", metavar="N", default=default.cases, help="number of cases (default: %(default)s)")
    parser.add_argument(
        "--missing", metavar="FRACTION", default=default.missing,
        help="chance that an image is missing, 0 to 0.9 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--sites", metavar="N", default=default.sites, help="number of hospitals (default: %(default)s)"
    )
    parser.add_argument(
        "--size", metavar="full|small", default=default.size,
        help="full: 256x256x96 and 512x512 voxels; small: 64x64x32 and 64x64 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="N", default=default.seed, help="seed of every draw (default: %(default)s)")
    parser.add_argument("-h", "--help", action="store_true", help="show this and stop")
    return parser


def _checked(given: argparse.Namespace, unknown: list[str]) -> tuple[Path, phantom.Options]:
    """The folder and the options; UserError with every problem of the command line and the folder."""
    problems: list[str | Problem] = []
    problems += _unknown_problems(unknown, known=[f"--{name}" for name in vars(given)])
    values = {"size": given.size}
    for name, read, expected in (
        ("cases", int, "a whole number"),
        ("missing", float, "a number"),
        ("sites", int, "a whole number"),
        ("seed", int, "a whole number"),
    ):
        try:
            values[name] = read(getattr(given, name))
        except ValueError:
            problems.append(f"--{name}: expected {expected}, got {getattr(given, name)!r}")
    options = phantom.Options(**values)
    if not given.out:
        raise UserError([*problems, *(f"--{problem}" for problem in options.problems()), "--out: expected a folder"])
    try:
        phantom.existing_cohort(Path(given.out), options)
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError(problems)
    return Path(given.out), options


def _unknown_problems(unknown: list[str], known: list[str]) -> list[str]:
    """One line for each unknown option; a lone word is named only where it is not the value of such an option."""
    flags = [word.split("=")[0] for word in unknown if word.startswith("-")]
    problems = []
    for flag in flags:
        near = get_close_matches(flag, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        problems.append(f"{flag}: no such option; {hint}")
    return problems or [f"{word!r}: unexpected; a folder is given as --out DIR" for word in unknown]


def _summary(cohort_path: Path) -> str:
    """A summary of the cohort for the user, and the next commands."""
    with cohort_path.open(encoding="utf-8", newline="") as file:
        counts = Counter(row["label"] for row in csv.DictReader(file))
    classes = "\n".join(f"  {label:<18} {number:6}" for label, number in sorted(counts.items()))
    return f"""A SYNTHETIC cohort of {counts.total()} cases: no patient, no scanner, no diagnosis.

Cases per class:
{classes}

The best accuracy that any model can reach on complete cases, by the modalities it sees (chance is 1/3):
{phantom_truth.ceilings_table()}

Cohort: {cohort_path}
Next:   vwmm train --config configs/demo.yaml data.csv={cohort_path}"""
