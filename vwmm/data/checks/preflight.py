"""Reads the configuration of a command line; checks it, its cohort and every file header before training."""

from collections.abc import Callable, Mapping, Sequence

from vwmm.config.loading import DEMO_CONFIG, ConfigReading, read_config, uses_shipped
from vwmm.config.messages import shorten
from vwmm.config.schema import Cache, Config, Data, Modality, Split
from vwmm.data.checks.duplicates import apart_problems
from vwmm.data.cohort.cases import Case, Cohort
from vwmm.data.cohort.csv_table import MAX_SHOWN
from vwmm.data.cohort.read_cases import survey_cohort
from vwmm.data.cohort.splits import cases_of, split_cohort
from vwmm.data.loading.sampling import num_steps
from vwmm.data.readers.imports import import_readers
from vwmm.data.readers.read import ImageError, check_header
from vwmm.data.transforms.geometry import check_dims
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem
from vwmm.system.threads import map_hiding_waits

_MANY = 1000


def read_experiment(files: Sequence[str], overrides: Sequence[str], *, makes_demo: bool = True) -> Config:
    """The configuration of files and KEY=VALUE arguments; raises UserError with its and the cohort's problems.

    makes_demo: whether the demonstration's cohort is made where its configuration is asked for and it is absent.
    """
    reading = read_config(files, overrides)
    is_demo = uses_shipped(files, DEMO_CONFIG)
    if reading.problems:
        raise UserError(reading.problems + ([] if is_demo else cohort_problems(reading)))
    assert reading.config is not None
    if is_demo and makes_demo:
        from vwmm.data.synthetic.demo import make_if_absent

        make_if_absent(reading.config)
    return reading.config


def check_images(
    cohort: Cohort,
    modalities: Mapping[str, Modality],
    *,
    cache: Cache | None = None,
    num_threads: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Opens the header of every image; returns the problems in the order of the cases.

    cache: of many images those are left out that are in it, transformed as these modalities ask for.
    """
    images = [(case, name) for case in cohort.cases for name in modalities if case.images[name] is not None]
    if cache is not None and len(images) >= _MANY:
        images = _not_cached(images, modalities, cache)
    problems = list[Problem]()
    import_readers(path for case, name in images if (path := case.images[name]) is not None)
    checks = map_hiding_waits(
        lambda image: _check_image(image[0], image[1], modalities[image[1]], cohort), images, num_threads
    )
    for number, problem in enumerate(checks, 1):
        if problem is not None:
            problems.append(problem)
        if progress is not None:
            progress(number, len(images))
    return problems


def _not_cached(
    images: Sequence[tuple[Case, str]], modalities: Mapping[str, Modality], cache: Cache
) -> list[tuple[Case, str]]:
    """Those that were not read and transformed before, or have been changed since."""
    from vwmm.data.cache.store import Store  # it imports as long as a thousand headers take

    store = Store(cache)
    recipes = {name: store.recipe(modality) for name, modality in modalities.items()}

    def is_new(image: tuple[Case, str]) -> bool:
        path, recipe = image[0].images[image[1]], recipes[image[1]]
        assert path is not None
        try:
            content = store.known_content(path)
        except OSError:
            return True
        return content is None or store.find(path, recipe, content) is None

    return [image for image in images if is_new(image)]


def image_problem(case: Case, name: str, cohort: Cohort, reason: str, kind: str) -> Problem:
    """Why an image cannot be used, with its line and path."""
    path = case.images[name]
    assert path is not None
    folder = cohort.csv_path.parent
    shown = shorten(str(path.relative_to(folder) if path.is_relative_to(folder) else path), MAX_SHOWN)
    return Problem(reason, kind, case.line, case.name, name, shown, where=cohort.csv_path.name)


def _check_image(case: Case, name: str, modality: Modality, cohort: Cohort) -> Problem | None:
    path = case.images[name]
    assert path is not None
    try:
        shape = check_header(path, series=modality.series, needs_even=modality.needs_even_slices)
        check_dims(shape, modality)
    except ImageError as error:
        return image_problem(case, name, cohort, str(error), error.kind)
    return None


def check_cohort(
    data: Data, split: Split, modalities: Mapping[str, Modality], *, cache: Cache | None = None, open_files: bool = True
) -> tuple[Cohort, dict[str, str]]:
    """The cohort and the part of each case; raises UserError with every problem of rows, files and split.

    cache: as of `check_images`. open_files: whether to look into each file's header as well.
    """
    cohort, problems = survey_cohort(data, modalities)
    if cohort is not None and open_files:
        problems = problems + check_images(cohort, modalities, cache=cache)
    if problems:
        raise UserError(problems)
    assert cohort is not None
    return cohort, split_cohort(cohort, split)


def check_cohort_to_prepare(config: Config, *, open_files: bool = True) -> Cohort:
    """The cohort, which needs no labels and no split; raises UserError with every problem of rows and files."""
    cohort, problems = survey_cohort(config.data, config.modalities, need_labels=False)
    if cohort is not None and open_files:
        problems = problems + check_images(cohort, config.modalities, cache=config.cache)
    if problems or cohort is None:
        raise UserError(problems)
    return cohort


def check_config(config: Config, *, open_files: bool = True) -> tuple[Cohort, dict[str, str]]:
    """`check_cohort` of a configuration, no patient in two parts under two spellings, and keys that fit the cohort."""
    cohort, assigned = check_cohort(
        config.data, config.split, config.modalities, cache=config.cache, open_files=open_files
    )
    if problems := apart_problems(cohort, assigned) + key_problems(config, cohort, assigned):
        raise UserError(problems)
    return cohort, assigned


def key_problems(config: Config, cohort: Cohort, assigned: Mapping[str, str]) -> list[Problem]:
    """Errors in the keys that must fit the cohort."""
    train, num_classes, training = config.train, len(cohort.classes), cases_of(cohort, assigned, "train")
    problems = [
        Problem(
            f"no case that is trained on has this image; leave it out by modalities.{name}=null",
            key=f"modalities.{name}",
        )
        for name in config.modalities
        if not any(case.images[name] for case in training)
    ]
    if isinstance(train.class_weights, list) and len(train.class_weights) != num_classes:
        found = len(train.class_weights)
        problems.append(Problem(f"train.class_weights has {found} numbers, but there are {num_classes} classes"))
    total = train.epochs * num_steps(len(training), train.batch_size, train.micro_batch_size)
    if train.warmup_steps >= total:
        what = f"{train.warmup_steps} is not below the {total} steps of the whole training"
        problems.append(Problem(what, key="train.warmup_steps"))
    return problems


def cohort_problems(reading: ConfigReading) -> list[Problem]:
    """Errors in the cohort of an invalid configuration, as far as they can be found."""
    about_data = any(key.split(".")[0] in ("data", "modalities", "split") for key in reading.wrong_keys)
    if reading.config is None or about_data or reading.config.data.csv is None:
        return []
    try:
        check_config(reading.config)
    except UserError as error:
        return error.problems
    return []
