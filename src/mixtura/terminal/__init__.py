"""The live view of a run on a terminal: a listener of events, and nothing else.

While drafts are written, a small region of one line per call is redrawn in place. When the answer begins the
region freezes into one plain line per call, the answer follows as ordinary text that scrolls, and the run ends
in one line of times, tokens and dollars. A run that waits for its rate limits says so while it does. Where the
cursor cannot be moved only the finished lines are written.
"""

from collections.abc import Callable
from typing import TextIO

from mixtura.columns import cut, cut_front, display_width, one_line, safe, wrap
from mixtura.decisions import HedgedDetail, WaitedDetail
from mixtura.events import (
    Answer,
    AnswerDelta,
    AnswerFinished,
    AnswerRestarted,
    CallDelta,
    CallFailed,
    CallFinished,
    CallStarted,
    Decision,
    Draft,
    Event,
    RunFinished,
)
from mixtura.folding import Fold
from mixtura.safe_output import write_commands
from mixtura.terminal.row import TAIL, Row
from mixtura.terminal.screen import Screen, screen_of
from mixtura.terminal.word_wrap import WordWrap

__all__ = ["Screen", "TerminalView", "screen_of", "summary"]

_FRAME = 0.06  # seconds between two drawings of the region
_MARGIN = 3  # columns left free at the right edge: an echoed ^C must not wrap a line of the region
_COLOURS = {"ok": "32", "failed": "31", "dropped": "33", "cut": "33", "dim": "2", "warning": "33"}


class TerminalView:
    """Shows a run as it goes; `add` is a listener.

    Args:
        status: where lines about the run go (stderr).
        answer: a terminal that the answer is streamed to; None when the caller writes the answer itself.
        screen: what `status` can do.
        drafts: write every draft out, not only its one line.
    """

    def __init__(
        self, status: TextIO, answer: TextIO | None, *, screen: Screen | None = None, drafts: bool = False
    ) -> None:
        self._status, self._answer = status, answer
        self._screen = screen or Screen()
        self._drafts = drafts
        self._rows: dict[int, Row] = {}
        self._drawn: list[int] = []  # the widths of the lines now standing in the region
        self._drawn_at = float("-inf")
        self._written: list[str] = []  # the answer's pieces on the screen
        self._at_margin = True
        live = self._screen.live and answer is not None and answer.isatty()
        self._words = WordWrap(lambda: self._screen.size().columns) if live else None
        self._decisions: list[Decision] = []
        self._waiting: Decision | None = None
        self._drafts_done = 0
        self._hedged = ""  # the model that is about to be asked a second time
        self._longest = 0  # columns of the longest name so far
        self._fold = Fold()

    def add(self, event: Event) -> None:
        """Take the next event of the run and show what is new."""
        self._fold.add(event)
        if isinstance(event, AnswerDelta):
            self._answer_piece(event)
        elif isinstance(event, CallDelta):
            if row := self._rows.get(event.call):
                row.write(event.text, event.reasoning)
                self.tick(event.at)
        elif isinstance(event, CallStarted):
            self._started(event)
        elif isinstance(event, CallFinished):
            self._finished(event)
        elif isinstance(event, CallFailed):
            self._failed(event)
        elif isinstance(event, Decision):
            self._decided(event)
        elif isinstance(event, AnswerRestarted):
            self._restarted()
        elif isinstance(event, AnswerFinished):
            self._answer_done(self._fold.text)
        elif isinstance(event, RunFinished):
            self._close(event)

    def tick(self, at: float) -> None:
        """Redraw the region if it is due; `at` is seconds since the run began."""
        if self._screen.live and (self._rows or self._waiting) and at - self._drawn_at >= _FRAME:
            self._draw(at)

    def stop(self) -> None:
        """Leave the screen tidy after a run that ended without its last event (cancelled, an error)."""
        if self._screen.live:
            for row in self._rows.values():
                if row.state == "running":
                    row.state, row.reason = "dropped", "stopped"
            self._freeze(lambda row: True)
        self._end_answer_line()

    def _decided(self, event: Decision) -> None:
        if event.kind in ("reduced", "routed"):
            # What is asked is not what the recipe says: a reader of the lines below should know it now.
            self._say(f"! {one_line(event.reason)}", "warning")
        elif event.kind == "noticed" and not event.warning and not self._rows:
            # It is about the whole run, and of use while it lasts.
            self._say(f"- {one_line(event.reason)}", "dim")
        elif event.kind != "waited":
            self._decisions.append(event)
            if isinstance(event.detail, HedgedDetail):
                self._hedged = one_line(event.detail.model)
        elif self._screen.live:
            self._waiting = event
            self._draw(event.at)
        else:
            self._say(f"- {_wait(event, event.at)}", "dim")

    def _waited(self, at: float) -> None:
        """Say how long the run has waited for room, now that it goes on."""
        if self._waiting is not None:
            self._erase()
            self._say(f"- {_wait(self._waiting, at, over=True)}", "dim")
            self._waiting = None

    def _started(self, event: CallStarted) -> None:
        self._waited(event.at)
        stage = (event.role, event.layer)
        if all(row.state != "running" and (row.role, row.layer) != stage for row in self._rows.values()):
            self._freeze(lambda row: True)
        model = one_line(event.model)
        again = bool(self._hedged) and model == self._hedged
        self._hedged = "" if again else self._hedged
        read = self._drafts_done if event.role == "aggregator" else 0
        row = Row(role=event.role, model=model, layer=event.layer, started=event.at, again=again, read=read)
        self._rows[event.call] = row
        self._longest = max(self._longest, display_width(row.name))
        self._draw(event.at)

    def _finished(self, event: CallFinished) -> None:
        row = self._rows.get(event.done.call)
        if row is None:
            return
        row.state, row.seconds = "ok", event.at - row.started
        row.tokens, row.estimated = event.done.usage.completion_tokens, event.done.usage.estimated
        row.tail, row.thinking = event.done.text[-TAIL:], False
        row.draft = event.done if isinstance(event.done, Draft) else None
        self._drafts_done += row.draft is not None
        if row.draft is not None and row.draft.incomplete:
            row.state, row.reason = "cut", one_line(row.draft.incomplete)
        self._ended(event.at)

    def _failed(self, event: CallFailed) -> None:
        row = self._rows.get(event.failure.call)
        if row is None:
            return
        row.state = "dropped" if event.failure.kind == "abandoned" else "failed"
        row.seconds, row.reason = event.at - row.started, one_line(event.failure.reason)
        self._ended(event.at)

    def _ended(self, at: float) -> None:
        if self._screen.live:
            self._draw(at)
        elif not self._written:
            # A failure waits: when the run fails with it, the error says the same.
            self._freeze(lambda row: row.state in ("ok", "cut"))

    def _answer_piece(self, event: AnswerDelta) -> None:
        if event.text and self._answer is not None:
            if not self._written:
                self._open_answer()
            self._write_answer(event.text)
            return
        for row in self._rows.values():
            if row.role == "aggregator" and row.state == "running":
                row.write(event.text, event.reasoning)
        self.tick(event.at)

    def _open_answer(self) -> None:
        """Make room for the answer: rows that end while it is written have their lines below it."""
        self._freeze(lambda row: row.state != "running")
        self._erase()
        if self._screen.live and self._rows:
            write_commands(self._status, "\n")

    def _write_answer(self, text: str) -> None:
        if self._answer is None or not text:
            return
        self._written.append(text)
        shown = safe(text)
        self._answer.write(shown if self._words is None else self._words.add(shown))
        self._answer.flush()
        self._at_margin = shown.endswith("\n") if shown else self._at_margin

    def _restarted(self) -> None:
        if not self._written:
            return
        self._end_answer_line()
        why = one_line(self._decisions.pop().reason) if self._decisions else "the answer begins anew"
        self._say(f"! {why}; the text above does not count, this does:", "warning")
        self._written.clear()

    def _answer_done(self, text: str) -> None:
        if self._answer is None:
            return
        if not self._written:
            self._open_answer()
        shown = "".join(self._written)
        if not text.startswith(shown):
            self._end_answer_line()
            self._say("! the text above was changed; the answer is:", "warning")
            shown = ""
        self._write_answer(text[len(shown) :])

    def _end_answer_line(self) -> None:
        if self._words is not None and self._answer is not None:
            self._answer.write(self._words.end())
            self._answer.flush()
        if not self._at_margin and self._answer is not None:
            self._answer.write("\n")
            self._answer.flush()
            self._at_margin = True

    def _close(self, event: RunFinished) -> None:
        self._waited(event.at)
        self._end_answer_line()
        if self._written and self._status.isatty():
            self._status.write("\n")  # what is said about the run is no part of the answer
        answer = self._fold.answer()
        if event.status == "failed" and len({failure.reason for failure in answer.failures}) == 1:
            self._erase()
            self._rows = {call: row for call, row in self._rows.items() if row.state == "ok"}
        self._freeze(lambda row: True)
        for said in self._decisions:
            self._say(f"{'!' if said.warning else '-'} {one_line(said.reason)}", "warning" * said.warning or "dim")
        if answer.n_calls:
            self._say(summary(answer, self._screen.size().columns), "dim")

    def _freeze(self, which: Callable[[Row], bool]) -> None:
        """Write the final lines of the rows that `which` picks; they leave the region."""
        self._erase()
        rows = [(call, row) for call, row in self._rows.items() if which(row)]
        names = self._name_width()
        for call, row in rows:
            del self._rows[call]
            if row.role == "aggregator" and row.state != "failed":
                continue
            line = self._line(row, names, self._screen.size().columns - 1, final=True)
            self._say(*line)
            if self._drafts and row.draft is not None and not self._written:
                end = f"\n[incomplete: {row.reason}]" if row.state == "cut" else ""
                self._status.write(f"{safe(row.draft.text).rstrip()}{end}\n\n")
        self._status.flush()

    def _erase(self) -> None:
        if self._drawn:
            # Line by line: some terminals keep a copy in their history of what "erase below" clears at the top.
            write_commands(self._status, "\r\x1b[2K" + "\x1b[1A\x1b[2K" * (self._rows_drawn() - 1))
            self._status.flush()
            self._drawn.clear()

    def _rows_drawn(self) -> int:
        """Return how many rows the region takes now, where a narrowed window may have wrapped its lines."""
        columns = self._screen.size().columns
        return sum(max(1, -(-width // columns)) for width in self._drawn)

    def _draw(self, at: float) -> None:
        if not self._screen.live or self._written or not (self._rows or self._waiting):
            return
        self._drawn_at = at
        size = self._screen.size()
        for row in self._rows.values():
            if row.state == "running":
                row.seconds = at - row.started
        rows, rest = self._visible(max(1, size.lines - 2))
        names = self._name_width()
        lines = [self._line(row, names, size.columns - _MARGIN, final=False) for row in rows]
        if rest:
            lines.append((cut(rest, size.columns - _MARGIN), "dim"))
        if self._waiting is not None:
            lines.append((cut(_wait(self._waiting, at), size.columns - _MARGIN), "dim"))
        up = self._rows_drawn() - 1
        text = "\r" + (f"\x1b[{up}A" if up > 0 else "")
        text += "\n".join(f"{self._paint(line, look)}\x1b[K" for line, look in lines) + "\x1b[J"
        write_commands(self._status, text)
        self._status.flush()
        self._drawn = [display_width(line) for line, _ in lines]

    def _visible(self, most: int) -> tuple[list[Row], str]:
        """Return the rows that fit and, when some do not, a line about those; running ones go first."""
        rows = list(self._rows.values())
        if len(rows) <= most:
            return rows, ""
        order = sorted(range(len(rows)), key=lambda place: rows[place].state != "running")
        kept = sorted(order[: most - 1])
        hidden = [rows[place] for place in range(len(rows)) if place not in kept]
        counts = {state: sum(row.state == state for row in hidden) for state in ("running", "ok", "failed")}
        said = ", ".join(f"{count} {'done' if state == 'ok' else state}" for state, count in counts.items() if count)
        return [rows[place] for place in kept], f"  and {len(hidden)} more: {said or 'dropped'}"

    def _name_width(self) -> int:
        return min(self._longest, max(10, self._screen.size().columns // 3))

    def _line(self, row: Row, names: int, width: int, *, final: bool) -> tuple[str, str]:
        """Return a row as one line of at most `width` columns, and its look. A final failure is not cut."""
        marks = {"ok": "+", "failed": "x", "cut": "~"}
        if self._screen.symbols:
            marks = {"running": "○", "ok": "✓", "failed": "✗", "cut": "◐"}
        name = row.name
        if display_width(name) > names and "/" in name:
            name = name.rpartition("/")[2]
        name = cut(name, names)
        head = f"{marks.get(row.state, '-')} {name}{' ' * (names - display_width(name))} {row.seconds:5.1f}s "
        look = row.state if row.state in _COLOURS else ""
        if row.state in ("failed", "dropped"):
            return (f"{head} {row.reason}" if final else cut(f"{head} {row.reason}", width)), look
        head += f"{('~' if row.estimated else '') + str(row.tokens):>6}{' tok' if width >= 60 else ''}  "
        room = width - display_width(head)
        if row.state == "running" and not row.tail:
            tail = cut(row.awaited, room)
        elif row.state == "running":
            tail = cut_front("thinking: " * row.thinking + one_line(row.tail), room)
        elif row.state == "cut":
            tail = cut(f"incomplete: {row.reason}", room)
        elif row.draft is not None and row.draft.choice:
            tail = cut(f"= {one_line(row.draft.choice)}", room)
        else:
            # Behind an answer that has just been written, its own beginning would say nothing.
            shown = "" if self._written else row.draft.text[:TAIL] if row.draft else row.tail
            tail = cut(one_line(shown), room)
        return cut(head + tail, width).rstrip(), look

    def _say(self, line: str, look: str = "") -> None:
        if not self._screen.symbols:
            line = line.replace("…", "...").replace(" · ", " | ").encode("ascii", "replace").decode()
        if self._screen.live:
            line = wrap(line, self._screen.size().columns - 1)
        write_commands(self._status, self._paint(line, look) + "\n")
        self._status.flush()

    def _paint(self, line: str, look: str) -> str:
        """Colour the mark of a line, or the whole of a dim one; the line itself commands nothing."""
        line = safe(line)
        code = _COLOURS.get(look)
        if not self._screen.colour or code is None:
            return line
        return f"\x1b[{code}m{line}\x1b[0m" if look == "dim" else f"\x1b[{code}m{line[:1]}\x1b[0m{line[1:]}"


def _wait(said: Decision, at: float, *, over: bool = False) -> str:
    """Return in words that a run waits for room at `at`, or, when that is over, how long it did."""
    detail = said.detail if isinstance(said.detail, WaitedDetail) else WaitedDetail()
    window, passed = one_line(detail.window), at - said.at
    if over:
        return f"waited {passed:.1f} s for room" + f" in {window}" * bool(window)
    if not window:
        return one_line(said.reason)
    return f"waiting about {max(0.0, detail.seconds - passed):.0f} s for room in {window}"


def summary(answer: Answer, width: int = 80) -> str:
    """Return the one line a run ends with: seconds, calls, tokens, dollars; shorter where `width` is small.

    `~` marks tokens that were estimated, `+` a cost that leaves out models without a known price; "charged" is said of
    what providers say they charged, with the estimate by the catalogue's prices beside it.
    """
    usage, about = answer.usage, "~" * answer.usage.estimated
    calls = f"{answer.n_calls} call" + "s" * (answer.n_calls != 1)
    if answer.failures:
        calls += f" + {len(answer.failures)} failed"
    cost = "no price known" if answer.cost is None else f"${answer.cost:.6f}" + "+" * bool(answer.unpriced)
    if answer.charged is not None:
        cost += " charged" if answer.charged == answer.cost else f", ${answer.charged:.6f} of it charged"
    estimate = "" if answer.estimate is None else f" (estimated ${answer.estimate:.6f})"
    first = [f"{answer.seconds:.1f}s", calls]
    last = [] if answer.status != "partial" else ["partial"]
    tokens = f"{about}{usage.prompt_tokens:,} in + {about}{usage.completion_tokens:,} out tokens"
    line = " · ".join([*first, tokens, cost + estimate, *last])
    if len(line) >= width:
        line = " · ".join([*first, f"{about}{usage.total_tokens:,} tok", cost, *last])
    return line
