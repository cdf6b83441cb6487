"""Predicted call times of servers whose hardware is known, for the engine to use before it has measured any call.

    Mixture(recipe, predicted=predictions({"openai/gpt-oss-120b": "8xh100"}, provider="vllm"))

`mixtura.models.predictions` writes the result to a file and reads it back, also without NumPy.
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

_USUAL_CONTEXT = 8192.0  # tokens a server is configured for even if its calls are shorter; the default of `host`


def predictions(
    machines: Mapping[str, str | ModelHost] | Mapping[tuple[str, str], str | ModelHost],
    *,
    provider: str = "vllm",
    prompt: float = 1000,
    output: float = 400,
    batch: float = 1,
) -> dict[tuple[str, str], Predicted]:
    """Return the predicted times of calls, by (provider, model).

    Args:
        machines: the machine of each model, or of each (provider, model): `8xh100`, `8xb200/trtllm`
            (`mixtura.hardware.machine`), or a `ModelHost` if the server's name for the model is not in the catalogue.
        provider: the provider of models given without one, by its name in recipes.
        prompt: tokens of a usual prompt.
        output: tokens of a usual reply, reasoning included.
        batch: sequences in flight on each machine, including the call itself: 3 for three drafts of one model.

    Raises:
        ConfigError: a model, chip or engine is unknown, a model does not fit, or a size is below 1.
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
    """Return the predicted times of calls on the machines of a planned option, at the planned load.

    Models served by a provider are left out.

    Raises:
        ConfigError: the option has a problem and therefore no machines.
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
    """Return the predicted times of a call on a host under a load; the spread is that of a whole reply."""
    first, token = on.first(load), on.token(load)
    early, each = float(first.seconds), float(token.seconds)
    late = float(load.output) * each  # type: ignore[arg-type]  # one number here
    # The errors of both times are nearly independent, so their variances add up.
    spread = math.hypot(early * first.spread, late * token.spread) / (early + late)
    return Predicted(first=early, token=each, spread=spread)


def _host(model: str, on: str, context: float) -> ModelHost:
    spec = parse_machine(on)
    return host(model, spec.chip, spec.chips, engine=spec.engine, context=max(context, _USUAL_CONTEXT))
