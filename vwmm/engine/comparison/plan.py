"""Plans a comparison: the models, and the folds that all of them are trained on.

Each model is a cross-validation in runs/NAME/MODEL/fold-0/ ... The folds are drawn once, over all cases, and kept in
runs/NAME/folds.csv, since a model with fewer modalities leaves out the cases that have none of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.schema import Config
from vwmm.data.checks.preflight import check_images
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.read_cases import survey_cohort
from vwmm.data.cohort.split_file import split_file_text
from vwmm.data.cohort.splits import decided_by, divide_in_folds
from vwmm.engine.evaluation.cross_validation import DEFAULT_FOLDS, Fold, plan_folds
from vwmm.system.errors import UserError, is_main_process
from vwmm.system.problems import Problem

ALL = "all"
FOLDS_FILE = "folds.csv"


@dataclass(frozen=True)
class PlannedModel:
    """A model that is trained in each fold."""

    name: str
    """`all`, `only_NAME` or `without_NAME`."""
    modalities: tuple[str, ...]
    """Those that it sees."""
    overrides: tuple[str, ...]
    """KEY=VALUE arguments that make its configuration out of the one that all models share."""
    folds: tuple[Fold, ...]
    """Its folds, checked."""


@dataclass(frozen=True)
class Plan:
    """A comparison that may begin."""

    folder: Path
    """runs/NAME/."""
    config: Config
    """Of the model with all modalities, in its first fold."""
    cohort: Cohort
    """All cases."""
    models: tuple[PlannedModel, ...]

    @property
    def fold_numbers(self) -> list[int]:
        """The folds, in order."""
        return [fold.number for fold in self.models[0].folds]

    def unfinished(self) -> list[str]:
        """MODEL/fold-K of those that are not trained yet."""
        return [
            f"{model.name}/{fold.run.name}"
            for model in self.models
            for fold in model.folds
            if fold.run.state() != "done"
        ]


def subsets(modalities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The models by name: all modalities, each alone, and, from three on, each left out."""
    found = {ALL: tuple(modalities)}
    if len(modalities) > 1:
        found |= {f"only_{name}": (name,) for name in modalities}
    if len(modalities) > 2:
        found |= {f"without_{left}": tuple(name for name in modalities if name != left) for left in modalities}
    return found


def plan_comparison(config: Config, files: Sequence[str], overrides: Sequence[str], *, baselines: bool) -> Plan:
    """The plan of a configuration; files, overrides: those that it was read from. Raises UserError with every problem.

    Writes runs/NAME/folds.csv where the folds are drawn.
    """
    if len(config.modalities) < 2 and not baselines:
        raise UserError(
            f"one modality ({', '.join(config.modalities)}): there is nothing to compare; --baselines compares it with "
            "models that see no image"
        )
    folder = Path(config.run.dir) / str(config.run.name)
    _check_folder(folder)
    cohort, problems = survey_cohort(config.data, config.modalities)
    if cohort is not None and is_main_process():
        problems = problems + check_images(cohort, config.modalities, cache=config.cache)
    if problems or cohort is None:
        raise UserError(problems)
    shared = _shared_folds(config, cohort, folder)
    models, wrong = list[PlannedModel](), list[Problem]()
    for name, seen in subsets(list(config.modalities)).items():
        own = [
            *shared,
            *(f"modalities.{left}=null" for left in config.modalities if left not in seen),
            f"tracking.group={config.tracking.group or folder.name}",
        ]
        try:
            own_config = load_config(files, [*overrides, "split.fold=0", *own, f"run.dir={folder}", f"run.name={name}"])
            models.append(PlannedModel(name, seen, tuple(own), tuple(plan_folds(own_config, open_files=False))))
        except UserError as error:
            wrong += [problem.within(f"model {name}") for problem in error.problems]
    if wrong:
        raise UserError(wrong)
    return Plan(folder, models[0].folds[0].config, cohort, tuple(models))


def _check_folder(folder: Path) -> None:
    """Raises UserError where the folder is already something else."""
    finished = folder / "cross_validation.json"
    others = {"run": RunFolder(folder).config, "cross-validation": next(folder.glob("fold-*"), finished)}
    for what, file in others.items():
        if file.exists():
            found = f"{folder} is a {what}, not a comparison; choose another run.name"
            raise UserError(Problem(found, key="run.name"))


def _shared_folds(config: Config, cohort: Cohort, folder: Path) -> list[str]:
    """Arguments that give every model the same folds; drawn ones are written down."""
    split = config.split
    if split.file is not None or any(case.fold is not None for case in cohort.cases):
        return []
    drawn = split.model_copy(update={"folds": split.folds or DEFAULT_FOLDS, "fold": 0})
    assert decided_by(cohort, drawn).by == "draw"
    folds = divide_in_folds(cohort, drawn)
    fold_of = {case.name: folds.fold_of[case.patient] for case in cohort.cases if case.patient in folds.fold_of}
    parts = {case.name: "train" if case.name in fold_of else "test" for case in cohort.cases}
    text, file = split_file_text(cohort, parts, fold_of), folder / FOLDS_FILE
    if file.exists() and file.read_bytes() != text.encode():
        found = (
            f"{file} was drawn for other cases, labels, or split settings than these; choose another run.name to begin "
            "a new comparison"
        )
        raise UserError(Problem(found, key="run.name"))
    if not file.exists():  # each of several processes needs it at once, and all write the same
        write_whole(file, text)
    undrawn = ("split.folds", "split.by_site", "split.val_sites", "split.test_sites")
    return [f"split.file={file}", *(f"{key}=null" for key in undrawn), "split.test_fraction=0"]
