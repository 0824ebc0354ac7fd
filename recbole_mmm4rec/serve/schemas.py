"""What may be asked and what is answered, as the OpenAPI page shows it; a mistake in the form told in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from recbole_mmm4rec.base.errors import did_you_mean

Modality = Literal["text", "image"]
Cell = str | int | float | bool
T = TypeVar("T")
Many = Annotated[list[T], Field(fail_fast=True)]
"""A list, looked at up to its first mistake: half a million of them would take seconds to be listed."""
KEYS = 1_000
"""The most keys of an object with keys of the asker's own."""
MISTAKES = 5_000
"""More are counted, and none is told."""


def _few(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > KEYS:
        raise PydanticCustomError("too_many_keys", f"at most {KEYS:,} keys here")
    return value


Named = Annotated[dict[str, T], BeforeValidator(_few)]
"""An object with keys of the asker's own; each mistake of it is listed once for each kind that a value may be of."""


class Asked(BaseModel):
    """A request: a key that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid")


class Chosen(Asked):
    """Which items may be answered, and how many."""

    k: int = Field(10, description="How many items.")
    only: Many[str] | None = Field(None, description="Ids of the items that may be answered; all by default.")
    exclude: Many[str] | None = Field(None, description="Ids of items that may not be answered.")
    where: Named[Cell | Many[Cell]] | None = Field(
        None, description="Column of the item table to the value, or the values, that an answered item has there."
    )


class RecommendAsked(Chosen):
    """What comes next after a history."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"history": ["ID", "ID"], "k": 10}]})

    history: Many[str] = Field(description="Item ids, oldest first.")
    timestamps: Many[int] | None = Field(None, description="Seconds since 1970, one an item, oldest first.")
    exclude_seen: bool = Field(True, description="Whether items of the history are left out of the answer.")
    modalities: Many[Modality] | None = Field(None, description="What of the items is looked at; all by default.")
    neighbours: bool | None = Field(
        None, description="Whether what others took together counts; as the model was trained by default."
    )


class SimilarAsked(Chosen):
    """Items like one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item": "ID", "k": 10}]})

    item: str = Field(description="Id of the item.")
    modalities: Many[Modality] | None = Field(None, description="What of the items is looked at; all by default.")


class SearchAsked(Chosen):
    """Items by words, by a picture, or by both; with a history, the ones that fit both."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "red tent", "k": 10}]})

    text: str | None = Field(None, max_length=2_000, description="Words.")
    image: str | None = Field(None, description="A picture's bytes (JPEG, PNG, WebP, GIF, BMP) as base64; no address.")
    history: Many[str] | None = Field(None, description="Item ids, oldest first.")
    timestamps: Many[int] | None = Field(None, description="Seconds since 1970, one an item of the history.")


class ExplainAsked(Asked):
    """Why an item is recommended after a history."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"history": ["ID", "ID"], "item": "ID"}]})

    history: Many[str] = Field(description="Item ids, oldest first.")
    item: str = Field(description="Id of the item whose score is explained.")
    timestamps: Many[int] | None = Field(None, description="Seconds since 1970, one an item, oldest first.")
    modalities: Many[Modality] | None = Field(None, description="What of the items is looked at; all by default.")
    neighbours: bool | None = Field(
        None, description="Whether what others took together counts; as the model was trained by default."
    )


class NewItem(Asked):
    """An item that the shop does not have yet."""

    item_id: Annotated[str, Field(min_length=1, max_length=500)]
    text: str | None = Field(None, max_length=20_000)
    image: str | None = Field(None, description="A picture's bytes as base64; no address.")
    text_vector: Many[float] | None = Field(None, description="Instead of the encoder's, a vector of your own.")
    image_vector: Many[float] | None = Field(None, description="Instead of the encoder's, a vector of your own.")
    columns: Named[Cell] = Field(default_factory=dict, description="Values of other columns of the item table.")


class AddAsked(Asked):
    """Items to recommend from now on, until the service ends or changes its folder."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [{"item_id": "NEW", "text": "a red tent"}]}]})

    items: Many[NewItem] = Field(min_length=1)


class Found(BaseModel):
    """An item of an answer."""

    item: str
    score: float
    text: str
    picture: bool = Field(description="Whether GET /picture?item=ID has a picture of it.")


class Answer(BaseModel):
    """Items, best first."""

    items: list[Found]
    unknown: list[str] = Field(description="Ids of the history that the shop does not have.")
    popular: bool = Field(description="Whether the shop's popular items stand here, for want of a known item.")
    notes: list[str] = Field(description="What else is to be said, a line each.")


class Mistake(BaseModel):
    """What was wrong."""

    error: str = Field(description="One line: what, its value, the way out.")


_WORDS = {
    "missing": "is missing",
    "string_type": "a text is wanted",
    "int_type": "a whole number is wanted",
    "int_parsing": "a whole number is wanted",
    "int_from_float": "a whole number is wanted",
    "bool_type": "true or false is wanted",
    "bool_parsing": "true or false is wanted",
    "list_type": "a list is wanted",
    "dict_type": "an object is wanted",
    "model_type": "an object is wanted",
    "model_attributes_type": "an object is wanted",
}


def told(error: ValidationError, schema: type[BaseModel]) -> str:
    """The first mistake in a request's form, or how many there are, where to list them would take too long."""
    if error.error_count() > MISTAKES:
        return f"the body has {error.error_count():,} mistakes; /api lists what may be asked"
    return in_one_line(error.errors(include_url=False), schema)


def in_one_line(errors: Sequence[Any], schema: type[BaseModel] | None = None) -> str:
    """The first mistake in a request's form.

    Args:
        errors: as pydantic lists them.
        schema: of the request, for keys that are near a misspelt one.
    """
    error = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    kind, place = error["type"], [part for part in error["loc"] if part not in ("body", "query")]
    if kind.startswith("json_") or kind == "value_error.jsondecode":
        return f"the body is no JSON ({error.get('ctx', {}).get('error', error['msg'])})"
    named = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if kind == "extra_forbidden":
        known = schema.model_fields if schema is not None and len(place) == 1 else ()
        return f"{_short(named)}: there is no such key{did_you_mean(str(place[-1]), known)}"
    value = error.get("input")
    shown = "" if kind == "missing" or isinstance(value, dict | list) or value is None else f"={_short(repr(value))}"
    words = _WORDS.get(kind) or error["msg"][:1].lower() + error["msg"][1:]
    return f"{_short(named) or 'the body'}{shown}: {words}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:60] + "…"
