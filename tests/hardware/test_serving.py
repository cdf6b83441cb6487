"""Arrivals, traces, step times, and invariants of the serving simulator."""

import math
from pathlib import Path

import numpy as np
import pytest
from bench.serving import chat
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware.serving.arrivals import (
    EmpiricalLength,
    EvenArrivals,
    FixedLength,
    GammaArrivals,
    GeometricLength,
    LognormalLength,
    PoissonArrivals,
    UniformLength,
    draw_closed_load,
    draw_open_load,
    open_load,
)
from mixtura.hardware.serving.simulator import FleetScheduling, simulate
from mixtura.hardware.serving.step_times import sample_step_times, step_times_from_table
from mixtura.hardware.serving.trace import read_trace

HOWS = [
    FleetScheduling(replicas=replicas, routing=routing, prefill=prefill, chunk=512)
    for replicas in (1, 3)
    for routing in ("shortest", "turns")
    for prefill in ("mixed", "first", "apart")
]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(HOWS), st.integers(0, 1000), st.sampled_from([1.0, 10.0, 100.0]))
def test_every_request_ends_once_and_every_token_is_made(how: FleetScheduling, seed: int, rate: float) -> None:
    load = draw_open_load(PoissonArrivals(rate), LognormalLength(500, 1), LognormalLength(60, 1), count=300, seed=seed)
    served = simulate(load, chat(), how)
    assert np.all(served.arrived <= served.started)
    assert np.all(served.started < served.first)
    assert np.all(served.first <= served.finished)
    assert np.all((served.first < served.finished) == (load.outputs > 1))
    assert served.decoded == (load.outputs - 1).sum()
    np.testing.assert_array_equal(served.arrived, load.times)
    assert set(served.replica[load.outputs > 1].tolist()) <= set(range(how.replicas))
    assert 0 < served.utilisation <= 1 + 1e-12
    assert 0 <= served.mean_batch <= chat().max_batch
    reading = served.busy.sum() + served.prefill_busy.sum()
    assert reading >= chat().prompt(load.prompts).sum() * (1 - 1e-9)
    alone = chat().prompt(load.prompts) + chat().steps(1, load.prompts + 1, load.outputs - 1)
    assert np.all(served.end_to_end >= alone * (1 - 1e-9))


@pytest.mark.parametrize("how", HOWS)
def test_more_load_is_never_faster(how: FleetScheduling) -> None:
    means = []
    for rate in (1, 4, 8, 12, 20):
        load = draw_open_load(
            PoissonArrivals(rate), LognormalLength(500, 1), LognormalLength(100, 1), count=3000, seed=3
        )
        served = simulate(load, chat(), how)
        means.append([served.queueing.mean(), np.nanmean(served.tpot), served.end_to_end.mean()])
    assert np.all(np.diff(np.array(means), axis=0) >= -1e-12)


def test_the_same_seed_gives_the_same_run_and_another_another() -> None:
    def run(seed: int) -> bytes:
        load = draw_open_load(
            GammaArrivals(8, 2), UniformLength(10, 900), EmpiricalLength([5, 50, 200]), count=2000, seed=seed
        )
        return simulate(load, chat(), FleetScheduling(replicas=2)).finished.tobytes()

    assert run(1) == run(1) != run(2)


def test_a_prompt_delays_decoding_requests_unless_a_worker_reads_it() -> None:
    load = open_load([0, 1], [100, 4000], [200, 1])
    step_times = step_times_from_table([0.01] * 4, prefill=1e-3)
    tpot = {
        kind: simulate(load, step_times, FleetScheduling(prefill=kind)).tpot[0] for kind in ("mixed", "first", "apart")
    }
    assert tpot["apart"] == pytest.approx(0.01)
    # Four seconds of prefill fall into 199 steps, in chunks or at once.
    assert tpot["mixed"] == tpot["first"] == pytest.approx(0.01 + 4 / 199)


def test_requests_wait_for_room_in_the_kv_cache_in_order() -> None:
    step_times = step_times_from_table([0.1] * 8, prefill=1e-4, capacity=1000)
    # The second request does not fit beside the first; the third would fit but does not overtake.
    served = simulate(open_load([0, 0.01, 0.02], [500, 600, 10], [100, 100, 10]), step_times)
    assert served.started[1] == served.finished[0]
    assert served.started[2] >= served.started[1]


def test_requests_join_the_shortest_queue() -> None:
    served = simulate(
        open_load([0, 1, 2, 3], 1, [1000, 10, 10, 10]), step_times_from_table([0.1] * 4), FleetScheduling(replicas=2)
    )
    assert served.replica.tolist() == [0, 1, 1, 1]
    served = simulate(
        open_load([0, 1, 2, 3], 1, [1000, 10, 10, 10]),
        step_times_from_table([0.1] * 4),
        FleetScheduling(replicas=2, routing="turns"),
    )
    assert served.replica.tolist() == [0, 1, 0, 1]


def test_linear_step_times_are_sampled_and_summed_exactly() -> None:
    def decode(batch: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return np.asarray(0.01 + 1e-4 * batch + 1e-7 * np.minimum(tokens, 300 * batch))

    step_times = sample_step_times(decode, prefill=1e-5, max_batch=8, contexts=(1, 300, 10_000))
    batch, tokens = np.array([1, 3, 8, 8]), np.array([2, 700, 2400, 900_000])
    np.testing.assert_allclose(step_times.decode(batch, tokens), decode(batch, tokens), rtol=1e-12)
    for width, held in zip(batch, tokens, strict=True):
        each = decode(np.full(500, width), held + width * np.arange(500))
        assert step_times.steps(width, held, 500) == pytest.approx(each.sum(), rel=1e-12)
    assert step_times.steps(1, 5, 0) == 0


def test_processes_and_lengths_have_their_stated_means() -> None:
    for process, variation in (
        (PoissonArrivals(5), 1),
        (EvenArrivals(5), 0),
        (GammaArrivals(5, 2), 2),
        (GammaArrivals(5, 0.5), 0.5),
    ):
        gaps = process.gaps(200_000, np.random.default_rng(1))
        assert gaps.mean() == pytest.approx(0.2, rel=0.02)
        assert gaps.std() / gaps.mean() == pytest.approx(variation, abs=0.03)
    for lengths in (
        FixedLength(50),
        GeometricLength(50),
        LognormalLength(50, 1),
        UniformLength(1, 99),
        EmpiricalLength([25, 75]),
    ):
        found = lengths.draw(200_000, np.random.default_rng(1))
        assert found.min() >= 1
        assert found.mean() == pytest.approx(50, rel=0.02)


def test_a_rate_does_not_change_the_lengths() -> None:
    slow, fast = (
        draw_open_load(PoissonArrivals(rate), GeometricLength(9), GeometricLength(9), count=50, seed=1)
        for rate in (1, 10)
    )
    np.testing.assert_array_equal(slow.outputs, fast.outputs)
    np.testing.assert_allclose(slow.times, fast.times * 10)


@pytest.mark.parametrize(
    "text",
    [
        "time,prompt_tokens,output_tokens\n5,10,2\n7.5,20,3\n",
        "\ufeffoutput_tokens, time ,x,prompt_tokens\n2,5,a,10\n3,7.5,b,20\n\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.0000000,10,2\n2023-11-16 18:15:48.5000000,20,3\n",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,m,10,2,12,c\n7.5,m,20,3,23,c\n",
    ],
)
def test_a_trace_is_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text, "utf-8")
    found = read_trace(file)
    assert [values.tolist() for values in found] == [[0, 2.5], [10, 20], [2, 3]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column 'time': its header row has nothing"),
        ("time,prompt_tokens\n1,2\n", "has no column 'output_tokens': its header row has time, prompt_tokens"),
        ("time,prompt_tokens,output_tokens\n", "has no requests"),
        ("time,prompt_tokens,output_tokens\n1,2\n", "line 2 of .* has 2 values"),
        ("time,prompt_tokens,output_tokens\n1,2,3\nsoon,2,3\n", "line 3 of .* is not a time .* 'soon', '2', '3'"),
        ("time,prompt_tokens,output_tokens\n1,2,x\n", "line 2 of .*'x'"),
        ("time,prompt_tokens,output_tokens\n1,2,3\n0,2,3\n", "request 2 of the trace comes at -1 s, before"),
        ("time,prompt_tokens,output_tokens\n1,0,3\n", "request 1 has 0 prompt tokens"),
        ("time,prompt_tokens,output_tokens\n1,1,3\n1,1,2.5\n", "request 2 has 2.5 output tokens"),
        ("time,prompt_tokens,output_tokens\n1,1,nan\n", "request 1 has nan output tokens"),
    ],
)
def test_the_error_for_a_bad_trace_names_the_place(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=says):
        read_trace(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_trace(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: draw_open_load(PoissonArrivals(0), FixedLength(1), FixedLength(1), count=1, seed=1),
            "rate of requests must be more than 0",
        ),
        (
            lambda: draw_open_load(EvenArrivals(-1), FixedLength(1), FixedLength(1), count=1, seed=1),
            "rate of requests must be more than 0",
        ),
        (
            lambda: draw_open_load(GammaArrivals(1, 0), FixedLength(1), FixedLength(1), count=1, seed=1),
            "variation of the gaps must be more than 0",
        ),
        (
            lambda: draw_open_load(PoissonArrivals(1), FixedLength(0), FixedLength(1), count=1, seed=1),
            "number of tokens must be at least 1",
        ),
        (
            lambda: draw_open_load(PoissonArrivals(1), UniformLength(5, 2), FixedLength(1), count=1, seed=1),
            "lengths from 5 to 2",
        ),
        (
            lambda: draw_open_load(PoissonArrivals(1), EmpiricalLength([]), FixedLength(1), count=1, seed=1),
            "no lengths to draw from",
        ),
        (
            lambda: draw_open_load(PoissonArrivals(1), FixedLength(1), FixedLength(1), count=0, seed=1),
            "number of requests must be at least 1",
        ),
        (
            lambda: draw_closed_load(0, 1, (FixedLength(1), FixedLength(1)), count=1, seed=1),
            "number of users must be at least 1",
        ),
        (
            lambda: draw_closed_load(1, -1, (FixedLength(1), FixedLength(1)), count=1, seed=1),
            "thinking time must be 0 seconds or more",
        ),
        (lambda: open_load([], [], []), "the trace has no requests"),
        (lambda: open_load([1, math.nan], 1, 1), "request 2 of the trace has no finite time"),
        (lambda: open_load([1, 2], [1], 1), "2 requests need 2 prompt lengths, not 1"),
        (lambda: FleetScheduling(replicas=0), "number of replicas must be at least 1"),
        (lambda: FleetScheduling(chunk=0), "prompt tokens in a chunk must be at least 1"),
        (lambda: FleetScheduling(routing="random"), "unknown routing 'random': expected one of shortest, turns"),  # type: ignore[arg-type]
        (lambda: FleetScheduling(workers=0), "prefill workers per replica must be more than 0"),
        (lambda: FleetScheduling(handover=-1), "handover must take 0 seconds per token or more"),
        (lambda: step_times_from_table([]), "base and slope of one shape"),
        (lambda: step_times_from_table([0.0]), "every decode step must take more than 0 seconds"),
        (lambda: step_times_from_table([1.0], -1), "slope of step times must be finite and not negative"),
        (lambda: step_times_from_table([1.0], capacity=0), "KV capacity must be more than 0 tokens"),
        (
            lambda: sample_step_times(lambda b, c: b, prefill=0, max_batch=0, contexts=(1, 2)),
            "largest batch must be at least 1",
        ),
        (
            lambda: sample_step_times(lambda b, c: b, prefill=0, max_batch=1, contexts=(2, 1)),
            "contexts must be two or more",
        ),
        (
            lambda: simulate(open_load([0], 1, 1), step_times_from_table([1.0], prefill=-1)),
            "must return finite seconds, 0 or more",
        ),
        (
            lambda: simulate(open_load([0], 9, 1), step_times_from_table([1], prefill=lambda t: 9 - t)),
            "must not decrease",
        ),
        (
            lambda: simulate(open_load([0, 1], [10, 90], 20), step_times_from_table([1.0], capacity=100)),
            r"request 2 needs 110 tokens of KV cache \(90 of prompt, 20 of output\) and a replica holds 100",
        ),
        (lambda: simulate(open_load([0], 1, 1), chat()).percentiles("tpot", [50]), "no request has a second token"),
        (lambda: simulate(open_load([0], 1, 1), chat()).percentiles("ttft", [101]), "percentiles go from 0 to 100"),
        (lambda: simulate(open_load([0], 1, 1), chat()).percentiles("ttft", [5], skip=1), "share of requests to skip"),
    ],
)
def test_invalid_values_raise_a_one_sentence_error(call: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        call()  # type: ignore[operator]
