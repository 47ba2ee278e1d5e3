"""The sub-groups that `--by` asks for, from the columns of the cohort."""

import difflib
from collections.abc import Sequence

from vwmm.analysis.subgroups import Grouping, group_column, parse_grouping
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.spelling import is_missing
from vwmm.system.problems import Problem


def group_cases(asked: Sequence[str], cohort: Cohort) -> tuple[list[Grouping], list[Problem]]:
    """The groups of the cohort's cases by each `COLUMN` or `COLUMN:BINS`, and what is wrong with the others."""
    columns = list(cohort.cases[0].extra) if cohort.cases else []
    found, problems = list[Grouping](), list[Problem]()
    for text in dict.fromkeys(asked):
        try:
            request = parse_grouping(text)
        except ValueError as error:
            problems.append(Problem(f"--by {text}: {error}"))
            continue
        if request.column not in columns:
            near = difflib.get_close_matches(request.column, columns, n=1)
            known = f"did you mean {near[0]}?" if near else f"its further columns are {', '.join(columns) or 'none'}"
            what = f"--by {request.column}: {cohort.csv_path.name} has no such column; {known}"
            problems.append(Problem(what))
            continue
        try:
            texts = [case.extra[request.column] for case in cohort.cases]
            cells = ["" if is_missing(text) else text for text in texts]
            found.append(group_column(request, cells, [f"line {case.line}" for case in cohort.cases]))
        except ValueError as error:
            problems.append(Problem(f"--by {request.column}: the column {error}", where=cohort.csv_path.name))
    return found, problems
