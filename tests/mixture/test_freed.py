"""What a key or a client of a request's own leaves behind when its mixture is gone: nothing that grows."""

import asyncio
import gc
from collections import Counter

from groq import AsyncGroq

from mixtura import Layer, Mixture, Proposer, Recipe
from mixtura.limits.current import current_limiter
from mixtura.limits.limiter import Limiter
from mixtura.limits.window import Limits
from mixtura.models.served import Accounting
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual

RECIPE = Recipe(layers=(Layer(proposers=(Proposer(model="openai/gpt-oss-20b"),)),))
MANY, WARM = 600, 40


async def ask_with_key(cloud: SimulatedCloud, number: int) -> None:
    env = {"GROQ_API_KEY": f"gsk_of_customer_{number}", "GROQ_BASE_URL": cloud.url}
    assert (await Mixture(RECIPE, env=env).ask("Why?")).status == "ok"


async def ask_with_client(cloud: SimulatedCloud, number: int) -> None:
    async with AsyncGroq(base_url=cloud.url, api_key=f"gsk_of_customer_{number}") as client:
        assert (await Mixture(RECIPE, client=client).ask("Why?")).status == "ok"


def ours() -> Counter[str]:
    """Count the objects of our classes, and the texts that hold a key."""
    gc.collect()
    found: Counter[str] = Counter()
    for one in gc.get_objects():
        kind = type(one)
        if str(getattr(kind, "__module__", "")).startswith("mixtura."):
            found[kind.__qualname__] += 1
        if isinstance(one, dict):
            found["keys"] += sum(isinstance(value, str) and "gsk_of_customer" in value for value in list(one.values()))
    return found


def test_a_key_for_each_question_leaves_no_key_and_few_accounts() -> None:
    async def main() -> tuple[Counter[str], int]:
        async with simulated_cloud(SimOptions(unlimited=True, tokens=3)) as cloud:
            for number in range(WARM):
                await ask_with_key(cloud, number)
            cloud.requests.clear()
            before = ours()
            for number in range(WARM, WARM + MANY):
                await ask_with_key(cloud, number)
            cloud.requests.clear()
            return ours() - before, len(current_limiter().accounts)

    grown, accounts = run_virtual(main())
    assert accounts <= 256
    assert not [name for name, more in grown.items() if more > 5 * 256], grown
    assert grown["Route"] + grown["Endpoint"] + grown["Mixture"] + grown["ModelRegistry"] == 0
    assert grown["keys"] <= 3


def test_a_client_for_each_question_is_let_go_of() -> None:
    async def main() -> Counter[str]:
        async with simulated_cloud(SimOptions(unlimited=True, tokens=3)) as cloud:
            await ask_with_client(cloud, 0)
            before = ours()
            for number in range(1, 10):
                await ask_with_client(cloud, number)
            return ours() - before

    grown = run_virtual(main())
    assert grown["SdkClient"] + grown["SdkModel"] + grown["Mixture"] == 0


async def test_accounts_that_are_in_use_or_not_at_rest_are_kept() -> None:
    limiter, now = Limiter(), asyncio.get_running_loop().time()
    living = Accounting(key="living/m", group="living")
    living.open(limiter)
    for number in range(300):
        limiter.account(f"resting{number}/m")
    busy = limiter.account("busy/m")
    call = busy.take(10, now)
    filled = limiter.account("filled/m", Limits(tpm=8000), known=True)
    filled.settle(filled.take(4000, now), now)
    limiter.breaker("failing").healthy = False
    Accounting(key="new/m", group="new").open(limiter)
    assert set(limiter.accounts) == {"living/m", "busy/m", "filled/m", "new/m"}
    assert not limiter.breaker("failing").healthy
    busy.settle(call, now)
