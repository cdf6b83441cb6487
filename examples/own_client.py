"""Let your own SDK client make every call: its proxy, its headers, its connection pool.

AsyncGroq, AsyncOpenAI, Groq and OpenAI work alike. A simulated cloud stands in for Groq.
"""

import asyncio

from groq import AsyncGroq

from mixtura import Mixture
from mixtura.sim import SimOptions, simulated_cloud


async def main() -> None:
    """Ask through a client that adds a header of its own."""
    async with (
        simulated_cloud(
            SimOptions(reply=lambda request, call: f"Draft {call}: blue light is scattered most.")
        ) as cloud,
        AsyncGroq(base_url=cloud.url, api_key="gsk_simulated", default_headers={"x-team": "search"}) as client,
    ):
        answer = await Mixture("classic", client=client).ask("Why is the sky blue?")
        print(answer.text)
        print(f"{answer.n_calls} calls, {len(cloud.requests)} requests through the client")


if __name__ == "__main__":
    asyncio.run(main())
