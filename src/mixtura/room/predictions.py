"""What machines are predicted to take, for the engine: of servers whose hardware is known, before they were asked.

    Mixture(recipe, predicted=predictions({"openai/gpt-oss-120b": "8xh100"}, provider="vllm"))

`mixtura.models.predictions` writes the result as a file, and reads it where NumPy is not installed.
"""

import math
from collections.abc import Mapping

from mixtura.errors import ConfigError
from mixtura.models.card import Predicted
from mixtura.models.served import Models

try:
    from mixtura.hardware.gpu import Load
    from mixtura.hardware.host import Host, host
    from mixtura.hardware.machine import machine
    from mixtura.room.plan.option import Asked, Option
    from mixtura.room.plan.work import work_of
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "numpy":
        raise
    raise ConfigError("predictions of machines need NumPy: pip install 'mixtura[room]'") from error

_USUAL_CONTEXT = 8192.0  # tokens that a server is set up for, though its calls be shorter; as `host` takes it


def predictions(
    machines: Mapping[str, str | Host] | Mapping[tuple[str, str], str | Host],
    *,
    provider: str = "vllm",
    prompt: float = 1000,
    output: float = 400,
    batch: float = 1,
) -> dict[tuple[str, str], Predicted]:
    """Return what calls are predicted to take, by (provider, model).

    Args:
        machines: where each model, or (provider, model), runs: `8xh100`, `8xb200/trtllm` (`mixtura.hardware.machine`),
            or a `Host`, for a model whose shape has another name than its server gives it.
        provider: who serves the models without a provider of their own, as recipes name it.
        prompt: tokens of a usual prompt.
        output: tokens of a usual reply, thinking included.
        batch: sequences in flight on each machine, the call's own included: of three drafts of one model, 3.

    Raises:
        ConfigError: a model, chip or engine that nobody knows, a model that does not fit, or a size that is none.
    """
    sizes = {"prompt": prompt, "output": output, "batch": batch}
    for name, size in sizes.items():
        if not (math.isfinite(size) and size >= 1):
            raise ConfigError(f"predictions: {name} is {size}, expected a number of 1 or more")
    load = Load(batch, prompt, output)
    found: dict[tuple[str, str], Predicted] = {}
    for named, on in machines.items():
        key = (provider, named) if isinstance(named, str) else named
        found[key] = predicted(on if isinstance(on, Host) else _host(key[1], on, prompt + output), load)
    return found


def of_option(option: Option, asked: Asked, models: Models) -> dict[tuple[str, str], Predicted]:
    """Return what calls take on the machines of a planned option, at the load that was planned for.

    Models that are asked at a provider are not among them.

    Raises:
        ConfigError: the option cannot be, so it has no machines.
    """
    if option.problem:
        raise ConfigError(f"nothing is predicted for {option.on}: {option.problem}")
    calls = work_of(asked.recipe, models, asked.assumed).calls
    prompt = max(1.0, option.prompts / len(calls))
    found: dict[tuple[str, str], Predicted] = {}
    for post in option.posts:
        if post.chips is None:
            continue
        key, told = (post.provider, post.model), machine(post.machine)
        shape = asked.shapes.get(key)
        hosted = host(shape or post.model, told.chip, told.chips, engine=told.engine)
        found[key] = predicted(hosted, Load(max(1.0, post.in_flight / post.copies), prompt, asked.assumed.output))
    return found


def predicted(on: Host, load: Load) -> Predicted:
    """Return what a call takes on a host under a load; the spread is that of a whole reply."""
    first, token = on.first(load), on.token(load)
    early, each = float(first.seconds), float(token.seconds)
    late = float(load.output) * each  # type: ignore[arg-type]  # one number here
    # What is unknown of either has little to do with the other: their variances add up.
    spread = math.hypot(early * first.spread, late * token.spread) / (early + late)
    return Predicted(first=early, token=each, spread=spread)


def _host(model: str, on: str, context: float) -> Host:
    told = machine(on)
    return host(model, told.chip, told.chips, engine=told.engine, context=max(context, _USUAL_CONTEXT))
