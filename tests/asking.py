"""A recipe asked of a simulated cloud, over real HTTP, in virtual time: what the fixture `world` does."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from mixtura import Answer, Event, MixturaError, Mixture, Recipe, fold
from mixtura.chat import JsonObject
from mixtura.mixture import Question
from mixtura.sim import Reply, SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual

LLAMA, GEMMA, SEVENTY = "llama-3.1-8b-instant", "gemma2-9b-it", "llama-3.3-70b-versatile"


class Ran(NamedTuple):
    """What came of one question: its events (when watched), answer, error, and the cloud as it was left."""

    events: list[Event]
    answer: Answer
    error: MixturaError | None
    cloud: SimulatedCloud
    seconds: float

    @property
    def kinds(self) -> list[str]:
        """The kinds of the decisions, in order."""
        return [said.kind for said in self.answer.decisions]

    def prompts(self, model: str) -> list[list[JsonObject]]:
        """The messages of every call of `model` that the cloud received."""
        return [body["messages"] for body in self.cloud.requests if body["model"] == model]


Reacts = Callable[[JsonObject, int], Reply | str | None]


def by_model(**texts: str) -> Reacts:
    """Reply by the model's name: llama, gemma, seventy; each draft of llama gets its number for {n}."""
    names: dict[str, str] = {LLAMA: "llama", GEMMA: "gemma", SEVENTY: "seventy"}
    seen = dict.fromkeys(names, 0)

    def reply(request: JsonObject, _call: int) -> str | None:
        model = request["model"]
        seen[model] = seen.get(model, 0) + 1
        text = texts.get(names.get(model, str(model)))
        return None if text is None else text.replace("{n}", str(seen[model]))

    return reply


async def ask(mixture: Mixture, cloud: SimulatedCloud, question: Question, watched: bool, **options: Any) -> Ran:
    """Ask in the running loop, streamed when watched, and gather everything there is to know."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    events: list[Event] = []
    answer: Answer | None = None
    error: MixturaError | None = None
    try:
        if watched:
            async for event in mixture.stream(question, **options):
                events.append(event)  # noqa: PERF401  # what came before an error has to be kept
        else:
            answer = await mixture.ask(question, **options)
    except MixturaError as problem:
        error = problem
        answer = getattr(problem, "answer", None)
    seconds = loop.time() - begun
    await asyncio.sleep(0.2)  # what was cancelled reaches the server
    return Ran(events, answer or fold(events), error, cloud, seconds)


class World:
    """The fixture `world`: calls a recipe in a world of its own."""

    LLAMA, GEMMA, SEVENTY = LLAMA, GEMMA, SEVENTY
    by_model = staticmethod(by_model)

    def __call__(
        self,
        recipe: str | Recipe = "classic",
        question: Question = "Which index suits heavy writes?",
        *,
        sim: SimOptions | None = None,
        reply: Reacts | None = None,
        faults: str = "",
        watched: bool = True,
        **options: Any,
    ) -> Ran:
        """Ask `question` of `recipe`; `reply` and `faults` are what the cloud's models do."""
        told = sim or SimOptions(unlimited=True, reply=reply or by_model(llama="Draft {n}.", gemma="Another."))
        if reply is not None or faults:
            told = SimOptions(
                unlimited=True,
                reply=reply or told.reply,
                faults=faults,
                profile="fixed:0.1",
            )

        async def main() -> Ran:
            async with simulated_cloud(told) as cloud:
                env = {"GROQ_API_KEY": "gsk_test_secret", "GROQ_BASE_URL": cloud.url}
                return await ask(Mixture(recipe, env=env), cloud, question, watched, **options)

        return run_virtual(main())
