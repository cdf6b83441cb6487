"""Timing profiles of machines: what the hardware model predicts for a catalogue model at the batch that is in flight.

`gpu` stands for as many H100 as a model needs, `gpu:8xb200` for so many of those, `wafer` for Cerebras' wafers, and
`machine:` for any chip of the catalogue (`machine:lp30`, `machine:4xtpu_v6e`). A model that so many chips do not hold
gets as many as it needs. Each call draws how far from the prediction it is from the model's own spread: that is what
is not known of the machine, and on wafers and LPUs much more than calls of one machine differ.

The hardware model needs NumPy; nothing here is imported before a profile of machines is asked for.
"""

import functools
import math
import random
from typing import TYPE_CHECKING

import msgspec

from mixtura.errors import ConfigError
from mixtura.models.catalog import CatalogModel
from mixtura.sim.bodies import Times

if TYPE_CHECKING:
    from mixtura.hardware.host import ModelHost
    from mixtura.hardware.shape import ModelShape

FORMS = "gpu[:CHIPS], wafer[:CHIPS] or machine:CHIPS"
"""How these profiles are written, for messages; CHIPS is such as h100, 8xb200 or 8xh100/trtllm."""

_DEFAULTS = {"gpu": "h100", "wafer": "wse3"}
# Short replies: all others in flight are taken to be as long as this one, and of less than so many tokens a batch
# would be reading new prompts nearly all the time, which no measured point has.
_LEAST_OUTPUT = 100


class Machines(msgspec.Struct, frozen=True):
    """Every model on machines of its own, written as in `mixtura.hardware.machine`."""

    on: str

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> Times:
        """Draw the times of a call beside `others` of the same model.

        The queue is what the others' prompts and steps cost until the first token, and, when the machine holds no
        more sequences, the wait until one of them ends.
        """
        from mixtura.hardware.gpu import SteadyLoad

        host = _host(model.id, model.family, self.on)
        prompt, output = max(1, prompt), max(_LEAST_OUTPUT, completion)
        # A context that one copy does not hold a cloud would spread over more chips: it is timed as what does fit.
        while not (room := host.room(prompt + output)):
            prompt, output = max(1, prompt // 2), max(1, output // 2)
        batch, waiting = min(others + 1, room), max(0, others + 1 - room)
        load = SteadyLoad(batch, prompt, output)
        first, token = host.first(load), host.token(load)
        alone = float(host.first(load._replace(batch=1)).seconds)
        queue = max(0.0, float(first.seconds) - alone)
        writing = max(0, completion - 1) * float(token.seconds)
        # A full machine ends a call every `writing / room` seconds.
        full = waiting * (alone + writing) / room
        early, late = _noise(first.spread, rng), _noise(token.spread, rng)
        return Times.of_seconds(queue * early + full * late, alone * early, writing * late)


def parse_machines(name: str, value: str) -> Machines | None:
    """Return the profile `name:value`, None when it is none of machines.

    Raises:
        ConfigError: no such chip or engine, or a chip of another kind; NumPy is missing.
    """
    if name not in (*_DEFAULTS, "machine") or not (value or name in _DEFAULTS):
        return None
    on = value or _DEFAULTS[name]
    # Any model will do: chip and engine are what may be wrong.
    kind = _host("", "", on).chip.kind
    if name in _DEFAULTS and kind != name:
        raise ConfigError(f"timing profile '{name}:{value}': that is no {name}; write machine:{value}")
    return Machines(on)


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
        # It does not fit: a cloud would put it on more of them.
        return host(shape, found.chip, engine=found.engine)


def _shape(model: str, family: str) -> "ModelShape":
    from mixtura.hardware.shapes import shape, stand_in

    try:
        return shape(model)
    except ConfigError:
        found = stand_in(family, usual=True)
        assert found is not None
        return found
