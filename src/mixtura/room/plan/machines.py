"""The servers of a mixture's calls: models on the user's own machines, or a provider with its published speed."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.errors import ConfigError
from mixtura.hardware import chip as chips
from mixtura.hardware.cost import CostRange, joules
from mixtura.hardware.gpu import SteadyLoad
from mixtura.hardware.host import ModelHost, host
from mixtura.hardware.machine import split_machine
from mixtura.hardware.precision import unknown
from mixtura.hardware.serving.arrivals import open_load
from mixtura.hardware.serving.simulator import FleetScheduling, simulate
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.shapes import shape
from mixtura.models.card import ModelCard
from mixtura.models.served import Models
from mixtura.room.plan.work import MixtureWork, Name

Array = NDArray[np.float64]

PUBLISHED_SPREAD = 0.25
"""Standard deviation of the logarithm of a provider's real over its published time. Assumed: recorded speeds of one
model differ by that much from day to day."""
_WAIT = 0.3  # seconds to a provider's first token; also the engine's expectation before it has measurements
_USUAL_SPEED = 100.0  # tokens per second of a model without a published speed; likewise
_BASIS = {"new model": "fitted to other models on it", "new chip": "fitted to other chips"}


class ServedCalls(NamedTuple):
    """The result of serving the calls of one model.

    Attributes:
        ends: seconds at which each call ended, in the order given.
        busy: busy share of the time, mean over the copies; None at a provider.
        in_flight: mean number of calls in flight over time.
    """

    ends: Array
    busy: float | None
    in_flight: float


class ModelServer(Protocol):
    """Serves the calls of one model."""

    @property
    def name(self) -> str:
        """The name shown in tables."""
        ...

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm of real over predicted time."""
        ...

    @property
    def basis(self) -> str:
        """The origin of the times: the measurements of the fit, or published speeds."""
        ...

    def alone(self, prompts: ArrayLike, outputs: ArrayLike) -> Array:
        """Return the seconds of calls on an otherwise empty server."""
        ...

    def serve(
        self, times: Array, prompts: NDArray[np.int64], outputs: NDArray[np.int64], copies: int, slower: float
    ) -> ServedCalls:
        """Serve calls that arrive at `times` (in any order), with all durations `slower` times those predicted."""
        ...

    def reason(self, prompt: float, output: float) -> str:
        """Return a clause that explains the time of a call on an otherwise empty server."""
        ...


class HostedModel:
    """A model on the user's own machines: each call goes to the copy with the fewest calls.

    Attributes:
        host: one copy.
        context: tokens of its longest usual call, prompt and output, for which the host reserves KV cache.
    """

    def __init__(self, host: ModelHost, context: float) -> None:
        self.host, self.context = host, context
        self._step_times = host.step_times(context)

    @property
    def name(self) -> str:
        """The host's name: "8 x h100_sxm, vllm"."""
        return self.host.name

    @property
    def spread(self) -> float:
        """The spread of a decode step, since decoding is most of a call."""
        return float(self.host.decode(1, self.context).spread)

    @property
    def basis(self) -> str:
        """The measurements nearest to this host that the step model was fitted on."""
        if self.host.by is None:
            return "fitted to recorded speeds" if self.host.chip.kind == "lpu" else "fitted to published speeds"
        return _BASIS.get(self.host.by.level, "fitted to this model on it")

    def alone(self, prompts: ArrayLike, outputs: ArrayLike) -> Array:
        """Return the seconds of calls on an empty host."""
        asked, replies = np.asarray(prompts, np.float64), np.asarray(outputs, np.float64)
        step_times = self._step_times
        result = step_times.prompt(asked) + step_times.steps(1, asked + 1, replies - 1) + self.host.delay(asked)
        return np.asarray(result, np.float64)

    def serve(
        self, times: Array, prompts: NDArray[np.int64], outputs: NDArray[np.int64], copies: int, slower: float
    ) -> ServedCalls:
        """Serve calls with the serving simulator, then add the part of each call that blocks no other call."""
        order = np.argsort(times, kind="stable")
        step_times = self._step_times
        if slower != 1.0:
            read = step_times.prefill
            step_times = msgspec.structs.replace(
                step_times,
                base=step_times.base * slower,
                slope=step_times.slope * slower,
                prefill=lambda tokens: slower * np.asarray(read(tokens), np.float64),
            )
        load = open_load(times[order], prompts[order], outputs[order])
        result = simulate(load, step_times, FleetScheduling(replicas=copies))
        ends = np.empty_like(times)
        ends[order] = result.finished
        ends += slower * np.asarray(self.host.delay(prompts), np.float64)
        return ServedCalls(ends, result.utilisation, result.mean_number)

    def seconds_of_work(self, prompt: float, output: float, slower: float = np.inf) -> float:
        """Return the machine time of a call at the best batch; its inverse bounds the calls per second.

        Batches whose step takes more than `slower` times as long as that of a call alone are left out.
        """
        batch = np.arange(1, self._step_times.max_batch + 1)
        step = self._step_times.decode(batch, batch * (prompt + output / 2))
        each = (step / batch)[step <= slower * step[0]]
        return float(self._step_times.prompt(prompt)) + max(0.0, output - 1) * float(each.min())

    def reason(self, prompt: float, output: float) -> str:
        """Return a clause with the time of a call on an empty host and the largest part of its steps."""
        step = self.host.decode(1, prompt + output / 2)
        read = float(self.host.prefill(prompt) + self.host.delay(prompt))
        return (
            f"a call of {self.host.shape.name} alone on {self.name} takes {text_of(read)} to its first token and "
            f"{output - 1:,.0f} steps of {text_of(float(step.seconds))}, most of it for {step.bound}"
        )

    def steady(self, load: SteadyLoad) -> Array:
        """Return the seconds of a call under steady load; vectorised over `load`."""
        more = np.asarray(load.output, np.float64) - 1
        return np.asarray(self.host.first(load).seconds + more * self.host.token(load).seconds, np.float64)

    def hour(self) -> CostRange | None:
        """Return the dollars per hour of one copy; None if its price or power is not known."""
        try:
            return self.host.hour()
        except ConfigError:
            return None

    def watts(self) -> CostRange | None:
        """Return the watts of one copy at full power, including the building's share; None if not known."""
        try:
            return joules(self.host.chip, self.host.chips, 1e6)
        except ConfigError:
            return None


class ProviderModel:
    """A model at its provider, at its published speed. Rate limits are counted separately (`planning/capacity.py`).

    Calls never wait for each other: the provider's load from other customers is not known.
    """

    def __init__(self, model: Name, card: ModelCard) -> None:
        self.provider, self.model = model
        self.card = card
        self.spread = PUBLISHED_SPREAD
        self.basis = "published" if card.speed else "a guess"

    @property
    def name(self) -> str:
        """The provider and its assumed speed."""
        speed = f"{self.card.speed:,.0f} tokens/s" if self.card.speed else f"{_USUAL_SPEED:,.0f} tokens/s, a guess"
        return f"{self.provider}, {speed}"

    def alone(self, prompts: ArrayLike, outputs: ArrayLike) -> Array:
        """Return the seconds of calls: a constant wait, then tokens at the published speed."""
        tokens = np.asarray(outputs, np.float64) + 0 * np.asarray(prompts, np.float64)
        return np.asarray(_WAIT + tokens / (self.card.speed or _USUAL_SPEED), np.float64)

    def serve(
        self, times: Array, prompts: NDArray[np.int64], outputs: NDArray[np.int64], copies: int, slower: float
    ) -> ServedCalls:
        """Serve all calls independently of each other."""
        taken = slower * self.alone(prompts, outputs)
        span = float((times + taken).max() - times.min())
        return ServedCalls(times + taken, None, float(taken.sum()) / span)

    def reason(self, prompt: float, output: float) -> str:
        """Return a clause with the time of a call."""
        speed = self.card.speed or _USUAL_SPEED
        return (
            f"a call of {self.model} at {self.provider} takes {_WAIT:g} s to its first token and {output:,.0f} tokens "
            f"at {speed:,.0f} a second"
        )


class PlacementSpec(NamedTuple):
    """A requested placement: a chip (with count and engine) or a provider, for one model or for all."""

    on: str
    chips: int | None = None
    engine: str | None = None
    model: str | None = None

    @property
    def text(self) -> str:
        """The placement in the form that `read_spec` accepts, without the model."""
        many = f"{self.chips}x" if self.chips is not None else ""
        return f"{many}{self.on}{f'/{self.engine}' if self.engine else ''}"


def read_spec(text: str) -> PlacementSpec:
    """Read "h100", "8xh200", "8xh200/sglang", "groq" or "openai/gpt-oss-120b=8xh200".

    Raises:
        ConfigError: the text has none of these forms.
    """
    model, equals, rest = text.rpartition("=")
    if equals and not model.strip():
        raise ConfigError(f"cannot read {text!r}: name the model before the =, as in MODEL={rest}")
    if rest.strip().startswith(("http://", "https://")):
        return PlacementSpec(rest.strip(), model=model.strip() or None)
    return PlacementSpec(*split_machine(rest), model.strip() or None)


class PlacedModels(NamedTuple):
    """The server of each model, and for models left out the reason."""

    machines: dict[Name, ModelServer]
    left: dict[Name, str]


def place(
    work: MixtureWork,
    specs: Mapping[Name, PlacementSpec],
    models: Models,
    *,
    providers: Mapping[str, object],
    shapes: Mapping[Name, ModelShape] | None = None,
) -> PlacedModels:
    """Return the server of each model of `work`.

    Args:
        work: the mixture's calls, which determine the context that a machine has to hold.
        specs: the placement of each model; a model without one is served by its provider at its published speed.
        models: the source of the models' cards, which hold published speeds.
        providers: all providers by name; a placement with any other name is a chip.
        shapes: shapes that replace or complement those of the catalogue.

    Raises:
        ConfigError: a chip or provider is unknown, or a model does not fit.
    """
    machines: dict[Name, ModelServer] = {}
    left: dict[Name, str] = {}
    for model in work.models:
        spec = specs.get(model)
        if spec is None or spec.on in providers or spec.on.startswith(("http://", "https://")):
            at = model if spec is None else (spec.on, model[1])
            machines[model] = ProviderModel(model if spec is None else at, models.card(*at))
            continue
        found = (shapes or {}).get(model)
        try:
            known = found or shape(model[1])
        except ConfigError as error:
            left[model] = error.message
            continue
        context = _context(work, model)
        on = chips.chip(spec.on)
        machines[model] = HostedModel(host(known, on, spec.chips, engine=spec.engine, context=context), context)
    return PlacedModels(machines, left)


def check_known(spec: PlacementSpec, providers: Mapping[str, object]) -> None:
    """Raise ConfigError, which lists the closest names, if a spec names neither a chip nor a provider."""
    if spec.on in providers or spec.on.startswith(("http://", "https://")):
        return
    try:
        chips.chip(spec.on)
    except ConfigError:
        names = {each.name for each in chips.chips()} | set(providers)
        raise unknown("machine", spec.on, names, hint=" ('mixtura machines' lists them)") from None


def _context(work: MixtureWork, model: Name) -> float:
    """Return the mean tokens, prompt and output, of a model's longest call."""
    return max(sum(work.tokens(call)) for call in work.calls if call.model == model)


def text_of(seconds: float) -> str:
    """Return a time as text, in microseconds, milliseconds or seconds."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"
