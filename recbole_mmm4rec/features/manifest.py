"""The manifest of a feature store: what it holds and what it was made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.base.json_lines import read_line

FORMAT = 1
MODALITIES = ("text", "image")
DTYPES = ("float16", "float32")

_TYPES: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "modality": (str,),
    "encoder": (str,),
    "encoder_hash": (str, type(None)),
    "encoder_version": (str, type(None)),
    "settings": (dict,),
    "rows": (int,),
    "dim": (int,),
    "dtype": (str,),
    "normalized": (bool,),
    "input_hash": (str, type(None)),
    "items_hash": (str,),
    "dataset": (str,),
}


@dataclass(frozen=True)
class Manifest:
    """What a store holds and what it was made from.

    Attributes:
        modality: "text" or "image".
        encoder: public name of the encoder; of a local folder only its base name.
        encoder_hash: sha256 over the encoder's weight files, or None.
        encoder_version: package version or revision of the encoder, or None.
        settings: everything else that shapes a vector (max_seq_length, pooling, ...).
        rows: number of items.
        dim: F, the width of a vector.
        dtype: "float32" or "float16".
        normalized: whether vectors have length 1.
        input_hash: :func:`hash_inputs` of what was encoded, or None for vectors brought by the user.
        items_hash: sha256 of ``items.txt``.
        dataset: name of the data set.
        format: version of the layout on disk.
    """

    modality: str
    encoder: str
    encoder_hash: str | None
    encoder_version: str | None
    settings: dict[str, Any]
    rows: int
    dim: int
    dtype: str
    normalized: bool
    input_hash: str | None
    items_hash: str
    dataset: str
    format: int = FORMAT

    def to_json(self) -> str:
        """The manifest as JSON text with sorted keys, ending in a newline."""
        return json.dumps(asdict(self), sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads what :meth:`to_json` wrote.

        Raises:
            UserError: no JSON object, a missing or unknown key, a value of the wrong type, or another format.
        """
        try:
            values = read_line(text.encode())
        except ValueError as error:
            raise UserError(str(error)) from None
        if values.get("format", FORMAT) != FORMAT:
            raise UserError(f"has format {values['format']!r}; this version reads format {FORMAT}")
        names = [field.name for field in fields(cls)]
        for name in names:
            if name not in values:
                raise UserError(f"has no key '{name}'")
            good = isinstance(values[name], _TYPES[name])
            if not good or (isinstance(values[name], bool) and bool not in _TYPES[name]):
                raise UserError(f"has the wrong kind of value for '{name}': {values[name]!r}")
        for name in sorted(set(values) - set(names)):
            raise UserError(f"has an unknown key '{name}'{did_you_mean(name, names)}")
        if values["dtype"] not in DTYPES or values["modality"] not in MODALITIES:
            raise UserError(f"has dtype {values['dtype']!r} and modality {values['modality']!r}")
        if values["rows"] < 0 or values["dim"] < 1:
            raise UserError(f"has rows {values['rows']} and dim {values['dim']}")
        return cls(**values)
