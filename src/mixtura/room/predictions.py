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
    from mixtura.hardware.gpu import SteadyLoad
    from mixtura.hardware.host import ModelHost, host
    from mixtura.hardware.machine import parse_machine
    from mixtura.room.plan.option import DeploymentOption, DeploymentRequest
    from mixtura.room.plan.work import work_of
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "numpy":
        raise
    raise ConfigError("predictions of machines need NumPy: pip install 'mixtura[room]'") from error

_USUAL_CONTEXT = 8192.0  # tokens that a server is set up for, though its calls be shorter; as `host` takes it


def predictions(
    machines: Mapping[str, str | ModelHost] | Mapping[tuple[str, str], str | ModelHost],
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
    load = SteadyLoad(batch, prompt, output)
    found: dict[tuple[str, str], Predicted] = {}
    for named, on in machines.items():
        key = (provider, named) if isinstance(named, str) else named
        found[key] = predict_call(on if isinstance(on, ModelHost) else _host(key[1], on, prompt + output), load)
    return found


def predictions_of_option(
    option: DeploymentOption, request: DeploymentRequest, models: Models
) -> dict[tuple[str, str], Predicted]:
    """Return what calls take on the machines of a planned option, at the load that was planned for.

    Models that are asked at a provider are not among them.

    Raises:
        ConfigError: the option cannot be, so it has no machines.
    """
    if option.problem:
        raise ConfigError(f"nothing is predicted for {option.on}: {option.problem}")
    calls = work_of(request.recipe, models, request.assumed).calls
    prompt = max(1.0, option.prompts / len(calls))
    found: dict[tuple[str, str], Predicted] = {}
    for post in option.posts:
        if post.chips is None:
            continue
        key, spec = (post.provider, post.model), parse_machine(post.machine)
        shape = request.shapes.get(key)
        hosted = host(shape or post.model, spec.chip, spec.chips, engine=spec.engine)
        found[key] = predict_call(
            hosted, SteadyLoad(max(1.0, post.in_flight / post.copies), prompt, request.assumed.output)
        )
    return found


def predict_call(on: ModelHost, load: SteadyLoad) -> Predicted:
    """Return what a call takes on a host under a load; the spread is that of a whole reply."""
    first, token = on.first(load), on.token(load)
    early, each = float(first.seconds), float(token.seconds)
    late = float(load.output) * each  # type: ignore[arg-type]  # one number here
    # What is unknown of either has little to do with the other: their variances add up.
    spread = math.hypot(early * first.spread, late * token.spread) / (early + late)
    return Predicted(first=early, token=each, spread=spread)


def _host(model: str, on: str, context: float) -> ModelHost:
    spec = parse_machine(on)
    return host(model, spec.chip, spec.chips, engine=spec.engine, context=max(context, _USUAL_CONTEXT))
