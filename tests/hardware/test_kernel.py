"""The time of an MoE layer: from a chip's figures, and under skewed routing from balanced runs."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from calibration import kernels
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware import kernel, routing
from mixtura.hardware.chip import chip

BANDWIDTH = 3.35e12
LAYER = kernel.MoeLayer(experts=128, used=4, hidden=2880, inner=2880, weight=0.53125)
DEEPSEEK = kernel.MoeLayer(experts=256, used=8, hidden=7168, inner=2048, weight=1.0, groups=8, groups_used=4)
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def curve(layer: kernel.MoeLayer, fixed: float, expert: float, *, limited: bool = False) -> kernel.BalancedCurve:
    activated = {n: np.count_nonzero(kernel.balanced_loads(n, layer, limited=limited)) for n in TOKENS}
    return kernel.balanced_curve({n: fixed + expert * count for n, count in activated.items()})


def test_an_experts_bytes_are_those_published() -> None:
    assert LAYER.expert_bytes == pytest.approx(24.89e6 * 4.25 / 8, rel=0.001)


@pytest.mark.parametrize("gpu", ["h100_sxm", "h200_sxm", "b200_sxm", "gb200", "a100_sxm"])
def test_a_layer_takes_longer_with_more_tokens_and_its_parts_add_up(gpu: str) -> None:
    tokens = np.array([1.0, 8, 64, 512, 4096])
    step = kernel.layer_time(LAYER, tokens, routing.distinct(tokens, 128, 4), chip(gpu), precision="bfloat16")
    assert np.all(np.diff(step.seconds) > 0)
    assert step.seconds == pytest.approx(sum(step.parts.values()))
    assert set(step.parts) == {"layers", "experts", "compute"}
    assert step.parts["compute"][0] == 0
    assert np.all((step.low < step.seconds) & (step.seconds < step.high))


def test_fitted_shares_are_shares() -> None:
    for by_precision in kernel.coefficients().rates.values():
        for fitted in by_precision.values():
            assert 5e-6 < fitted.fixed < 2e-4
            assert 0.05 < fitted.memory < 1.1
            assert 0.01 < fitted.compute < 1.1


@given(st.integers(1, 3000), st.floats(0.2, 2.5))
def test_drawn_loads_give_every_token_its_experts_and_none_twice(tokens: int, alpha: float) -> None:
    loads = kernel.draw_loads(tokens, LAYER, alpha, draws=3)
    assert np.all(loads.sum(axis=1) == 4 * tokens)
    assert np.all((loads >= 0) & (loads <= tokens))


def test_skewed_loads_activate_fewer_experts_and_fill_tiles_worse() -> None:
    activated, tiles = kernel.ratios(32, LAYER, 1.2, limited=False)
    assert 0.4 < activated < 0.7
    assert activated < kernel.ratios(32, LAYER, 1.01, limited=False)[0]
    activated, tiles = kernel.ratios(2048, LAYER, 1.2, limited=False)
    assert 0.95 < activated <= 1
    assert tiles > 1.05


def test_balanced_loads_are_balanced() -> None:
    for tokens in (1, 5, 32, 64, 1000):
        loads = kernel.balanced_loads(tokens, LAYER)
        assert loads.sum() == 4 * tokens
        assert np.count_nonzero(loads) == routing.distinct_balanced(tokens, 128, 4)


@given(st.floats(1e-6, 1e-4), st.floats(1e-6, 1e-4))
def test_the_fit_recovers_a_line(fixed: float, expert: float) -> None:
    found = kernel.fit_line(curve(LAYER, fixed, expert), LAYER, 1e20)
    assert found.fixed == pytest.approx(fixed, rel=1e-3, abs=1e-8)
    assert found.expert == pytest.approx(expert, rel=1e-3)


def test_a_kernel_limited_to_groups_is_detected_by_its_reading_speed() -> None:
    possible = DEEPSEEK.expert_bytes / (0.8 * BANDWIDTH)
    assert not kernel.fit_line(curve(DEEPSEEK, 3e-5, possible), DEEPSEEK, BANDWIDTH).limited
    seen = kernel.fit_line(curve(DEEPSEEK, 3e-5, possible, limited=True), DEEPSEEK, BANDWIDTH)
    assert seen.limited
    assert seen.expert == pytest.approx(possible, rel=0.02)


def test_limited_choices_stay_in_their_groups() -> None:
    loads = kernel.draw_loads(1, DEEPSEEK, 1.2, limited=True)
    for row in loads:
        assert row.sum() == 8
        assert len(np.unique(np.flatnonzero(row) // 32)) <= 4


def test_at_few_tokens_per_expert_time_follows_the_activated_experts() -> None:
    runs = curve(LAYER, 3e-5, 5e-6)
    activated, _ = kernel.ratios(32, LAYER, 1.01, limited=False)
    expected = 3e-5 + activated * 128 * 5e-6
    assert kernel.predict_skewed(runs, LAYER, 32, 1.01, BANDWIDTH) == pytest.approx(expected, rel=0.05)
    assert kernel.predict_skewed(runs, LAYER, 32, 1.01, BANDWIDTH) < 0.75 * float(runs.at(32))


def test_one_balanced_run_is_enough_for_a_prediction() -> None:
    runs = kernel.balanced_curve({64: 1e-3})
    assert 0 < kernel.predict_skewed(runs, LAYER, 64, 1.2, BANDWIDTH) < 1.2e-3


def test_with_ranks_the_busiest_counts() -> None:
    ranked = kernel.MoeLayer(experts=128, used=4, hidden=64, inner=64, weight=1.0, ranks=8)
    activated, tiles = kernel.ratios(4096, ranked, 1.2, limited=False)
    assert activated == pytest.approx(1.0, abs=0.01)
    assert tiles > kernel.ratios(4096, LAYER, 1.2, limited=False)[1]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: kernel.rates("h100", "bf16"), "h100_sxm"),
        (lambda: kernel.rates("a100_sxm", "fp8"), "bf16"),
        (lambda: kernel.balanced_curve({}), "at least one"),
        (lambda: kernel.balanced_curve({4: -1.0}), "above 0"),
        (lambda: kernel.draw_loads(0, LAYER, 1.2), "cannot draw loads"),
        (lambda: kernel.MoeLayer(experts=8, used=9, hidden=1, inner=1, weight=1.0), "cannot use 9"),
        (lambda: kernel.MoeLayer(experts=8, used=2, hidden=0, inner=1, weight=1.0), "expected sizes above 0"),
        (lambda: kernel.MoeLayer(experts=8, used=2, hidden=1, inner=1, weight=1.0, ranks=3), "divide"),
    ],
)
def test_impossible_layers_raise_a_one_sentence_error(call: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        call()  # type: ignore[operator]


def table(path: Path) -> Path:
    """Write a table in the format of the measurements, for a kernel whose time follows the activated experts."""
    head = "hw fw ver kernel_source model moe_dtype hidden_size inter_size topk num_experts moe_tp_size moe_ep_size"
    rows = []
    for model, experts, used in (("one", 64, 4), ("two", 32, 2)):
        layer = kernel.MoeLayer(experts=experts, used=used, hidden=1024, inner=512, weight=2.0)
        told = ["h100_sxm", "vllm", "1", "triton", model, "bfloat16", 1024, 512, used, experts, 1, 1]
        for tokens in TOKENS:
            even = np.count_nonzero(kernel.balanced_loads(tokens, layer))
            rows.append([*told, "balanced", tokens, 1000 * (3e-5 + 2e-6 * even)])
            for alpha in (1.01, 1.2):
                activated = np.count_nonzero(kernel.draw_loads(tokens, layer, alpha, seed=9), axis=1).mean()
                rows.append([*told, f"power_law_{alpha}", tokens, 1000 * (3e-5 + 2e-6 * activated)])
        rows.append(["h200_sxm", *told[1:], "power_law_1.2", 8, 0.05])
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows([[*head.split(), "distribution", "num_tokens", "latency_ms"], *rows])
    return path


def test_the_fit_reads_a_table_and_reports_what_it_left_out(tmp_path: Path) -> None:
    report = kernels.run(table(tmp_path / "table.csv.gz"))
    assert (report.rows, report.left) == (36, 2)
    whole = next(row for row in report.errors if row.by == "all")
    assert whole.predicted < 0.02
    assert whole.first < 0.02 < whole.balanced
    assert {row.group for row in report.errors if row.by == "model"} == {"one", "two"}
    assert report.line_fit < 1e-6
    kernels.write(report, tmp_path / "kernels.json")
    assert (tmp_path / "kernels.json").stat().st_size > 200
