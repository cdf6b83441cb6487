"""Stream to a terminal: who drafts, what was decided, and the answer while it is written.

A simulated cloud stands in for Groq. With a key of your own leave it and `env` out.
"""

import asyncio

from mixtura import Draft, Mixture
from mixtura.events import AnswerDelta, AnswerRestarted, CallFailed, CallFinished, Decision, RunFinished
from mixtura.sim import SimOptions, simulated_cloud

CLOUD = SimOptions(reply=lambda _, call: f"Blue scatters ({call}).", faults="413:gemma2-9b-it", profile="fixed:0.1")


async def main() -> None:
    """Print the events that a reader wants to see; one proposer is down."""
    async with simulated_cloud(CLOUD) as cloud:
        mixture = Mixture("classic", env={"GROQ_BASE_URL": cloud.url, "GROQ_API_KEY": "gsk_simulated"})
        # `async with` ends what is still open when the loop below is left early.
        async with mixture.stream("Why is the sky blue?", seed=1) as events:
            async for event in events:
                match event:
                    case CallFinished(done=Draft(model=model)):
                        print(f"[{model} has drafted]")
                    case CallFailed(failure=failure):
                        print(f"[{failure.model} failed: {failure.kind}]")
                    case Decision(reason=reason):
                        print(f"\n[{reason}]")
                    case AnswerDelta(text=text):
                        print(text, end="", flush=True)
                    case AnswerRestarted():
                        print("\n[the answer begins anew]")
                    case RunFinished(status=status):
                        print(f"[{status}]")


if __name__ == "__main__":
    asyncio.run(main())
