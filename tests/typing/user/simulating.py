"""A user tests their program against the simulated cloud, in virtual time."""

from typing import Any, assert_type

from mixtura import Answer, Mixture
from mixtura.sim import Reply, SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual


def reply(request: dict[str, Any], call: int) -> Reply | str | None:
    return f"Draft {call}." if request["messages"] else None


async def scenario() -> Answer:
    async with simulated_cloud(SimOptions(faults="429=61@1", reply=reply, plan="free", seed=3)) as cloud:
        assert_type(cloud, SimulatedCloud)
        assert_type(cloud.url, str)
        mixture = Mixture("single", env={"GROQ_BASE_URL": cloud.url, "GROQ_API_KEY": "gsk_test"})
        return await mixture.ask("Why is the sky blue?", deadline=300)


assert_type(run_virtual(scenario()), Answer)
