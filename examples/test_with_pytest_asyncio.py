"""Test code of yours that asks: against a simulated cloud, which costs nothing, in tests of pytest-asyncio.

    python -m pytest examples/test_with_pytest_asyncio.py

Each test has an event loop of its own. A `Mixture` belongs to none, and its connections end with each loop.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mixtura import Mixture, NoAnswerError
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud


async def summary(mixture: Mixture, text: str) -> str:
    """Return a summary: the code under test."""
    return (await mixture.ask(f"Summarize: {text}", deadline=20)).text


@pytest_asyncio.fixture
async def cloud() -> AsyncIterator[SimulatedCloud]:
    """Stand in for Groq."""
    async with simulated_cloud(
        SimOptions(reply=lambda request, call: "Blue light scatters.", keys={"gsk_ours": "us"})
    ) as running:
        yield running


@pytest.fixture
def mixture(cloud: SimulatedCloud) -> Mixture:
    """Ask the simulated cloud, whatever keys are set."""
    return Mixture("classic", env={"GROQ_API_KEY": "gsk_ours", "GROQ_BASE_URL": cloud.url})


@pytest.mark.asyncio
async def test_a_summary_is_what_the_models_say(mixture: Mixture, cloud: SimulatedCloud) -> None:
    assert await summary(mixture, "The sky.") == "Blue light scatters."
    assert cloud.requests[0]["messages"][-1]["content"] == "Summarize: The sky."


@pytest.mark.asyncio
async def test_a_key_that_is_refused_is_an_error(cloud: SimulatedCloud) -> None:
    with pytest.raises(NoAnswerError) as caught:
        await summary(Mixture("classic", env={"GROQ_API_KEY": "wrong", "GROQ_BASE_URL": cloud.url}), "The sky.")
    assert caught.value.status == 401
