"""Reads speeds of LPUs and wafers: published ones, and those recorded with a server's replies."""

import csv
import re
import statistics
from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np

from mixtura.hardware.shape import ModelShape
from mixtura.hardware.shapes import shape

_LONG = 40  # least tokens of a reply for a reliable rate


class SpeedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A published or recorded speed: tokens per second of one user; `left` is the reason not to fit it, or ""."""

    model: str
    shape: ModelShape
    rate: float
    replies: int
    kind: str
    date: str
    source: str
    speculative: bool
    left: str = ""


def read_published(path: Path) -> list[tuple[str, SpeedRecord]]:
    """Return the published speeds on LPUs and wafers, each with the machine's name."""
    found = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if not row["provider_hw"].startswith(("Groq LPU", "Cerebras")):
                continue
            about = f"{row['model']} {row['other']}"
            speculative = "spec" in about and "no spec" not in about
            model = shape(re.sub(r" .*", "", row["model"]))
            replies = re.search(r"n=(\d+)", row["other"])
            speed = SpeedRecord(
                model=row["model"],
                shape=model,
                rate=statistics.geometric_mean([float(end) for end in row["tok_s_user"].split("-")]),
                replies=int(replies[1]) if replies else 1,
                kind=row["kind"],
                date=_newest(row["date"]),
                source=f"{row['source']} ({row['confidence']})",
                speculative=speculative,
            )
            found.append((row["provider_hw"], speed))
    return found


def read_recorded(path: Path) -> list[SpeedRecord]:
    """Return the median speed of each model's recorded replies."""
    rates: dict[str, list[tuple[float, int]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            tokens, seconds = float(row["completion_tokens"]), float(row["completion_time"])
            if tokens >= _LONG and seconds > 0 and not row["model"].startswith("groq/"):
                rates[row["model"]].append((tokens / seconds, int(row["created"])))
    return [
        SpeedRecord(
            model=name,
            shape=shape(name),
            rate=statistics.median([rate for rate, _ in replies]),
            replies=len(replies),
            kind="API usage",
            date=_month(max(when for _, when in replies)),
            source=f"{path.name} (wire)",
            speculative=False,
        )
        for name, replies in sorted(rates.items())
    ]


def _newest(dates: str) -> str:
    """Return the last month in a range of dates, or the year if there are only years: "2026-01..02" gives 2026-02."""
    year, _, month = dates.partition("..")[2].rpartition("-")
    first = dates.partition("..")[0]
    if ".." not in dates:
        return first.rpartition("-")[2] if re.fullmatch(r"\d{4}-\d{4}", first) else first
    return f"{year or first[:4]}-{month}"


def _month(stamp: int) -> str:
    year, month = np.datetime64(stamp, "s").astype("datetime64[M]").astype(str).split("-")
    return f"{year}-{month}"
