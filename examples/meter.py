"""Meter the dollars of every run with a listener. A simulated cloud stands in for Groq, at the catalogue's prices."""

import asyncio
from collections import defaultdict

from mixtura import Event, Mixture
from mixtura.events import CallFailed, CallFinished
from mixtura.sim import SimOptions, simulated_cloud


class Meter:
    """Adds up what each model costs; `add` is a listener: it is called with every event and must not block."""

    def __init__(self) -> None:
        self.dollars: defaultdict[str, float] = defaultdict(float)

    def add(self, event: Event) -> None:
        """Count a call that is billed, be it finished or failed."""
        if isinstance(event, CallFinished | CallFailed):
            billed = event.done if isinstance(event, CallFinished) else event.failure
            self.dollars[billed.model] += billed.cost or 0.0


async def main() -> None:
    """Ask twice and print the bill."""
    meter = Meter()
    async with simulated_cloud(SimOptions(tokens=100)) as cloud:
        env = {"GROQ_BASE_URL": cloud.url, "GROQ_API_KEY": "gsk_simulated"}
        mixture = Mixture("classic", env=env, listeners=[meter.add])
        answers = [await mixture.ask(question) for question in ("Why is the sky blue?", "And at night?")]
    for model, dollars in sorted(meter.dollars.items()):
        print(f"{model:24} ${dollars:.6f}")
    print(f"{'the answers say':24} ${sum(answer.cost or 0.0 for answer in answers):.6f}")


if __name__ == "__main__":
    asyncio.run(main())
