"""Say what a run may cost and how long it may wait; both are decided before anything is sent.

A simulated cloud with the limits of a free key stands in for Groq, on a clock that jumps over waits.
"""

import asyncio

from mixtura import BudgetError, LimitError, Mixture
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.virtual import run_virtual

QUESTION = "Explain the tradeoffs between B-tree and LSM-tree indexes for write-heavy workloads."


async def main() -> None:
    """Forecast, ask with a bound, ask too much, then ask more than a minute's limits allow."""
    async with simulated_cloud(SimOptions(tokens=200, plan="free")) as cloud:
        env = {"GROQ_BASE_URL": cloud.url, "GROQ_API_KEY": "gsk_simulated"}
        mixture = Mixture("classic", env=env, plan="free")
        print(f"at most ${mixture.forecast(QUESTION).cost:.6f}")
        answer = await mixture.ask(QUESTION, max_cost=0.0015)
        print(f"cost ${answer.cost:.6f}: {'; '.join(answer.warnings) or 'nothing left out'}")
        try:
            await mixture.ask(QUESTION, max_cost=0.00001)
        except BudgetError as error:
            print(f"refused: {error}")
        crowd = [mixture.ask(QUESTION, deadline=100) for _ in range(6)]
        for came in await asyncio.gather(*crowd, return_exceptions=True):
            if isinstance(came, LimitError):
                print(f"refused: fits in {came.retry_after:.0f} s")
            elif not isinstance(came, BaseException):
                print(f"{came.status} after {came.seconds:.0f} s")


if __name__ == "__main__":
    run_virtual(main())
