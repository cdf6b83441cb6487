"""Reads a trace of requests from CSV: arrival time, prompt tokens and output tokens of each."""

import csv
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mixtura.errors import ConfigError
from mixtura.hardware.serving.arrivals import OpenLoad, open_load
from mixtura.input_files import expanded

# The project's own column names first, then those of the public Azure LLM inference traces and of BurstGPT.
NAMES = {
    "time": ("time", "timestamp", "arrival", "arrived_at"),
    "prompt_tokens": ("prompt_tokens", "contexttokens", "request tokens", "num_prefill_tokens", "input_tokens"),
    "output_tokens": ("output_tokens", "generatedtokens", "response tokens", "num_decode_tokens", "completion_tokens"),
}


def read_trace(path: str | Path) -> OpenLoad:
    """Return the requests of a CSV file with a header row: columns `time`, `prompt_tokens` and `output_tokens`.

    Times are seconds, or dates with a time of day (ISO 8601); the first request becomes second 0. Other columns are
    ignored. The column names of the public Azure and BurstGPT traces are accepted too.

    Raises:
        ConfigError: the file cannot be read, a column is missing, a value is not a number, or `open_load` refuses
            the requests.
    """
    file = Path(path)
    try:
        with expanded(file).open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.reader(lines)
            heading = [name.strip().lower() for name in next(rows, [])]
            places = _places(file, heading)
            found = [_row(file, rows.line_num, row, places) for row in rows if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"the trace {str(file)!r} cannot be read: {error}") from error
    if not found:
        raise ConfigError(f"the trace {str(file)!r} has no requests: expected rows of numbers after the header row")
    times, prompts, outputs = zip(*found, strict=True)
    try:
        return open_load(np.array(times) - times[0], np.array(prompts), np.array(outputs))
    except ConfigError as error:
        raise ConfigError(f"{str(file)!r}: {error.message}") from error


def _places(file: Path, heading: Sequence[str]) -> tuple[int, ...]:
    places = []
    for name, known in NAMES.items():
        place = next((heading.index(other) for other in known if other in heading), None)
        if place is None:
            seen = ", ".join(heading) or "nothing"
            raise ConfigError(f"the trace {str(file)!r} has no column {name!r}: its header row has {seen}")
        places.append(place)
    return tuple(places)


def _row(file: Path, line: int, row: Sequence[str], places: Sequence[int]) -> tuple[float, float, float]:
    if len(row) <= max(places):
        raise ConfigError(f"line {line} of {str(file)!r} has {len(row)} values, fewer than the header row")
    when, prompt, output = (row[place].strip() for place in places)
    try:
        return _seconds(when), float(prompt), float(output)
    except ValueError:
        raise ConfigError(
            f"line {line} of {str(file)!r} is not a time and two numbers of tokens: {when!r}, {prompt!r}, {output!r}"
        ) from None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        stamp = dt.datetime.fromisoformat(text)
        return (stamp if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC)).timestamp()
