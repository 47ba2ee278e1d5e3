"""Strict, frozen base records and value types of the schema."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from vwmm.system.errors import UserError
from vwmm.system.problems import Problem

Fraction = Annotated[float, Field(ge=0, lt=1)]
Chance = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Size = Annotated[list[PositiveInt], Field(min_length=2, max_length=3)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]
MAX_NAME = 100
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=MAX_NAME)]
# Without a dot, which separates the parts of a key.
MODALITY_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
ModalityName = Annotated[str, Field(pattern=MODALITY_NAME, max_length=MAX_NAME)]
Location = Annotated[str, Field(pattern=r"^[^\x00]+$")]


class Record(BaseModel):
    """A frozen record that refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # labels and names may be numbers
        protected_namespaces=(),
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any, info: ValidationInfo) -> Any:
        values = value if isinstance(value, list) else [value]
        if cls.model_fields[info.field_name or ""].annotation is not bool and any(isinstance(v, bool) for v in values):
            raise ValueError("expected another kind of value than true/false (put a text in quotes)")
        return value


Rec = TypeVar("Rec", bound=Record)


def without(problems: list[Problem], record: Rec) -> Rec:
    """The record, if its keys go together; the key of each problem is seen from the record."""
    if problems:
        raise UserError(problems)  # pydantic keeps it as the cause of its own error
    return record
