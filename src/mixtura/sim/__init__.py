"""A simulated Groq cloud over real HTTP: the same bodies, limits, times and failures, without a key or a network."""

from mixtura.sim.cloud import Cloud
from mixtura.sim.faults import Fault, FaultPlan, parse_faults
from mixtura.sim.ledger import Ledger
from mixtura.sim.options import TUTORIAL_ERA, SimOptions
from mixtura.sim.replies import Call, Reply
from mixtura.sim.server import SimulatedCloud, serve, simulated_cloud

__all__ = [
    "TUTORIAL_ERA",
    "Call",
    "Cloud",
    "Fault",
    "FaultPlan",
    "Ledger",
    "Reply",
    "SimOptions",
    "SimulatedCloud",
    "parse_faults",
    "serve",
    "simulated_cloud",
]
