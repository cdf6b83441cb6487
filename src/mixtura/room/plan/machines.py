"""Who serves the calls of a mixture: a model on machines of one's own, or a provider as it publishes itself."""

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
_WAIT = 0.3  # seconds to a provider's first token; as the engine expects it before anything is measured
_USUAL_SPEED = 100.0  # tokens a second of a model whose speed nobody publishes; likewise
_BASIS = {"new model": "fitted to other models on it", "new chip": "fitted to other chips"}


class ServedCalls(NamedTuple):
    """What became of the calls of one model.

    Attributes:
        ends: seconds at which each call ended, in the order given.
        busy: share of the time in which a machine did something, mean over the copies; None at a provider.
        in_flight: calls present, mean over time.
    """

    ends: Array
    busy: float | None
    in_flight: float


class ModelServer(Protocol):
    """What serves one model."""

    @property
    def name(self) -> str:
        """How a table calls it."""
        ...

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm of real over predicted time."""
        ...

    @property
    def basis(self) -> str:
        """What the times rest on: measured points of what, or what is published."""
        ...

    def alone(self, prompts: ArrayLike, outputs: ArrayLike) -> Array:
        """Return the seconds of calls that have the machine to themselves."""
        ...

    def serve(
        self, times: Array, prompts: NDArray[np.int64], outputs: NDArray[np.int64], copies: int, slower: float
    ) -> ServedCalls:
        """Serve calls that come at `times` (any order); all times are `slower` times those predicted."""
        ...

    def reason(self, prompt: float, output: float) -> str:
        """Say in words what a call takes when it is alone."""
        ...


class HostedModel:
    """A model on machines of one's own: `copies` of a host share its calls, each to the least busy copy.

    Attributes:
        host: one copy.
        context: tokens of its longest usual call, prompt and output: what KV cache is set aside for.
    """

    def __init__(self, host: ModelHost, context: float) -> None:
        self.host, self.context = host, context
        self._step_times = host.step_times(context)

    @property
    def name(self) -> str:
        """As the host calls itself: "8 x h100_sxm, vllm"."""
        return self.host.name

    @property
    def spread(self) -> float:
        """That of a decode step, which is most of a call."""
        return float(self.host.decode(1, self.context).spread)

    @property
    def basis(self) -> str:
        """What the step model was fitted on, the nearest first."""
        if self.host.by is None:
            return "fitted to recorded speeds" if self.host.chip.kind == "lpu" else "fitted to published speeds"
        return _BASIS.get(self.host.by.level, "fitted to this model on it")

    def alone(self, prompts: ArrayLike, outputs: ArrayLike) -> Array:
        """Return the seconds of calls on an empty machine."""
        asked, replies = np.asarray(prompts, np.float64), np.asarray(outputs, np.float64)
        step_times = self._step_times
        result = step_times.prompt(asked) + step_times.steps(1, asked + 1, replies - 1) + self.host.delay(asked)
        return np.asarray(result, np.float64)

    def serve(
        self, times: Array, prompts: NDArray[np.int64], outputs: NDArray[np.int64], copies: int, slower: float
    ) -> ServedCalls:
        """Serve calls by the serving simulator; what a machine may do beside other calls is added at the end."""
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
        """Return the machine time that a call needs at the best batch: its inverse bounds calls a second.

        `slower` leaves out batches whose step takes more than so many times that of a call alone.
        """
        batch = np.arange(1, self._step_times.max_batch + 1)
        step = self._step_times.decode(batch, batch * (prompt + output / 2))
        each = (step / batch)[step <= slower * step[0]]
        return float(self._step_times.prompt(prompt)) + max(0.0, output - 1) * float(each.min())

    def reason(self, prompt: float, output: float) -> str:
        """Say what a call takes when it is alone, and what bounds its steps."""
        step = self.host.decode(1, prompt + output / 2)
        read = float(self.host.prefill(prompt) + self.host.delay(prompt))
        return (
            f"a call of {self.host.shape.name} alone on {self.name} takes {text_of(read)} to its first token and "
            f"{output - 1:,.0f} steps of {text_of(float(step.seconds))}, most of it for {step.bound}"
        )

    def steady(self, load: SteadyLoad) -> Array:
        """Return the seconds that a call takes under steady load; vectorised as `load`."""
        more = np.asarray(load.output, np.float64) - 1
        return np.asarray(self.host.first(load).seconds + more * self.host.token(load).seconds, np.float64)

    def hour(self) -> CostRange | None:
        """Return the dollars an hour of one copy; None where no price or power is known."""
        try:
            return self.host.hour()
        except ConfigError:
            return None

    def watts(self) -> CostRange | None:
        """Return the watts of one copy at full power, its building's share included; None where not known."""
        try:
            return joules(self.host.chip, self.host.chips, 1e6)
        except ConfigError:
            return None


class ProviderModel:
    """A model at its provider, as fast as published. Rate limits are counted apart (`planning/capacity.py`).

    It is never busy: how many others ask it is the provider's affair and not known.
    """

    def __init__(self, model: Name, card: ModelCard) -> None:
        self.provider, self.model = model
        self.card = card
        self.spread = PUBLISHED_SPREAD
        self.basis = "published" if card.speed else "a guess"

    @property
    def name(self) -> str:
        """The provider and what it is taken for."""
        speed = f"{self.card.speed:,.0f} tokens/s" if self.card.speed else f"{_USUAL_SPEED:,.0f} tokens/s, a guess"
        return f"{self.provider}, {speed}"

    def alone(self, prompts: ArrayLike, outputs: ArrayLike) -> Array:
        """Return the seconds of calls: a wait, and tokens at the published speed."""
        tokens = np.asarray(outputs, np.float64) + 0 * np.asarray(prompts, np.float64)
        return np.asarray(_WAIT + tokens / (self.card.speed or _USUAL_SPEED), np.float64)

    def serve(
        self, times: Array, prompts: NDArray[np.int64], outputs: NDArray[np.int64], copies: int, slower: float
    ) -> ServedCalls:
        """Serve calls, each as if it were alone."""
        taken = slower * self.alone(prompts, outputs)
        span = float((times + taken).max() - times.min())
        return ServedCalls(times + taken, None, float(taken.sum()) / span)

    def reason(self, prompt: float, output: float) -> str:
        """Say what a call takes."""
        speed = self.card.speed or _USUAL_SPEED
        return (
            f"a call of {self.model} at {self.provider} takes {_WAIT:g} s to its first token and {output:,.0f} tokens "
            f"at {speed:,.0f} a second"
        )


class PlacementSpec(NamedTuple):
    """Where somebody wants models served: a chip (with how many, and the engine) or a provider; of one model or all."""

    on: str
    chips: int | None = None
    engine: str | None = None
    model: str | None = None

    @property
    def text(self) -> str:
        """As it would be written, without the model."""
        many = f"{self.chips}x" if self.chips is not None else ""
        return f"{many}{self.on}{f'/{self.engine}' if self.engine else ''}"


def read_spec(text: str) -> PlacementSpec:
    """Read "h100", "8xh200", "8xh200/sglang", "groq" or "openai/gpt-oss-120b=8xh200".

    Raises:
        ConfigError: it is none of these.
    """
    model, equals, rest = text.rpartition("=")
    if equals and not model.strip():
        raise ConfigError(f"cannot read {text!r}: say whose machine it is, as in MODEL={rest}")
    if rest.strip().startswith(("http://", "https://")):
        return PlacementSpec(rest.strip(), model=model.strip() or None)
    return PlacementSpec(*split_machine(rest), model.strip() or None)


class PlacedModels(NamedTuple):
    """Each model's machine, and why those that are left out are."""

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
    """Return the machine of each model of `work`.

    Args:
        work: whose calls say how much context a machine has to hold.
        specs: where each model is to be; a model without one is asked at its provider as published.
        models: whose cards say how fast that is.
        providers: what is no chip, by name.
        shapes: of models that the catalogue of shapes does not know, or not rightly.

    Raises:
        ConfigError: an unknown chip or provider, or a model that does not fit.
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
    """Raise ConfigError, with the nearest names, when a spec names neither a chip nor a provider."""
    if spec.on in providers or spec.on.startswith(("http://", "https://")):
        return
    try:
        chips.chip(spec.on)
    except ConfigError:
        names = {each.name for each in chips.chips()} | set(providers)
        raise unknown("machine", spec.on, names, hint=" ('mixtura machines' lists them)") from None


def _context(work: MixtureWork, model: Name) -> float:
    """Return the tokens of a model's longest usual call at its end."""
    return max(sum(work.tokens(call)) for call in work.calls if call.model == model)


def text_of(seconds: float) -> str:
    """Return a time as text, in the unit that suits it."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"
