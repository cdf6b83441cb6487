"""Timing profiles of machines: the hardware model's prediction for a catalogue model at the current batch size.

`gpu` means as many H100 chips as a model needs, `gpu:8xb200` eight B200, `wafer` Cerebras' wafers, and `machine:` any
chip of the catalogue (`machine:lp30`, `machine:4xtpu_v6e`). A model that does not fit the given number of chips gets
as many as it needs. Each call draws its deviation from the prediction from the model's own spread. That spread is the
uncertainty about the machine; on wafers and LPUs it is much larger than the difference between calls of one machine.

The hardware model needs NumPy. It is imported only when a profile of machines is used.
"""

import functools
import math
import random
from typing import TYPE_CHECKING

import msgspec

from mixtura.errors import ConfigError
from mixtura.models.catalog import CatalogModel
from mixtura.sim.bodies import CallTimes

if TYPE_CHECKING:
    from mixtura.hardware.host import ModelHost
    from mixtura.hardware.shape import ModelShape

PROFILE_FORMS = "gpu[:CHIPS], wafer[:CHIPS] or machine:CHIPS"
"""The syntax of these profiles, for error messages. CHIPS is for example h100, 8xb200 or 8xh100/trtllm."""

_DEFAULTS = {"gpu": "h100", "wafer": "wse3"}
# The other calls in flight are assumed to be as long as this one. With shorter replies than this the batch would
# process new prompts nearly all the time, and no measured point has such a load.
_MIN_OUTPUT = 100


class MachineProfile(msgspec.Struct, frozen=True):
    """Runs each model on machines of its own; `on` is written as in `mixtura.hardware.machine`."""

    on: str

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> CallTimes:
        """Draw the times of a call while `others` calls of the same model are in flight.

        The queue time is the delay of the first token by the other calls' prompts and steps. When the machine holds
        no more sequences, it also includes the wait until one of them ends.
        """
        from mixtura.hardware.gpu import SteadyLoad

        host = _host(model.id, model.family, self.on)
        prompt, output = max(1, prompt), max(_MIN_OUTPUT, completion)
        # A cloud would spread a context that one copy cannot hold over more chips. Here it is cut until it fits.
        while not (room := host.room(prompt + output)):
            prompt, output = max(1, prompt // 2), max(1, output // 2)
        batch, waiting = min(others + 1, room), max(0, others + 1 - room)
        load = SteadyLoad(batch, prompt, output)
        first, token = host.first(load), host.token(load)
        alone = float(host.first(load._replace(batch=1)).seconds)
        queue = max(0.0, float(first.seconds) - alone)
        writing = max(0, completion - 1) * float(token.seconds)
        # A full machine finishes a call every `writing / room` seconds.
        full = waiting * (alone + writing) / room
        early, late = _noise(first.spread, rng), _noise(token.spread, rng)
        return CallTimes.from_seconds(queue * early + full * late, alone * early, writing * late)


def parse_machine_profile(name: str, value: str) -> MachineProfile | None:
    """Return the profile `name:value`, None when it is not a profile of machines.

    Raises:
        ConfigError: the chip or engine is unknown, the chip is of another kind, or NumPy is not installed.
    """
    if name not in (*_DEFAULTS, "machine") or not (value or name in _DEFAULTS):
        return None
    on = value or _DEFAULTS[name]
    # Any model will do here: only the chip and the engine are checked.
    kind = _host("", "", on).chip.kind
    if name in _DEFAULTS and kind != name:
        raise ConfigError(f"timing profile '{name}:{value}': {value} is not a {name}; write machine:{value}")
    return MachineProfile(on)


def _noise(spread: float, rng: random.Random) -> float:
    return math.exp(rng.gauss(0.0, spread))


@functools.lru_cache(maxsize=256)
def _host(model: str, family: str, on: str) -> "ModelHost":
    try:
        from mixtura.hardware.host import host
        from mixtura.hardware.machine import parse_machine
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "numpy":
            raise
        raise ConfigError("profiles of machines need NumPy: pip install 'mixtura[room]'") from error
    found, shape = parse_machine(on), _shape(model, family)
    try:
        return host(shape, found.chip, found.chips, engine=found.engine)
    except ConfigError:
        if found.chips is None:
            raise
        # The model does not fit the given number of chips. A cloud would use more of them.
        return host(shape, found.chip, engine=found.engine)


def _shape(model: str, family: str) -> "ModelShape":
    from mixtura.hardware.shapes import shape, stand_in

    try:
        return shape(model)
    except ConfigError:
        found = stand_in(family, usual=True)
        assert found is not None
        return found
