"""Reads the measured serving points: rows of a CSV file, converted to setups and loads.

Three columns of the file differ from their names. Rules that do not depend on measured times correct them:

- With expert parallelism `tp_size` is often the product of tensor and expert parallelism of the same GPUs (64 for 8).
  Equal degrees of both above one count as one group of GPUs.
- With data-parallel attention `batch_size` is that of one rank in some rows and divided twice in others. The
  concurrency in the row's id is used instead.
- Most disaggregated rows do not record the number of decode workers. They are marked (`sure` is false) and get a power
  of the concurrency as their batch.
"""

import csv
import gzip
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip, chip
from mixtura.hardware.fitted import kind
from mixtura.hardware.gpu import GpuSetup, SteadyLoad
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.shapes import shape

UNSURE_POWER = 0.7
_CONCURRENCY = re.compile(r"_c(\d+)_")


class ServingRow(NamedTuple):
    """One measured point: the machine, the load, and times in seconds (`first` 0: not measured)."""

    id: str
    engine: str
    build: str
    model: str
    precision: str
    chip: Chip
    shape: ModelShape
    setup: GpuSetup
    load: SteadyLoad
    sure: bool
    first: float
    token: float

    @property
    def batch(self) -> float:
        """Sequences in flight."""
        return float(self.load.batch)  # type: ignore[arg-type]  # a row's load is of numbers

    @property
    def kind(self) -> str:
        """A key of the model's sizes: two releases of one shape are one model."""
        return kind(self.shape)

    @property
    def configuration(self) -> str:
        """A key of the point without id and build, which repeated measurements share."""
        where = (self.engine, self.chip.name, self.model, self.precision, self.setup, self.load, self.sure)
        return repr(where)

    @property
    def curve(self) -> str:
        """A key of the configuration without its batch."""
        where = (self.engine, self.chip.name, self.model, self.precision, self.setup, self.load[1:], self.sure)
        return repr(where)


def read(path: Path, unknown: Counter[str] | None = None) -> list[ServingRow]:
    """Read every row with a measured time per token.

    Args:
        path: a gzipped CSV file.
        unknown: counts rows of models and chips missing from the catalogue; None: such a row is an error.

    Raises:
        ConfigError: a model or chip is not in the catalogue, and `unknown` is None.
    """
    rows = []
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for fields in csv.DictReader(file):
            if not float(fields["silicon_tpot_ms"] or 0) > 0:
                continue
            try:
                rows.append(_row(fields))
            except ConfigError:
                if unknown is None:
                    raise
                unknown[f"{fields['model_path']} on {fields['system']}"] += 1
    return rows


def _row(fields: Mapping[str, str]) -> ServingRow:
    found = shape(fields["model_path"])
    apart = fields["mode"] == "disagg"
    chips, ranks = _gpus(fields, "decode_" if apart else "")
    batch, sure = _apart(fields) if apart else (_together(fields, ranks), True)
    precision = fields["precision"] or "bf16"
    return ServingRow(
        id=fields["id"],
        engine=fields["backend"],
        build=fields["backend_version"],
        model=found.name,
        precision=precision,
        chip=chip(fields["system"]),
        shape=found,
        setup=_setup(found, precision, chips, ranks),
        load=SteadyLoad(max(1.0, batch), float(fields["isl"]), float(fields["osl"]), apart),
        sure=sure,
        first=float(fields["silicon_ttft_ms"] or 0) / 1000,
        token=float(fields["silicon_tpot_ms"]) / 1000,
    )


def _gpus(fields: Mapping[str, str], part: str) -> tuple[int, int]:
    """Return the GPUs of one copy, and the number of ranks over which its attention splits the batch."""
    tensor, ranks, split, apart = (
        int(float(fields[f"{part}{name}"] or 1))
        for name in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    )
    if split == apart > 1:
        return split, split if ranks > 1 else 1
    chips = max(tensor * ranks, split * apart)
    if ranks == 1 and chips > tensor and chips % tensor == 0:
        ranks = chips // tensor  # the file does not record attention ranks
    return chips, ranks


def _together(fields: Mapping[str, str], ranks: int) -> float:
    """Return the batch of a row whose prefill shares the GPUs."""
    match = _CONCURRENCY.search(fields["id"])
    if match and fields["attention_dp_size"]:
        return float(match[1])
    return float(fields["batch_size"]) * ranks


def _apart(fields: Mapping[str, str]) -> tuple[float, bool]:
    """Return the batch of one decode worker, and whether the row records the number of workers."""
    match = _CONCURRENCY.search(fields["id"])
    workers = int(float(fields["decode_num_workers"] or 0))
    concurrency = float(match[1]) if match else float(fields["decode_batch_size"] or 1) * max(1, workers)
    return (concurrency / workers, True) if workers else (concurrency**UNSURE_POWER, False)


def _setup(found: ModelShape, precision: str, chips: int, ranks: int) -> GpuSetup:
    """Return the setup; in four bits an MoE model has only its experts in four bits and the rest in eight."""
    kv = "bf16" if precision == "bf16" else "fp8"
    weights, experts = (precision, None)
    if found.expert_precision == "mxfp4":  # served as released; the column is not reliable
        weights, experts = found.precision, found.expert_precision
    elif precision == "fp4":
        weights, experts = ("fp8", "nvfp4") if found.experts else ("nvfp4", None)
    return GpuSetup(chips=chips, attention_ranks=ranks, precision=weights, expert_precision=experts, kv_precision=kv)
