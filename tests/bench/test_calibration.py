"""The fit: recovery of a known law, parsing of rows, and errors of the shipped factors within the bars."""

import csv
import gzip
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from calibration import report, serving
from calibration.robust import FactorPrior, fit, spread
from calibration.rows import ServingRow, read

from mixtura.errors import ConfigError
from mixtura.hardware import gpu
from mixtura.hardware.fitted import factors, load_factors, token_step
from mixtura.hardware.gpu import mixed_works
from resources import recorded_data

MEASURED = "hardware/gpu_serving_dev.csv.gz"
FIELDS = (
    *("id", "backend", "backend_version", "model_path", "system", "precision", "mode", "isl", "osl", "batch_size"),
    *("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size", "decode_batch_size", "decode_num_workers"),
    *("decode_tp_size", "decode_attention_dp_size", "decode_moe_tp_size", "decode_moe_ep_size"),
    *("silicon_ttft_ms", "silicon_tpot_ms"),
)


def written(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "rows.csv.gz"
    usual = dict.fromkeys(FIELDS, "") | {
        "id": "x_c16_1",
        "backend": "vllm",
        "backend_version": "1.0",
        "model_path": "openai/gpt-oss-120b",
        "system": "h100_sxm",
        "precision": "fp4",
        "mode": "agg",
        "isl": 1024,
        "osl": 1024,
        "batch_size": 16,
        "tp_size": 2,
        "attention_dp_size": 1,
        "moe_tp_size": 2,
        "moe_ep_size": 1,
        "silicon_ttft_ms": 100,
        "silicon_tpot_ms": 10,
    }
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows([usual | row for row in rows])
    return path


def row_of(folder: Path, **fields: object) -> ServingRow:
    return read(written(folder, [fields]))[0]


def test_the_fit_recovers_factors_of_a_known_law_with_a_fifth_of_outliers() -> None:
    chance = np.random.default_rng(1)
    works = chance.uniform(0.1, 1.0, (200, 4))
    true = np.array([1.2, 0.0, 3.0, 0.4])
    measured = works @ true * chance.normal(1, 0.01, 200)
    measured[::5] *= 3
    assert fit(works, measured) == pytest.approx(true, abs=0.06)


def test_factors_are_never_negative() -> None:
    works = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    assert (fit(works, np.array([3.0, 2.0, 1.0])) >= 0).all()


def test_a_strong_prior_keeps_factors_and_points_outweigh_a_weak_one() -> None:
    works, measured = np.array([[1.0], [2.0], [4.0]]), np.array([2.0, 4.0, 8.0])
    towards, scale = np.array([1.0]), np.array([0.1])
    assert fit(works, measured, FactorPrior(towards, 1e6, scale))[0] == pytest.approx(1.0, abs=0.01)
    assert fit(works, measured, FactorPrior(towards, 1e-6, scale))[0] == pytest.approx(2.0, abs=0.01)


def test_the_spread_holds_four_of_five_points() -> None:
    errors = np.exp(np.random.default_rng(2).normal(0, 0.3, 20_000))
    assert spread(errors, np.ones(20_000)) == pytest.approx(0.3, rel=0.03)


def test_equal_degrees_of_tensor_and_expert_parallelism_are_the_same_gpus(tmp_path: Path) -> None:
    assert row_of(tmp_path, tp_size=64, moe_tp_size=8, moe_ep_size=8).setup.chips == 8
    ranks = row_of(tmp_path, tp_size=1, attention_dp_size=64, moe_tp_size=8, moe_ep_size=8, batch_size=2)
    assert (ranks.setup.chips, ranks.setup.attention_ranks, ranks.batch) == (8, 8, 16)
    assert row_of(tmp_path, tp_size=8, moe_tp_size=1, moe_ep_size=8).setup.chips == 8


def test_attention_ranks_missing_from_the_file_are_counted(tmp_path: Path) -> None:
    row = row_of(tmp_path, tp_size=1, attention_dp_size="", moe_tp_size=4, moe_ep_size=1, batch_size=8)
    assert (row.setup.chips, row.setup.attention_ranks, row.batch) == (4, 4, 32)


def test_a_disaggregated_row_is_sure_of_its_batch_only_with_a_number_of_workers(tmp_path: Path) -> None:
    decode = {"mode": "disagg", "decode_tp_size": 8, "decode_moe_ep_size": 8, "id": "x_c160_1"}
    known = row_of(tmp_path, **decode, decode_num_workers=5, decode_batch_size=32)
    assert (known.batch, known.sure, known.load.apart, known.setup.chips) == (32, True, True, 8)
    assert not row_of(tmp_path, **decode).sure


def test_four_bits_are_the_experts_alone_and_released_formats_stay(tmp_path: Path) -> None:
    latent = row_of(tmp_path, model_path="deepseek-ai/DeepSeek-R1").setup
    assert (latent.precision, latent.expert_precision) == ("fp8", "nvfp4")
    dense = row_of(tmp_path, model_path="meta-llama/Llama-3.1-70B").setup
    assert (dense.precision, dense.expert_precision) == ("nvfp4", None)
    released = row_of(tmp_path, precision="fp4").setup
    assert (released.precision, released.expert_precision) == ("bf16", "mxfp4")
    assert row_of(tmp_path, model_path="meta-llama/Llama-3.1-8B-Instruct", precision="").setup.kv_precision == "bf16"


def test_an_unknown_model_is_counted_or_raises_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, [{}, {"model_path": "acme/unheard-of-7b"}, {"silicon_tpot_ms": ""}])
    unknown: Counter[str] = Counter()
    assert len(read(path, unknown)) == 1
    assert unknown == {"acme/unheard-of-7b on h100_sxm": 1}
    with pytest.raises(ConfigError, match="unheard-of"):
        read(path)


def test_a_point_left_out_is_not_known_to_its_prediction(tmp_path: Path) -> None:
    """All rows follow one law except those of a model three times as slow, which is predicted like the others."""
    rows = []
    models = ("meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-8B-Instruct", "openai/gpt-oss-120b")
    for model in models:
        for batch in (1, 2, 4, 8, 16, 32):
            row = row_of(tmp_path, id=f"x_c{batch}_1", model_path=model, batch_size=batch, moe_tp_size=2)
            works = mixed_works(row.shape, row.chip, row.setup, row.load)
            token = sum(float(works[name]) * usual for name, (usual, _) in serving.TOKEN.items())
            rows.append(row._replace(token=token * (3 if "gpt" in model else 1)))
    points = serving.token_points(rows)
    within = serving.leave_out("calibrated", points, lambda row: row.configuration, folds=6)
    without = serving.leave_out("model", points, lambda row: row.kind, far=True)
    assert within.among(lambda row: "oss" in row.model) < 0.25
    assert without.among(lambda row: "oss" in row.model) == pytest.approx(2 / 3, abs=0.1)
    assert without.among(lambda row: "70b" in row.model) < 0.5


@pytest.mark.slow
def test_the_shipped_factors_were_fitted_on_these_points() -> None:
    sure = [row for row in read(recorded_data(MEASURED)) if row.sure]
    assert len(sure) == load_factors().points
    errors = []
    for row in sure:
        by = factors(row.chip, row.shape, row.setup, engine=row.engine, build=row.build, apart=row.load.apart)
        errors.append(abs(float(token_step(row.shape, row.chip, row.setup, row.load, by).seconds) / row.token - 1))
    assert np.median(errors) < 0.05


@pytest.mark.slow
def test_left_out_points_are_predicted_within_the_bars_and_better_than_by_other_counts_of_experts() -> None:
    """At most 9 % calibrated, 18 % for a model left out, and less than both ablations in every band above eight."""
    rows = [row for row in read(recorded_data(MEASURED)) if row.sure]
    points = serving.token_points(rows)
    assert serving.leave_out("model", points, lambda row: row.kind, far=True).median < 0.18
    activated, everything, active = (
        serving.leave_out("ways", serving.token_points(rows, way), lambda row: row.configuration, folds=5)
        for way in (gpu.activated_experts, gpu.all_experts, gpu.one_tokens_experts)
    )
    assert activated.median < 0.09
    for low, high in report.BANDS[2:]:

        def within(row: ServingRow, low: float = low, high: float = high) -> bool:
            return row.shape.experts > 0 and low < row.batch <= high

        assert activated.among(within) < min(everything.among(within), active.among(within)), (low, high)


@pytest.mark.slow
def test_the_check_of_a_file_reports_every_band_and_level() -> None:
    rows = read(recorded_data(MEASURED))[::20]
    said = report.serving_check(recorded_data(MEASURED), rows, rows)
    assert "| all | 145 |" in said
    assert said.count("\n| those that a batch activates, D(B) |") == 1


@pytest.mark.slow
def test_without_measured_points_a_one_sentence_error_names_the_option(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "calibration", "fit", "--data", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("calibration: no measured points in")
    assert done.stderr.count("\n") == 1
