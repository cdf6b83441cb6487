"""What a run leaves behind: nothing that only the garbage collector could free."""

import asyncio
import gc

import pytest

from mixtura import Mixture
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.virtual import run_virtual


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("recipe", ["single", "balanced", "classic", "council", "vote"])
def test_a_run_is_freed_when_its_answer_is_there(recipe: str, streamed: bool) -> None:
    async def main() -> list[str]:
        async with simulated_cloud(SimOptions(unlimited=True, tokens=60)) as cloud:
            mixture = Mixture(recipe, env={"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url})

            async def once() -> None:
                if streamed:
                    async with mixture.stream("Why is the sky blue?") as stream:
                        async for _ in stream:
                            pass
                else:
                    await mixture.ask("Why is the sky blue?")
                await asyncio.sleep(1)

            await once()
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                await once()
                gc.collect()
                return [
                    f"{type(one).__module__}.{type(one).__name__}"
                    for one in gc.garbage
                    if type(one).__module__.startswith("mixtura.") and ".sim" not in type(one).__module__
                ]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()

    assert run_virtual(main()) == []
