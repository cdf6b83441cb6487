"""The CPU comparisons of `make bench`: the arithmetic of rounds, the rows, the server, and that every pipeline runs."""

import asyncio
import contextlib
import importlib.util
import ssl
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

import aiohttp
import pytest
from bench.comparisons import BARE, COMPARISONS, OPTIONAL, OURS, RUST, Bound, Comparison, available
from bench.cpu import add_rows, measure_cpu
from bench.embedded_gateway import configuration, gateway
from bench.limits.table import Table
from bench.rounds import Contender, Load, Opened, Turn, measure, milliseconds, ratio
from bench.server import Pace, running

from bench import __main__ as command
from bench import certificate, pipelines, replies, streams

pytestmark = pytest.mark.slow


def turns(*spent: float) -> list[Turn]:
    return [Turn(one, 1.0) for one in spent]


def test_a_ratio_is_taken_within_each_round_and_the_median_is_of_the_ratios() -> None:
    # The machine was three times as slow in the last round; that decides nothing.
    mine, theirs = turns(1.0, 2.0, 9.0), turns(2.0, 2.0, 12.0)
    assert ratio(mine, theirs) == (0.75, 0.5, 1.0)
    assert milliseconds(mine) == (2.0, 1.0, 9.0)
    with pytest.raises(ValueError, match="shorter"):
        ratio(mine, theirs[:2])


def test_rows_stand_beside_their_bounds_and_a_missing_peer_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    never = Contender(pipelines.bare)
    compared = Comparison(
        "whole replies",
        {OURS: never, BARE: never, RUST: never},
        (Bound(OURS, BARE, 1.25), Bound(OURS, BARE), Bound(BARE, OURS, 1.25), Bound(OURS, RUST, 0.8)),
    )
    table = Table()
    add_rows(table, compared, {OURS: turns(0.5, 0.6, 0.7), BARE: turns(0.25, 0.3, 0.35)})
    assert [tuple(row) for row in table.rows] == [
        ("CPU, whole replies: Mixtura", "0.600 ms (0.500 to 0.700)", "", ""),
        ("CPU, whole replies: bare aiohttp", "0.300 ms (0.250 to 0.350)", "", ""),
        ("CPU, whole replies: Mixtura / bare aiohttp", "2.000 (2.000 to 2.000)", "<= 1.25", "MISSED"),
        ("CPU, whole replies: Mixtura / bare aiohttp", "2.000 (2.000 to 2.000)", "", ""),
        ("CPU, whole replies: bare aiohttp / Mixtura", "0.500 (0.500 to 0.500)", "<= 1.25", "holds"),
    ]
    told = [line for line in capsys.readouterr().out.splitlines() if RUST in line]
    assert told == [
        "left out: CPU, whole replies: TensorZero embedded (not installed: pip install -e '.[bench]')",
    ]


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_ratio_is_of_two_pipelines_that_are_measured(name: str) -> None:
    compared = COMPARISONS[name]
    for mine, theirs, _ in compared.bounds:
        assert {mine, theirs} <= compared.contenders.keys()


def test_only_what_the_extra_installs_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    named = {name for compared in COMPARISONS.values() for name in compared.contenders}
    assert {name for name in named if not available(name)} == set(OPTIONAL)


def test_a_turn_asks_as_often_as_it_says_and_counts_each_mixture() -> None:
    asked = open_ = most = 0

    @contextlib.asynccontextmanager
    async def make(_url: str) -> AsyncIterator[pipelines.Ask]:
        async def ask() -> str:
            nonlocal asked, open_, most
            asked += 1
            open_ += 1
            most = max(most, open_)
            await asyncio.sleep(0.01)
            open_ -= 1
            return "Yes."

        yield ask

    found = measure({"fake": Contender(make)}, "", 2, Load(at_once=3, apart=0.001))
    assert (asked, most) == (3 * 3, 3)  # a turn to warm up, and two
    assert len(found["fake"]) == 2
    opened = Opened(Contender(make), "")
    try:
        assert opened.turn(2, Load()).rate < 1 / 0.01
    finally:
        opened.close()
    assert asked == 3 * 3 + 2


def test_a_pipeline_that_answers_nothing_is_no_measurement() -> None:
    @contextlib.asynccontextmanager
    async def make(_url: str) -> AsyncIterator[pipelines.Ask]:
        async def ask() -> str:
            return ""

        yield ask

    with pytest.raises(AssertionError, match="no answer"):
        measure({"fake": Contender(make)}, "", 1)


def answer_of(contender: Contender, url: str) -> str:
    """What a pipeline answers, in an event loop of its own kind."""

    async def main() -> str:
        async with contender.make(url) as ask:
            return await ask()

    with asyncio.Runner(loop_factory=contender.loop) as runner:
        return runner.run(main())


def test_every_pipeline_gives_the_same_answer_whole_and_streamed() -> None:
    known = {replies.text(number) for number in range(replies.NUMBERS)}
    made = {
        "sdk": pipelines.sdk,
        "bare": pipelines.bare,
        "ours": pipelines.ours(),
        "balanced": pipelines.ours("balanced"),
        "classic": pipelines.ours("classic"),
        "bare, streamed": streams.bare,
        "answer": streams.ours("answer"),
        "calls": streams.ours("calls"),
    }
    with running(Pace(chunks=7)) as url:
        for name, make in made.items():
            assert answer_of(Contender(make), url) in known, name


@pytest.mark.parametrize("name", OPTIONAL)
def test_so_do_those_of_the_extra(name: str) -> None:
    if not available(name):
        pytest.skip("needs the extra bench")
    known = {replies.text(number) for number in range(replies.NUMBERS)}
    with running() as url:
        assert answer_of(COMPARISONS["whole"].contenders[name], url) in known
        if name == RUST:
            assert answer_of(Contender(gateway(stream=True)), url) in known


def test_a_stream_has_as_many_chunks_as_asked_for_and_paced_ones_take_their_time() -> None:
    async def main(url: str) -> tuple[list[bytes], float]:
        async with aiohttp.ClientSession() as session:
            begun = asyncio.get_running_loop().time()
            body = {"model": "m", "stream": True}
            async with session.post(f"{url}/openai/v1/chat/completions", json=body) as response:
                lines = (await response.read()).splitlines()
            return lines, asyncio.get_running_loop().time() - begun

    with running(Pace(between=0.02, chunks=10)) as url:
        lines, seconds = asyncio.run(main(url))
    # One opens the message, one ends it, and the last is [DONE].
    assert sum(line.startswith(b"data: ") for line in lines) == 13
    assert seconds >= 11 * 0.02


def test_the_server_speaks_tls_to_clients_that_trust_its_authority_and_to_no_other() -> None:
    with certificate.issued() as issued, running(chain=issued.chain) as url:
        assert url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=str(issued.authority))
        with urllib.request.urlopen(f"{url}/spans", context=trusting) as reply:
            assert reply.read() == b"[]"
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"{url}/spans", context=ssl.create_default_context())
    assert not issued.authority.exists()


def test_a_comparison_over_tls_is_measured_in_a_process_that_trusts_the_server() -> None:
    table = Table()
    measure_cpu(table, 1, ["tls-whole"])
    measured = {row.what for row in table.rows}
    assert {f"CPU, TLS, whole replies: {OURS}", f"CPU, TLS, whole replies: {OURS} / {BARE}"} <= measured


def test_the_gateways_configuration_asks_the_same_models_of_the_same_server() -> None:
    told = tomllib.loads(configuration("http://127.0.0.1:1"))
    assert told["gateway"] == {
        "disable_pseudonymous_usage_analytics": True,
        "observability": {"enabled": False},
    }
    variants = told["functions"]["mixture"]["variants"]
    mixture = variants["mixture"]
    assert [variants[name]["model"] for name in mixture["candidates"]] == list(pipelines.PROPOSERS)
    assert mixture["fuser"]["model"] == pipelines.AGGREGATOR
    for model in (*pipelines.PROPOSERS, pipelines.AGGREGATOR):
        assert told["models"][model]["providers"]["bench"]["api_base"] == "http://127.0.0.1:1/openai/v1/"


def test_a_part_of_the_table_is_not_written_into_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "cpu", "--write"])
    with pytest.raises(SystemExit):
        command.main()
    assert "--write needs the whole table" in capsys.readouterr().err


def test_only_measures_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[object] = []
    monkeypatch.setattr(command, "measure_cpu", lambda _, rounds, names=(): measured.append((rounds, names)))
    monkeypatch.setattr(command, "measure_walls", lambda _: measured.append("wall"))
    assert command.rows(4, ["cpu", "wall", "tls-paced"]) == []
    assert measured == [(4, ()), "wall", (4, ("tls-paced",))]
