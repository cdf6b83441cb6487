"""One run's state: its clock, its random numbers, its numbering of calls, and where its events go."""

import asyncio
import random
from collections.abc import Sequence

import msgspec

from mixtura import prompts
from mixtura.answer_format import AnswerFormat, answer_format
from mixtura.chat import NO_OPTIONS, ChatOptions, Message
from mixtura.decisions import Detail, kind_of
from mixtura.engine.allowance import Allowance
from mixtura.engine.repetition import LoopWatch, asked_repeats
from mixtura.events import CallFailed, CallFinished, Decision, Event, Listener, Role
from mixtura.forks import random_generator
from mixtura.limits.account import Account
from mixtura.limits.limiter import Hold
from mixtura.models.served import Models
from mixtura.planning.deadline import queued_calls, seconds_for
from mixtura.planning.options import RunOptions
from mixtura.recipe import Recipe, Slot

# Of runs without a seed: to make one takes longer than all that a run draws from it.
_UNSEEDED = random_generator()
# Of a long question its ends say what is asked.
_ENDS = 4000


class CostMeter:
    """A listener that passes events on and adds up what the calls cost (`dollars`)."""

    def __init__(self, then: Listener) -> None:
        self._then = then
        self.dollars = 0.0

    def __call__(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, CallFinished):
            self.dollars += event.done.cost or 0.0
        elif isinstance(event, CallFailed):
            self.dollars += event.failure.cost or 0.0
        self._then(event)


class Run:
    """The state of one run. Event-loop times are in seconds; the times in events are since `start`.

    Attributes:
        emit: takes every event.
        question: the text of the last user message.
        queued: calls that may have to wait for each other, where that decides on the deadline; else 0.
        hold: the room in rate limits that the run was promised; None where no limits are known.
        hedges: a slow call may be tried a second time.
        silence: the policy limits how long a call may be silent.
        partial: what a stopped draft had written is wanted: there is a quorum, or the caller set a deadline.
        markers: the words that have fenced drafts so far.
        fell_back: the answer is not the one that the recipe meant.
        allowance: what it may still spend besides what was planned; None for any amount.
        declined: why the model of a call did not answer, by the call's number, where the model itself says so.
        authors: who wrote the draft of a call, by the call's number.
        caller_limit: the output limit that the caller set; None where there is none, or a smaller one is sent.
        form: the form that the caller asks of the answer; None for any text.
    """

    __slots__ = (
        *(
            "_asked",
            "_calls",
            "_marker",
            "_plain",
            "_repeats",
            "_time",
            "allowance",
            "authors",
            "caller_limit",
            "conversation",
            "declined",
            "deadline",
            "emit",
            "fell_back",
            "form",
            "hedges",
            "hold",
            "loop",
            "markers",
        ),
        *("models", "options", "queued", "partial", "question", "recipe", "rng", "silence", "start"),
    )

    def __init__(
        self, recipe: Recipe, conversation: Sequence[Message], models: Models, emit: Listener, options: RunOptions
    ) -> None:
        policy = recipe.policy
        self.recipe = recipe
        self.conversation = tuple(conversation)
        self.models = models
        self.options = options
        self.emit = emit
        self.loop = asyncio.get_running_loop()
        self._time = self.loop.time
        self.start = self._time()
        stated = policy.deadline if options.deadline is None else options.deadline
        self.queued = queued_calls(recipe, models, options.chat) if stated == "auto" else 0
        self.deadline = self.start + (seconds_for(self.queued) if stated == "auto" else stated)
        seed = policy.seed if options.seed is None else options.seed
        self.rng = random.Random(seed) if seed is not None else options.rng or _UNSEEDED
        self.question = next((said.text for said in reversed(self.conversation) if said.role == "user"), "")
        self.hold: Hold | None = None
        self.hedges = policy.hedge
        self.silence = policy.first_token is not None or policy.between_tokens is not None
        self.partial = policy.quorum is not None or options.deadline is not None
        self.fell_back = False
        self.allowance: Allowance | None = None
        self.authors: dict[int, Slot] = {}
        chat = options.chat
        self.caller_limit = chat.max_tokens
        self.form: AnswerFormat | None = None if chat is NO_OPTIONS else answer_format(chat.response_format)
        self._asked: str | None = None
        self._plain: tuple[Message, ...] | None = None
        self._calls = 0
        self._marker = ""
        self._repeats: float | None = None
        self.markers: list[str] = []
        self.declined: dict[int, str] = {}

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return self._time() - self.start

    @property
    def allowed_repeats(self) -> float:
        """How often something may be repeated because the question asks for it."""
        if self._repeats is None:
            ends = self.question if len(self.question) <= 2 * _ENDS else self.question[:_ENDS] + self.question[-_ENDS:]
            self._repeats = asked_repeats(ends)
        return self._repeats

    def loop_watch(self) -> LoopWatch:
        """Return what watches a reply for a loop."""
        return LoopWatch(self.allowed_repeats)

    @property
    def asked(self) -> str:
        """What the conversation says, less the answers in it."""
        if self._asked is None:
            self._asked = "\n".join([said.text for said in self.conversation if said.role != "assistant"])
        return self._asked

    @property
    def protected(self) -> bool:
        """Whether calls are hedged, limited in their silence, or used as far as they came."""
        return self.hedges or self.silence or self.partial

    def streams(self, role: Role) -> bool:
        """Say whether calls of `role` are streamed although no reader watches them."""
        return self.silence or (self.partial and role in ("proposer", "escalation"))

    def limit_options(self, chat: ChatOptions) -> None:
        """Ask with the caller's options as a smaller run has them; what they cut off then is not the caller's wish."""
        if chat is self.options.chat:
            return
        if chat.max_tokens != self.options.chat.max_tokens:
            self.caller_limit = None
        self.options = msgspec.structs.replace(self.options, chat=chat)

    def conversation_for(self, options: ChatOptions) -> tuple[Message, ...]:
        """Return the conversation for a call with `options`: turns of tools are text where it is offered no tools."""
        if options.tools:
            return self.conversation
        if self._plain is None:
            turns = any(said.tool_calls or said.role in ("tool", "function") for said in self.conversation)
            self._plain = prompts.without_tool_turns(self.conversation) if turns else self.conversation
        return self._plain

    def decide(self, detail: Detail, reason: str, *, warning: bool = False) -> None:
        """Emit a decision."""
        self.emit(Decision(at=self.now, kind=kind_of(detail), reason=reason, warning=warning, detail=detail))

    def next_call(self) -> int:
        """Return the number of the next call: 0, 1, 2, ..."""
        self._calls += 1
        return self._calls - 1

    def marker(self, texts: Sequence[str]) -> str:
        """Return the word that fences drafts in this run; neither `texts` nor the question contain it."""
        while not self._marker or self._marker in self.question or any(self._marker in text for text in texts):
            self._marker = f"m{self.rng.getrandbits(48):012x}"
        if self._marker not in self.markers:
            self.markers.append(self._marker)
        return self._marker

    def account(self, provider: str, model: str) -> Account | None:
        """Return where calls of a model are counted, None when nowhere."""
        accounting = self.models.find(provider, model).accounting
        return None if accounting is None else accounting.account(accounting.limiter())

    def until(self, stages: Sequence[float]) -> float:
        """Return when the present stage must be over, for the rest to have their share of what is left.

        Args:
            stages: how long each stage to come is expected to take, the present one first (seconds, any scale).
        """
        now = self.loop.time()
        if len(stages) < 2:
            return self.deadline
        # No stage gets less than half of an even share: what was measured is a guess about what comes. Calls that took
        # no time that a clock can tell get even shares.
        least = sum(stages) / len(stages) / 2 or 1.0
        weights = [max(seconds, least) for seconds in stages]
        return now + (self.deadline - now) * weights[0] / sum(weights)
