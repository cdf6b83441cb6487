"""Predictions of models' times as a small TOML file. One program writes it, another plans its deadlines with it."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mixtura.errors import ConfigError
from mixtura.input_files import cause_of, read_input, shown_name, utf8_text
from mixtura.models.card import Predicted

Predictions = Mapping[tuple[str, str], Predicted]
"""Predicted times by (provider, model)."""

_MAX_BYTES = 1024 * 1024  # a file of ten thousand rows is smaller


class _PredictionRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    provider: str
    model: str
    first: float
    token: float
    spread: float = 0.0


class _PredictionsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    predictions: list[_PredictionRow]


def read_predictions(path: str | Path) -> dict[tuple[str, str], Predicted]:
    """Read a file that `predictions_toml` wrote.

    Raises:
        ConfigError: the file cannot be read or a row is invalid. The message names the file and the model or the key.
    """
    found: dict[tuple[str, str], Predicted] = {}
    try:
        data = read_input(path, _MAX_BYTES)
        for row in msgspec.convert(tomllib.loads(utf8_text(data)), _PredictionsFile).predictions:
            if (row.provider, row.model) in found:
                raise ConfigError(f"{path}: {row.model} of {row.provider} is predicted twice; keep one row")
            try:
                found[row.provider, row.model] = Predicted(first=row.first, token=row.token, spread=row.spread)
            except ValueError as error:
                raise ConfigError(f"{path}: {row.model}: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{shown_name(path)}: cannot be read as predictions: {cause_of(error)}") from error
    return found


def predictions_toml(predictions: Predictions) -> str:
    """Return the text of a file for `read_predictions`.

    Each row has the seconds to the first token, the seconds for each further token, and the relative spread.
    """
    rows = [
        f"[[predictions]]\nprovider = {_quote(provider)}\nmodel = {_quote(model)}\n"
        f"first = {float(times.first)!r}\ntoken = {float(times.token)!r}\nspread = {float(times.spread)!r}\n"
        for (provider, model), times in predictions.items()
    ]
    return (
        "# Seconds to the first token, seconds for each further token, and their relative uncertainty.\n"
        + "".join(f"\n{row}" for row in rows)
        if rows
        else "predictions = []\n"
    )


def _quote(text: str) -> str:
    # A JSON string is a valid TOML string, except for DEL, the one control character that JSON does not escape.
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
