"""How far one call has come: what the wrappers of its model report (`chat.CallContext`), and what it has written."""

from collections.abc import Callable

from mixtura.chat import Delta, OnAnswered, PartialReader, SharedCall, Usage
from mixtura.engine.allowance import CallTab
from mixtura.engine.repetition import LoopWatch
from mixtura.limits.limiter import Hold
from mixtura.models.place import ANYWHERE, Place


class Progress:
    """One call while it is under way.

    Attributes:
        provider, model: whom it asks at present: the slot's model, a fall-back or a substitute.
        pieces: pieces with text or reasoning in them that have come of the present attempt; Groq sends one for each
            token.
        last: event-loop time of the latest piece.
        since: event-loop time at which the present attempt was sent; None while it waits for room or a next attempt.
        wasted: what attempts that failed will be billed; None for nothing.
        tab: what its attempts are billed, None where nobody limits what the run may cost.
        on_begin: called whenever an attempt is sent.
        on_answered: see `chat.CallContext`.
        place: where the present attempt is served.
        shared: what is known of it among the other calls there; None where calls do not queue, or while none is out.
        streamed: its reply is asked for as a stream.
        partial: the reply is not watched, but what has come of it may be used; see `chat.CallContext`.
        watch_loops: makes what watches it for repetition without end, when the first piece comes: `loops`.
        on_loop: called when it is in a loop.
    """

    # A call that is neither watched nor stopped needs none of these, so they are made when they are needed.
    pieces = 0
    last = 0.0
    since: float | None = None
    wasted: Usage | None = None
    tab: CallTab | None = None
    on_begin: Callable[[], None] | None = None
    on_loop: Callable[[], None] | None = None
    watch_loops: Callable[[], LoopWatch] | None = None
    loops: LoopWatch | None = None
    on_answered: OnAnswered | None = None
    partial = streamed = False
    place: Place = ANYWHERE
    shared: SharedCall | None = None
    _reader: PartialReader | None = None

    def __init__(self, provider: str, model: str, hold: Hold | None = None, *, held: bool = True) -> None:
        self.provider, self.model = provider, model
        self._hold = hold
        self._held = held
        self._text: list[str] | None = None
        self._reasoning: list[str] | None = None

    @property
    def text(self) -> str:
        """The answer text so far."""
        return "".join(self._text or ())

    @property
    def reasoning(self) -> str:
        """The reasoning so far."""
        return "".join(self._reasoning or ())

    def take(self, delta: Delta, now: float) -> None:
        """Take the next piece."""
        self.pieces += delta.pieces
        self.last = now
        if self._text is None or self._reasoning is None:
            self._text, self._reasoning = [], []
            if self.loops is None and self.watch_loops is not None:
                self.loops = self.watch_loops()
        if delta.text:
            self._text.append(delta.text)
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
        if self.loops is not None and self.loops.take(delta) is not None and self.on_loop is not None:
            self.on_loop()

    def catch_up(self) -> None:
        """Take the pieces that have come and that nobody has read yet."""
        if self._reader is not None:
            for at, delta in self._reader.read():
                self.take(delta, at)

    def detach(self) -> None:
        """Let go of the reader: the reply is whole. A call and its reply would else keep each other in memory."""
        self._reader = None

    # What follows is `chat.CallContext`.

    def attach(self, reader: PartialReader) -> None:
        """Take the reader of a new attempt; what an earlier one had written is lost."""
        self._reader = reader
        self._text = self._reasoning = None
        self.pieces = 0
        if self.loops is not None:
            self.loops.begin()

    def look(self) -> None:
        """Take what has come, so that a loop in it is found before the reply is over."""
        self.catch_up()

    def expect_whole(self) -> None:
        """Note that the reply of this attempt comes in one piece."""
        self.streamed = False
        if self.shared is not None:
            self.shared.streamed = False

    def draw(self, account: str, tokens: int) -> str:
        """Return the id of the run's hold for the first attempt; the rest of the hold is for other calls."""
        hold, held = self._hold, self._held
        self._held = False
        if hold is None:
            return ""
        if held:
            return hold.id
        hold.pay(account, tokens)
        return ""

    def begin(self, now: float) -> None:
        """Note that an attempt is sent.

        What an earlier one wrote may still be used, and `wasted` has what it took: its pieces are not this one's.
        """
        self.catch_up()
        self._reader = None
        self.pieces = 0
        self.since = now
        if self.on_begin is not None:
            self.on_begin()

    def pause(self) -> None:
        """Note that the attempt failed."""
        self.since = None

    def share(self, call: SharedCall | None) -> None:
        """Take what is known of this attempt among the other calls at its server."""
        self.shared = call

    def waste(self, usage: Usage | None) -> None:
        """Note what a failed attempt will be billed, None where nobody knows."""
        if usage is not None:
            self.wasted = usage if self.wasted is None else self.wasted + usage
        if self.tab is not None:
            self.tab.waste(usage)

    def refuse_repeat(self) -> str:
        """Return why no further attempt may be made, "" if one may."""
        return "" if self.tab is None else self.tab.refusal()
