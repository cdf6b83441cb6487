"""A simulated Groq cloud over real HTTP, with the bodies, limits, times and failures of the real one.

Neither a key nor a network is needed.
"""

from mixtura.sim.cloud import CloudSimulator
from mixtura.sim.faults import Fault, FaultInjector, parse_faults
from mixtura.sim.ledger import Ledger
from mixtura.sim.options import TUTORIAL_ERA, SimOptions
from mixtura.sim.replies import Reply, ToolCall
from mixtura.sim.server import SimulatedCloud, serve, simulated_cloud

__all__ = [
    "TUTORIAL_ERA",
    "CloudSimulator",
    "Fault",
    "FaultInjector",
    "Ledger",
    "Reply",
    "SimOptions",
    "SimulatedCloud",
    "ToolCall",
    "parse_faults",
    "serve",
    "simulated_cloud",
]
