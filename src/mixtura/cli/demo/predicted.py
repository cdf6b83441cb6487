"""What the simulated cloud takes for runs that were really made: the same calls, replies as long as the real ones."""

from collections import defaultdict
from collections.abc import Sequence

from mixtura.chat import JsonObject
from mixtura.cli.common import today
from mixtura.cli.session import environment
from mixtura.events import Answer, Call
from mixtura.mixture import Mixture
from mixtura.models.recorded import count_tokens
from mixtura.planning.schedule import models_of
from mixtura.recipe import Recipe
from mixtura.sim.options import SimOptions
from mixtura.sim.replies import Reply
from mixtura.virtual import run_virtual

Made = tuple[Recipe, str, Answer]
"""A run that was made: its recipe, the question, the answer."""


def predict(made: Sequence[Made]) -> list[float]:
    """Return the seconds of each run in a simulated Groq cloud of today, in a virtual time that takes none here.

    No rate limit is simulated: what a run waited for room is no prediction of speed.

    Raises:
        MixturaError: a run that was made cannot be made there.
    """
    return [run_virtual(_simulated(*run)) for run in made]


async def _simulated(recipe: Recipe, question: str, answer: Answer) -> float:
    written: dict[str, list[Call]] = defaultdict(list)
    for call in sorted([*answer.drafts, *answer.calls], key=lambda call: call.call):
        written[call.model].append(call)

    def reply(request: JsonObject, _number: int) -> Reply | None:
        calls = written[request["model"]]
        return _as_long(calls.pop(0)) if calls else None

    cloud = SimOptions(
        as_of=today(),
        plan="enterprise",
        unlimited=True,
        profile="lpu",
        reply=reply,
        extra_models=tuple(model for _, model in models_of(recipe)),
    )
    async with environment(cloud) as env:
        return (await Mixture(recipe, env=env).ask(question, watch="answer")).seconds


def _as_long(call: Call) -> Reply:
    """Return the words of `call`, with as much reasoning before them as makes up its tokens."""
    thought = max(0, call.usage.completion_tokens - count_tokens(call.text) - 1)
    return Reply(text=call.text, reasoning=" ".join(["so"] * thought))
