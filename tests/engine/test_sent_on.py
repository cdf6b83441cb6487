"""What a server can send on to its own client when a run fails: status, seconds to wait, and the cause first."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from asking import GEMMA, LLAMA, SEVENTY
from mixtura import Aggregator, Layer, MixturaError, Mixture, Policy, Proposer, Recipe
from mixtura.errors import BudgetError, DailyBudgetError, DeadlineError, InputError, LimitError, NoAnswerError
from mixtura.virtual import run_virtual

CLASSIC = Recipe(
    layers=(Layer(proposers=(Proposer(model=LLAMA), Proposer(model=GEMMA))),),
    aggregator=Aggregator(model=SEVENTY),
    policy=Policy(deadline=20.0),
)
ALONE = Recipe(layers=(Layer(proposers=(Proposer(model=LLAMA),)),), policy=Policy(deadline=20.0))


class Says(NamedTuple):
    """How a model's every call is refused."""

    status: int
    retry_after: str = ""
    code: str = ""


@contextlib.asynccontextmanager
async def refusing(says: Mapping[str, Says]) -> AsyncIterator[dict[str, str]]:
    """Serve models that refuse; give the environment in which they are asked."""

    async def refuse(request: web.Request) -> web.Response:
        said = says[(await request.json())["model"]]
        headers = {"Retry-After": said.retry_after} if said.retry_after else {}
        body = {"error": {"message": "It cannot be.", "code": said.code or None}}
        return web.json_response(body, status=said.status, headers=headers)

    app = web.Application()
    app.router.add_post("/openai/v1/chat/completions", refuse)
    async with TestServer(app) as server:
        yield {"GROQ_BASE_URL": str(server.make_url("/")).rstrip("/"), "GROQ_API_KEY": "gsk_test_secret"}


async def failure(mixture: Mixture, *, watched: bool, deadline: float | None = None) -> MixturaError:
    with pytest.raises(MixturaError) as caught:
        await (_read(mixture, deadline) if watched else mixture.ask("Why?", deadline=deadline))
    return caught.value


async def _read(mixture: Mixture, deadline: float | None) -> None:
    async with mixture.stream("Why?", deadline=deadline) as events:
        async for _ in events:
            pass


def failed(recipe: Recipe, says: Mapping[str, Says], *, watched: bool = False) -> MixturaError:
    async def main() -> MixturaError:
        async with refusing(says) as env:
            return await failure(Mixture(recipe, env=env), watched=watched)

    return run_virtual(main())


def each(*said: Says) -> dict[str, Says]:
    """Give the three models their refusals; the last one counts for those that are left."""
    return dict(zip((LLAMA, GEMMA, SEVENTY), [*said, *[said[-1]] * 2], strict=False))


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(
    ("said", "status", "retry_after", "code"),
    [
        # Every call met a rate limit: after the longest wait all of them fit.
        (each(Says(429, "61"), Says(429, "420"), Says(429, "90")), 429, 420, 75),
        (each(Says(429, "61"), Says(429)), 429, 61, 75),
        # A refused key: 401 unless every call got the same other word.
        (each(Says(401)), 401, None, 3),
        (each(Says(403)), 403, None, 3),
        (each(Says(401, "30"), Says(403)), 401, None, 3),
        (each(Says(402)), 402, None, 3),
        (each(Says(429, "30", "insufficient_quota")), 402, None, 3),
        # Busy or broken: the common 5xx, else 503; a status of Groq's own is not for others.
        (each(Says(503, "30"), Says(503, "45")), 503, 45, 1),
        (each(Says(502, "30")), 502, 30, 1),
        (each(Says(500, "30"), Says(503, "25")), 503, 30, 1),
        (each(Says(498, "30")), 503, 30, 1),
        # The request itself: no wait would help.
        (each(Says(400)), 400, None, 1),
        (each(Says(413)), 413, None, 1),
        # Mixed: no status speaks for all; a wait helps where every failure may pass by itself.
        (each(Says(429, "61"), Says(503, "30")), None, 61, 75),
        (each(Says(429, "61"), Says(401)), None, None, 3),
        (each(Says(400), Says(401)), None, None, 3),
    ],
)
def test_a_run_whose_calls_failed_alike_carries_their_status_and_the_longest_wait(
    said: dict[str, Says], status: int | None, retry_after: float | None, code: int, watched: bool
) -> None:
    error = failed(CLASSIC, said, watched=watched)
    assert isinstance(error, NoAnswerError)
    assert (error.status, error.retry_after, error.exit_code) == (status, retry_after, code)


@pytest.mark.parametrize("watched", [False, True])
def test_a_run_of_one_model_carries_what_its_call_got(watched: bool) -> None:
    limited = failed(ALONE, each(Says(429, "420")), watched=watched)
    assert (limited.status, limited.retry_after) == (429, 420)
    busy = failed(ALONE, each(Says(503, "90")), watched=watched)
    assert (busy.status, busy.retry_after) == (503, 90)
    assert busy.message.startswith(f"{LLAMA} on groq: It cannot be; it would have to wait 90 s, only 20 s are left")


def test_an_open_breaker_passes_on_the_status_and_the_wait_that_were_really_seen() -> None:
    async def main() -> tuple[MixturaError, float]:
        async with refusing(each(Says(503, "30"))) as env:
            mixture = Mixture(ALONE, env=env)
            for _ in range(8):
                await failure(mixture, watched=False)
            await asyncio.sleep(0.5)
            begun = asyncio.get_running_loop().time()
            return await failure(mixture, watched=False), asyncio.get_running_loop().time() - begun

    error, seconds = run_virtual(main())
    assert isinstance(error, NoAnswerError)
    assert not error.failures[0].sent
    assert (error.status, error.exit_code) == (503, 1)
    assert error.retry_after == pytest.approx(29.5, abs=0.1)
    assert error.message.startswith(f"{LLAMA} on groq: It cannot be; not asked again for 0.5 s after 8 failures in a")
    assert seconds < 0.1


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _nobody() -> dict[str, str]:
    return {"GROQ_BASE_URL": f"http://127.0.0.1:{_free_port()}"}


def _no_name() -> dict[str, str]:
    return {"GROQ_BASE_URL": "http://no-host.invalid"}


def _no_proxy() -> dict[str, str]:
    return {"GROQ_BASE_URL": "http://api.example.com", "HTTP_PROXY": f"http://127.0.0.1:{_free_port()}"}


NO_NETWORK = [
    (_nobody, r"nothing answers at 127\.0\.0\.1:\d+ \(Connection refused\); is it running\?"),
    # How long it takes to find that there is no such name is for the machine to say.
    pytest.param(_no_name, r"the name 'no-host\.invalid' could not be resolved; check", marks=pytest.mark.slow),
    (_no_proxy, r"the proxy 127\.0\.0\.1:\d+ cannot be reached \(Connection refused\); correct HTTP_PROXY"),
]


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("recipe", [CLASSIC, ALONE], ids=["mixture", "alone"])
@pytest.mark.parametrize(("world", "cause"), NO_NETWORK, ids=["refused", "name", "proxy"])
def test_without_a_network_the_first_sentence_is_the_cause_whether_or_not_a_breaker_is_open(
    world: Callable[[], dict[str, str]], cause: str, recipe: Recipe, watched: bool
) -> None:
    env = {"GROQ_API_KEY": "gsk_test_secret", **world()}

    async def main() -> list[MixturaError]:
        mixture = Mixture(recipe, env=env)
        errors = [await failure(mixture, watched=watched) for _ in range(4)]
        # The breaker is open by now, and after one more try no call is let through within this deadline.
        return errors + [await failure(mixture, watched=watched, deadline=0.1) for _ in range(2)]

    errors = run_virtual(main())
    for error in errors:
        assert re.match(cause, error.message)
        assert (error.status, error.exit_code) == (None, 1)
    last = errors[-1]
    assert isinstance(last, NoAnswerError)
    if world is _no_proxy:
        # It is no fault of the provider's, which would be spared for it without the proxy as well.
        assert "ot asked again" not in last.message
        return
    assert "ot asked again for" in last.message
    assert last.retry_after is not None
    assert last.retry_after > 0.1


def test_where_tls_fails_the_first_sentence_is_the_cause() -> None:
    async def main() -> MixturaError:
        async with refusing({}) as env:
            secure = {**env, "GROQ_BASE_URL": env["GROQ_BASE_URL"].replace("http://", "https://")}
            return await failure(Mixture(CLASSIC, env=secure), watched=False)

    assert run_virtual(main()).message.startswith("no TLS connection to 127.0.0.1")


def test_every_error_has_a_status_and_a_wait_that_a_server_can_send_on() -> None:
    def sent_on(error: MixturaError) -> tuple[int | None, float | None]:
        return error.status, error.retry_after

    assert sent_on(MixturaError("?")) == (None, None)
    assert sent_on(InputError("the question is empty")) == (400, None)
    assert sent_on(BudgetError(1.0, 0.5)) == (None, None)
    assert sent_on(DailyBudgetError(1.0, 0.5, 0.1, 0.0, 3600.0)) == (429, 3600.0)
    assert sent_on(LimitError("no room", retry_after=12.0, window="tpm")) == (429, 12.0)
    assert sent_on(LimitError("it can never fit", retry_after=None, window="tpm")) == (413, None)
    assert sent_on(DeadlineError("over")) == (504, None)
    assert sent_on(NoAnswerError([])) == (None, None)
