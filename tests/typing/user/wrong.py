"""What a type checker must refuse: every line that ends in `# wrong` is an error, and no other line is."""

import mixtura
from mixtura import (
    Aggregator,
    Answer,
    ChatModel,
    ChatRequest,
    Completion,
    Event,
    Layer,
    Message,
    Mixture,
    Models,
    Policy,
    Proposer,
    Recipe,
    Served,
)
from mixtura.events import CallDelta, Decision
from mixtura.sim import SimOptions


async def asking(mixture: Mixture) -> None:
    await mixture.ask(42)  # wrong
    await mixture.ask("Why?", dead_line=3)  # wrong
    await mixture.ask("Why?", priority="now")  # wrong
    await mixture.ask("Why?", watch="everything")  # wrong
    await mixture.ask("Why?", options={"stop": "x"})  # wrong
    mixture.ask("Why?").text  # wrong
    answer = await mixture.ask("Why?")
    answer.txt  # wrong
    answer.text = "Because."  # wrong
    print(answer.cost + 1)  # wrong
    async for event in mixture.stream("Why?"):
        print(event.text)  # wrong
        if isinstance(event, CallDelta):
            event.call.upper()  # wrong
        if isinstance(event, Decision):
            print(event.kind == "voted", event.reasons)  # wrong
            print(event.detail["seconds"])  # wrong


def composing() -> None:
    Mixture(7)  # wrong
    Mixture("fast", listeners=[print, lambda: None])  # wrong
    Mixture("fast", daily_budget="2.50")  # wrong
    Proposer()  # wrong
    Proposer(model="a", temprature=1)  # wrong
    Layer(proposers=("a", "b"))  # wrong
    Aggregator(kind="median", model="a")  # wrong
    Policy(when_limited=("sleep",))  # wrong
    Recipe(layers=[])  # wrong
    Message(role="robot", content="Hello.")  # wrong
    SimOptions(plan="gold")  # wrong
    mixtura.nonsense  # wrong


def listening(event: Event) -> str:
    return event  # wrong


class NoModel:
    def chat(self, request: ChatRequest) -> Completion:
        return Completion(model=request.model, text="")


class NoModels:
    def find(self, provider: str, model: str) -> Served:
        raise NotImplementedError


model: ChatModel = NoModel()  # wrong
models: Models = NoModels()  # wrong
answered: Answer = mixtura.ask("Why?").text  # wrong
