"""The search space of `vwmm sweep`, validated before anything starts.

metric: auroc
parameters:
  train.lr: {low: 1e-5, high: 1e-2, log: true}
  train.warmup_steps: {low: 0, high: 100, step: 20}
  model.hidden: {choices: [[512, 256, 128], [64]]}
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import ValidationError

from vwmm.config.loading import argument_place, parse_file, read_config
from vwmm.config.messages import Key, Origins, Place, explain, key_of, shorten
from vwmm.config.run_folder import FREE_KEYS
from vwmm.config.schema import Config
from vwmm.config.search_space_file import Parameter, SpaceFile
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

SPACE = "configs/spaces/default.yaml"
SEARCHABLE = ("model", "augment", "train")
_REFUSED = {
    "train.seed": "a seed that is chosen by its validation score is chosen for its luck",
    "train.monitor": "`metric` of the space sets it for each trial",
}
# Whole numbers of a range are each tried where there are no more than this; combinations where these are not more.
MAX_VALUES, MAX_COMBINATIONS = 64, 256


@dataclass(frozen=True)
class Searched:
    """One key that is searched, checked."""

    key: str
    """The dotted key."""
    kind: Literal["int", "float", "choice"]
    """The values to draw from."""
    low: float = 0
    """Smallest value of a range."""
    high: float = 0
    """Largest value of a range."""
    log: bool = False
    """Whether orders of magnitude are equally likely."""
    step: float | None = None
    """Distance of the values; None: any."""
    choices: tuple[str, ...] = ()
    """Of a choice: the values, as JSON."""

    def describe(self) -> str:
        """On one line, as in the file."""
        if self.kind == "choice":
            return f"choices: [{', '.join(self.choices)}]"
        more = (", log: true" if self.log else "") + (f", step: {self.step:g}" if self.step else "")
        return f"{self.kind}, low: {self.low!r}, high: {self.high!r}{more}"

    def tried(self) -> list[str]:
        """The values that are checked ahead of time, as JSON."""
        if self.kind == "choice":
            return list(self.choices)
        if self.kind == "int" and not self.log:
            values = range(int(self.low), int(self.high) + 1, int(self.step or 1))
            if len(values) <= MAX_VALUES:
                return [str(value) for value in values]
        return [_number(self.low), _number(self.high)]


@dataclass(frozen=True)
class Space:
    """A search space, checked."""

    metric: str
    """The validation value that is searched for."""
    searched: tuple[Searched, ...]
    """What is searched, in the file's order."""
    combinations: tuple[tuple[str, Config], ...] = field(default=(), repr=False, compare=False)
    """Checked configurations of the space, and the KEY=VALUE words that select them."""

    @property
    def is_minimized(self) -> bool:
        """Whether less is better."""
        return self.metric == "loss"

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """KEY=VALUE arguments of one trial's values."""
        words = [f"train.monitor={self.metric}"]
        for one in self.searched:
            value = values[one.key]
            words.append(f"{one.key}={value if one.kind == 'choice' else json.dumps(value)}")
        return words


def read_space(file: str, files: Sequence[str], overrides: Sequence[str]) -> Space:
    """The space of a YAML file over a configuration. Raises UserError with all that is wrong with the space."""
    parsed, problems = parse_file(file, "--space", "`metric:` and `parameters:`")
    content = None if parsed is None else parsed.value or {}
    if parsed is None or content is None:
        raise UserError(problems)
    origins = {"": Place(file), **{key: Place(file, line) for key, line in parsed.lines.items()}}
    given = content.get("parameters")
    given = given if isinstance(given, dict) else {}
    for key in [key for key in given if "." not in str(key)]:
        place = origins.get(f"parameters.{key}", origins[""])
        found = "expected a dotted key of the configuration, such as train.lr"
        problems.append(place.problem(found, f"parameters.{key}"))
        content = {**content, "parameters": {k: v for k, v in given.items() if "." in str(k)}}
    space = _validate(content, origins, problems)
    base = read_config(files, overrides)
    searched = list[Searched]()
    for key, parameter in space.parameters.items() if space is not None else ():
        checking = _Checking(files, overrides, base.problems, origins.get(f"parameters.{key}", origins[""]))
        if (one := checking.check(key, parameter)) is not None and not checking.problems:
            searched.append(one)
        problems += checking.problems
    if problems or space is None:
        raise UserError(problems)
    metric = space.metric or (base.config.train.monitor if base.config is not None else "loss")
    unchecked = Space(metric, tuple(searched))
    combinations, problems = _combine(unchecked, file, files, overrides, base.problems)
    if problems:
        raise UserError(problems)
    return Space(metric, tuple(searched), tuple(combinations))


def _validate(content: Mapping[str, Any], origins: Origins, problems: list[Problem]) -> SpaceFile | None:
    """The records of a file without what is wrong in it, which is noted."""
    try:
        return SpaceFile.model_validate(content)
    except ValidationError as error:
        grouped: dict[Key, list[Any]] = {}
        for detail in error.errors(include_url=False):
            grouped.setdefault(key_of(detail["loc"], SpaceFile), []).append(detail)
    for key, details in grouped.items():
        problems += explain(key, details, origins, SpaceFile)
    wrong = {key[1] for key in grouped if len(key) > 1 and key[0] == "parameters"}
    parameters = content.get("parameters")
    rest = {k: v for k, v in parameters.items() if str(k) not in wrong} if isinstance(parameters, dict) else {}
    try:
        return SpaceFile.model_validate({"parameters": rest}) if rest else None
    except ValidationError:
        return None


@dataclass
class _Checking:
    """The check of one key over a configuration."""

    files: Sequence[str]
    overrides: Sequence[str]
    known: Sequence[Problem]
    """What is wrong with the configuration without it."""
    place: Place
    """Where the space names it."""
    problems: list[Problem] = field(default_factory=list)
    """What is wrong."""

    def check(self, key: str, parameter: Parameter) -> Searched | None:
        section = key.split(".")[0]
        refused = _REFUSED.get(key)
        if section in Config.model_fields and section not in SEARCHABLE:
            refused = f"only keys of {', '.join(SEARCHABLE)} can be searched: only they change the result"
        elif any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS):
            refused = "does not change the result, so there is nothing to search for"
        if refused is not None:
            self.problems.append(self.place.problem(refused, key))
            return None
        if parameter.choices is not None:
            return self._check_choices(key, parameter.choices)
        assert parameter.low is not None, "the record's rule"
        assert parameter.high is not None, "the record's rule"
        return self._check_range(key, parameter, parameter.low, parameter.high)

    def _check_choices(self, key: str, choices: Sequence[Any]) -> Searched | None:
        found = list[str]()
        for choice in choices:
            if isinstance(choice, dict):
                self.problems.append(self.place.problem("expected values or lists as choices, found a section", key))
                continue
            config = self._try(key, json.dumps(choice))
            value = json.dumps(_value_at(config, key) if config is not None else choice, default=str)
            if value in found:
                self.problems.append(self.place.problem(f"the choice {shorten(choice)} is given twice", key))
            found.append(value)
        return Searched(key, "choice", choices=tuple(found))

    def _check_range(self, key: str, parameter: Parameter, low: float, high: float) -> Searched | None:
        ends = [self._try(key, _number(end)) for end in (low, high)]
        values = [_value_at(config, key) for config in ends if config is not None]
        if len(values) < 2:
            return None
        kinds = {type(value) for value in values}
        if kinds == {int}:
            if parameter.step is not None and not parameter.step.is_integer():
                found = f"expected a whole number, because the key takes no others, found {parameter.step:g}"
                self.problems.append(self.place.problem(f"step: {found}", key))
                return None
            one = Searched(key, "int", int(low), int(high), parameter.log, parameter.step)
            for value in one.tried()[1:-1]:
                self._try(key, value)
            return one
        if kinds == {float}:
            return Searched(key, "float", low, high, parameter.log, parameter.step)
        self.problems.append(self.place.problem("takes no range of numbers; use choices", key))
        return None

    def _try(self, key: str, value: str) -> Config | None:
        """The configuration with this value; None, and what is wrong noted, if the value is impossible."""
        found = _problems_of([f"{key}={value}"], self.files, self.overrides, self.known)
        new = [
            one.within(self.place.text) if one.where else replace(one, where=self.place.where, line=self.place.line)
            for one in found[1]
        ]
        self.problems += [one for one in new if one not in self.problems]
        return None if new else found[0]


def _problems_of(
    words: Sequence[str], files: Sequence[str], overrides: Sequence[str], known: Sequence[Problem]
) -> tuple[Config | None, list[Problem]]:
    """The configuration with KEY=VALUE words, and what they make wrong with it."""
    reading = read_config(files, [*overrides, *words])
    problems = [problem for problem in reading.problems if problem not in known]
    given = [argument_place(word).where for word in words]
    return reading.config, [replace(one, where="") if one.where in given else one for one in problems]


def _combine(
    space: Space, file: str, files: Sequence[str], overrides: Sequence[str], known: Sequence[Problem]
) -> tuple[list[tuple[str, Config]], list[Problem]]:
    """The configurations of several values at once, and what is wrong with the first few that are impossible."""
    good, problems = list[tuple[str, Config]](), list[Problem]()
    for words in itertools.islice(_combinations(space), MAX_COMBINATIONS):
        config, found = _problems_of(words, files, overrides, known)
        if found and len(problems) < 3:
            problems.append(found[0].within(f"{file}: {' with '.join(words)}"))
        elif config is not None and not found:
            good.append((" ".join(words), config))
    return good, problems


def _combinations(space: Space) -> Iterator[list[str]]:
    """KEY=VALUE words: every combination of the values tried, or of each two keys where these are too many."""
    tried = [[f"{one.key}={value}" for value in one.tried()] for one in space.searched]
    total = 1
    for values in tried:
        total *= len(values)
    if total <= MAX_COMBINATIONS or len(tried) == 1:
        yield from map(list, itertools.product(*tried))
        return
    for first, second in itertools.combinations(tried, 2):
        yield from map(list, itertools.product(first, second))


def _value_at(config: Config, key: str) -> Any:
    node: Any = config.model_dump(mode="json")
    for part in key.split("."):
        if isinstance(node, dict) and part == "all" and part not in node:  # augment.all: of each modality
            part = next(iter(node))
        node = node[part]
    return node


def _number(value: float) -> str:
    return json.dumps(int(value) if float(value).is_integer() else value)
