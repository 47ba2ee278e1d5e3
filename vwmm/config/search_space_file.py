"""Reads the YAML file of a search space."""

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from vwmm.config.record import Record, without
from vwmm.config.schema import MetricName
from vwmm.system.problems import Problem


class Parameter(Record):
    """A range of numbers, or a list of choices."""

    low: float | None = None
    """The smallest value."""
    high: float | None = None
    """The largest value."""
    log: bool = False
    """Whether orders of magnitude are equally likely, not values."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Distance of the values, counted from `low`; null: any."""
    choices: Annotated[list[Any], Field(min_length=1)] | None = None
    """The values to choose from, in the place of a range."""

    @field_validator("low", "high", "step", mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any, info: ValidationInfo) -> Any:
        """Of the record's rule only this: true may be a choice."""
        if isinstance(value, bool):
            raise ValueError("expected a number")
        return value

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "Parameter":
        if self.choices is not None:
            beside = [name for name in ("low", "high", "step") if getattr(self, name) is not None]
            beside += ["log"] if self.log else []
            return without([Problem("choices stand alone", key=name) for name in beside], self)
        absent = [name for name in ("low", "high") if getattr(self, name) is None]
        problems = [Problem("this key is required, or choices", key=name) for name in absent]
        if self.low is not None and self.high is not None and self.low >= self.high:
            found = f"expected a number less than high ({self.high:g}), found {self.low:g}"
            problems.append(Problem(found, key="low"))
        if self.log and self.low is not None and self.low <= 0:
            found = f"expected a number greater than 0 with log: true, found {self.low:g}"
            problems.append(Problem(found, key="low"))
        if self.log and self.step is not None:
            problems.append(Problem("does not go with log: true", key="step"))
        return without(problems, self)


class SpaceFile(Record):
    """What a space's YAML file holds."""

    metric: MetricName | None = None
    """The validation value that is searched for; it chooses each trial's best checkpoint, too. null: train.monitor."""
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    """By the dotted keys of the configuration."""
