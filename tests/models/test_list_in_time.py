"""A server that does not answer is asked for its models, or for a sign of life, for seconds and no longer."""

import asyncio
import datetime as dt

import pytest

from mixtura.errors import TimedOutError
from mixtura.models.catalog import Catalog
from mixtura.models.openai.endpoint import Endpoint
from mixtura.models.openai.failures import Failures
from mixtura.models.openai.http import answers, list_models
from mixtura.virtual import run_virtual
from slow_servers import slow_server

VLLM = Failures("vllm", Catalog.load(), lambda: dt.date(2026, 11, 27))


def test_a_list_that_does_not_come_is_waited_for_twenty_seconds() -> None:
    async def main() -> None:
        async with slow_server(5000.0, 1) as server:
            clock = asyncio.get_running_loop().time
            begun = clock()
            with pytest.raises(TimedOutError) as error:
                await list_models(Endpoint(provider="vllm", url=server.url), VLLM)
            assert clock() - begun == pytest.approx(20.0, abs=0.5)
            assert error.value.reason == "nothing came within 20 s"
            assert (error.value.provider, error.value.model) == ("vllm", "its list of models")

    run_virtual(main())


@pytest.mark.parametrize(("first", "there"), [(1.0, True), (5000.0, False)])
def test_a_server_is_there_where_it_answers_within_five_seconds(first: float, there: bool) -> None:
    async def main() -> None:
        async with slow_server(first, 1) as server:
            clock = asyncio.get_running_loop().time
            begun = clock()
            assert await answers(Endpoint(provider="vllm", url=server.url)) is there
            assert clock() - begun == pytest.approx(0.0 if there else 5.0, abs=0.5)

    run_virtual(main())


def test_a_server_that_says_no_is_there_and_one_that_is_gone_is_not() -> None:
    async def main() -> None:
        async with slow_server(1.0, 1) as server:
            assert await answers(Endpoint(provider="vllm", url=f"{server.url}/nowhere"))
        assert not await answers(Endpoint(provider="vllm", url=server.url))

    run_virtual(main())
