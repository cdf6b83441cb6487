"""The live view, watched by a small terminal that does what its escapes say."""

import io
import os
import re
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura import Recipe
from mixtura.chat import Usage
from mixtura.columns import cut, cut_front, display_width, one_line, safe
from mixtura.decisions import (
    DecisionKind,
    FellBackDetail,
    HedgedDetail,
    ReducedDetail,
    RoutedDetail,
    VotedDetail,
    WaitedDetail,
)
from mixtura.events import (
    Answer,
    AnswerDelta,
    AnswerFinished,
    AnswerRestarted,
    Call,
    CallDelta,
    CallFailed,
    CallFinished,
    CallStarted,
    Decision,
    Draft,
    Event,
    Failure,
    RunFinished,
    RunStarted,
)
from mixtura.terminal import Screen, TerminalView, screen_of, summary

_ESCAPE = re.compile(r"\x1b\[(\d*)([A-Za-z])")


class Emulator(io.StringIO):
    """Keeps the rows that a terminal of `columns` would show, scrolled-off ones included."""

    def __init__(self, columns: int = 100, rows: int = 24) -> None:
        super().__init__()
        self.columns, self.height = columns, rows
        self.rows: list[str] = [""]
        self.row = self.column = 0

    def write(self, text: str) -> int:
        place = 0
        while place < len(text):
            if found := _ESCAPE.match(text, place):
                self._obey(found[2], int(found[1] or 0))
                place = found.end()
                continue
            self._put(text[place])
            place += 1
        return super().write(text)

    def _obey(self, letter: str, number: int) -> None:
        line = self.rows[self.row]
        if letter == "A":
            top = max(0, len(self.rows) - self.height)
            self.row = max(top, self.row - number)
        elif letter == "K":
            self.rows[self.row] = "" if number == 2 else line[: self.column]
        elif letter == "J":
            del self.rows[self.row + 1 :]
            self.rows[self.row] = line[: self.column]
        else:
            assert letter == "m", f"an escape that the view is not known to use: {letter}"

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n" or self.column >= self.columns:
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.rows):
                self.rows.append("")
        if character not in "\r\n":
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    @property
    def shown(self) -> list[str]:
        return [row.rstrip() for row in self.rows if row.strip()]


def live(terminal: Emulator) -> Screen:
    return Screen(live=True, size=lambda: os.terminal_size((terminal.columns, terminal.height)))


def started(count: int, *, layer: int = 0, first: int = 0, model: str = "llama-3.1-8b-instant") -> list[Event]:
    return [
        CallStarted(at=0.0, call=first + number, role="proposer", model=model, provider="groq", layer=layer)
        for number in range(count)
    ]


def finished(number: int, text: str = "It is 18.", *, at: float = 1.25, choice: str = "", tokens: int = 120) -> Event:
    usage = Usage(prompt_tokens=10, completion_tokens=tokens)
    return CallFinished(
        at=at,
        done=Draft(
            call=number,
            role="proposer",
            model="llama-3.1-8b-instant",
            provider="groq",
            text=text,
            usage=usage,
            cost=0.0001,
            choice=choice,
        ),
    )


def failed(number: int, reason: str = "no connection", kind: str = "unreachable") -> Event:
    failure = Failure(call=number, role="proposer", model="gone", provider="groq", kind=kind, reason=reason)
    return CallFailed(at=0.5, failure=failure)


def ended(status: str = "ok") -> Event:
    return RunFinished(at=2.0, status=status)  # type: ignore[arg-type]  # a Literal by the tests' own words


def show(events: Sequence[Event], terminal: Emulator, *, answer: bool = True, drafts: bool = False) -> TerminalView:
    view = TerminalView(terminal, terminal if answer else None, screen=live(terminal), drafts=drafts)
    view.add(RunStarted(run="r", recipe=Recipe.named("classic"), calls=3))
    for event in events:
        view.add(event)
    return view


def test_each_running_proposer_has_one_line_with_its_seconds_tokens_and_the_end_of_its_text() -> None:
    terminal = Emulator(60)
    show([*started(2), CallDelta(at=0.5, call=1, text="first words\nand then the very last words")], terminal)
    assert len(terminal.shown) == 2
    assert terminal.shown[1] == "○ llama-3.1-8b-instant   0.5s    ~10  …he very last words"
    assert all(len(row) <= 58 for row in terminal.shown)


def test_the_region_freezes_into_one_line_a_proposer_then_come_answer_decisions_and_one_line_of_figures() -> None:
    terminal = Emulator(100)
    show(
        [
            *started(2),
            CallDelta(at=0.2, call=0, text="so it is"),
            finished(1, at=1.0, choice="18"),
            finished(0, at=1.5),
            AnswerDelta(at=1.6, text="The answer\n"),
            AnswerDelta(at=1.7, text="is 18."),
            Decision(at=1.8, kind="voted", reason="2 of 2 votes", detail=VotedDetail()),
            AnswerFinished(at=1.9, text="The answer\nis 18."),
            ended(),
        ],
        terminal,
    )
    assert terminal.shown == [
        "✓ llama-3.1-8b-instant   1.5s    120 tok  It is 18.",
        "✓ llama-3.1-8b-instant   1.0s    120 tok  = 18",
        "The answer",
        "is 18.",
        "- 2 of 2 votes",
        "2.0s · 2 calls · 20 in + 240 out tokens · $0.000200",
    ]


def test_a_layer_is_frozen_when_the_next_one_begins() -> None:
    terminal = Emulator(100)
    show([*started(2), finished(0), finished(1), *started(3, layer=1, first=2)], terminal)
    assert [row[0] for row in terminal.shown] == ["✓", "✓", "○", "○", "○"]


def test_more_proposers_than_rows_collapse_into_a_line_that_counts_the_rest() -> None:
    terminal = Emulator(80, rows=6)
    view = show([*started(13), finished(0), failed(1)], terminal)
    assert len(terminal.shown) == 4
    assert terminal.shown[-1] == "  and 10 more: 8 running, 1 done, 1 failed"
    assert all(row.startswith("○") for row in terminal.shown[:-1])
    view.stop()
    assert len(terminal.shown) == 13


def test_what_a_draft_says_cannot_move_the_cursor_or_ring_the_bell() -> None:
    terminal = Emulator(100)
    nasty = "\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp\r\x08 end"
    show([*started(1), CallDelta(at=0.3, call=0, text=nasty), finished(0, nasty), AnswerDelta(text=nasty)], terminal)
    assert not re.search(r"\x1b(?!\[\d*[AKJ])|[\x07\x08\x9b\u202e]", terminal.getvalue())
    assert "␛[2J" in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()


def test_a_narrowed_window_is_cleared_of_the_lines_it_wrapped() -> None:
    terminal = Emulator(100)
    view = show([*started(2), CallDelta(at=0.2, call=0, text="x" * 200)], terminal)
    before = len(terminal.getvalue())
    terminal.columns = 40
    view.tick(1.0)
    # 97 and 69 columns written take 3 and 2 rows of 40, and the cursor stands in the last one.
    assert terminal.getvalue()[before:].startswith("\r\x1b[4A")


def test_an_answer_that_begins_anew_says_so_once_and_is_whole() -> None:
    terminal = Emulator(100)
    show(
        [
            AnswerDelta(text="Half an ans"),
            Decision(kind="fell_back", reason="the aggregator was cut off", warning=True, detail=FellBackDetail()),
            AnswerRestarted(),
            AnswerDelta(text="The best draft."),
            AnswerFinished(text="The best draft."),
            ended("partial"),
        ],
        terminal,
    )
    assert terminal.shown == [
        "Half an ans",
        "! the aggregator was cut off; the text above does not count, this does:",
        "The best draft.",
    ]


def waits(seconds: float = 12.0, at: float = 0.0, window: str = "") -> Event:
    reason = "no room yet in 8,000 tokens per minute of big; the run waits about 12.0 s for it"
    return Decision(at=at, kind="waited", reason=reason, detail=WaitedDetail(seconds=seconds, window=window))


def test_a_wait_for_room_counts_down_while_it_lasts_and_says_how_long_it_was() -> None:
    terminal = Emulator(100)
    view = show([waits(window="8,000 tokens per minute of big")], terminal)
    assert terminal.shown == ["waiting about 12 s for room in 8,000 tokens per minute of big"]
    view.tick(5.2)
    assert terminal.shown == ["waiting about 7 s for room in 8,000 tokens per minute of big"]
    view.tick(20.0)
    assert terminal.shown == ["waiting about 0 s for room in 8,000 tokens per minute of big"]
    view.add(CallStarted(at=20.4, call=0, role="proposer", model="big", provider="groq"))
    assert terminal.shown[0] == "- waited 20.4 s for room in 8,000 tokens per minute of big"
    assert terminal.shown[1].startswith("○ big")


def test_a_wait_is_said_at_once_where_the_cursor_cannot_move_and_by_its_reason_without_a_window() -> None:
    out = io.StringIO()
    view = TerminalView(out, None, screen=Screen())
    view.add(waits(window="30 requests per minute of big"))
    assert out.getvalue() == "- waiting about 12 s for room in 30 requests per minute of big\n"
    view.add(waits())
    assert out.getvalue().splitlines()[1].startswith("- no room yet in 8,000 tokens per minute of big; the run waits")


def test_a_wait_that_ends_in_an_error_leaves_how_long_it_was() -> None:
    terminal = Emulator(100)
    show([waits(window="w"), RunFinished(at=9.0, status="failed", error="no room")], terminal)
    assert terminal.shown == ["- waited 9.0 s for room in w"]


def test_a_stopped_wait_leaves_nothing_half_drawn() -> None:
    terminal = Emulator(100)
    show([waits(window="w")], terminal).stop()
    assert terminal.shown == []


@pytest.mark.parametrize("kind", ["reduced", "routed"])
def test_that_less_is_asked_is_said_before_the_first_call_and_once(kind: DecisionKind) -> None:
    terminal = Emulator(100)
    detail = ReducedDetail() if kind == "reduced" else RoutedDetail()
    less = Decision(kind=kind, reason="big answers alone", warning=True, detail=detail)
    show([less, *started(1), finished(0), AnswerFinished(text="Yes."), ended()], terminal)
    assert [row[:3] for row in terminal.shown] == ["! b", "✓ l", "Yes", "2.0"]


def test_a_second_try_has_a_line_of_its_own_that_says_so() -> None:
    terminal = Emulator(100)
    hedged = Decision(
        kind="hedged", reason="slow; asked a second time", detail=HedgedDetail(model="llama-3.1-8b-instant")
    )
    lost = Failure(call=0, role="proposer", model="x", provider="groq", kind="abandoned", reason="another was faster")
    view = show([*started(1), hedged, *started(1, first=1)], terminal)
    assert [row.split()[2] for row in terminal.shown] == ["0.0s", "(again)"]
    for event in (CallFailed(at=1.0, failure=lost), finished(1), AnswerFinished(text="Yes."), ended()):
        view.add(event)
    assert [row[:3] for row in terminal.shown] == ["- l", "✓ l", "Yes", "- s", "2.0"]


def test_an_incomplete_draft_is_marked_as_such() -> None:
    terminal = Emulator(100)
    draft = Draft(
        call=0, role="proposer", model="m", provider="p", text="Half a tho", incomplete="enough drafts were there"
    )
    show([*started(1), CallFinished(at=1.0, done=draft), AnswerFinished(text="Yes."), ended()], terminal, drafts=True)
    assert re.fullmatch(r"◐ llama-3.1-8b-instant +1.0s +0 tok  incomplete: enough drafts were there", terminal.shown[0])
    assert terminal.shown[1:3] == ["Half a tho", "[incomplete: enough drafts were there]"]
    plain = io.StringIO()
    view = TerminalView(plain, None, screen=Screen(symbols=False))
    for event in [*started(1), CallFinished(at=1.0, done=draft)]:
        view.add(event)
    assert plain.getvalue().startswith("~ llama-3.1-8b-instant")


def test_a_restart_before_any_text_shows_nothing_twice() -> None:
    terminal = Emulator(100)
    show([AnswerRestarted(), AnswerDelta(text="Yes."), AnswerFinished(text="Yes."), ended()], terminal)
    assert terminal.shown == ["Yes."]


@pytest.mark.parametrize(
    ("pieces", "whole", "expected"),
    [
        (["The ans"], "The answer.", ["The answer."]),
        ([], "Voted.", ["Voted."]),
        (
            ["Based on the drafts, no"],
            "no",
            ["Based on the drafts, no", "! the text above was changed; the answer is:", "no"],
        ),
    ],
)
def test_the_finished_answer_wins_over_its_pieces(pieces: list[str], whole: str, expected: list[str]) -> None:
    terminal = Emulator(100)
    show([*(AnswerDelta(text=piece) for piece in pieces), AnswerFinished(text=whole), ended()], terminal)
    assert terminal.shown == expected


def test_a_view_without_a_place_for_the_answer_never_writes_it() -> None:
    terminal = Emulator(100)
    aggregator = CallStarted(at=1.3, call=1, role="aggregator", model="big", provider="groq", layer=1)
    events = [*started(1), finished(0), aggregator, AnswerDelta(at=1.4, text="secret pieces")]
    view = show(events, terminal, answer=False)
    assert terminal.shown[-1].endswith("secret pieces")
    done = Call(call=1, role="aggregator", model="big", provider="groq", text="secret")
    for event in (CallFinished(at=1.5, done=done), AnswerFinished(at=1.5, text="secret pieces"), ended()):
        view.add(event)
    assert [row[:3] for row in terminal.shown] == ["✓ l", "2.0"]


def test_drafts_are_written_out_when_asked_for() -> None:
    terminal = Emulator(100)
    show([*started(1), finished(0, "line one\nline two"), AnswerDelta(text="A."), ended()], terminal, drafts=True)
    assert terminal.shown[1:4] == ["line one", "line two", "A."]


def test_a_run_that_fails_for_one_reason_leaves_it_to_the_error() -> None:
    terminal = Emulator(100)
    show([*started(2), failed(0), failed(1), ended("failed")], terminal)
    assert terminal.shown == []
    show([*started(2), failed(0), failed(1, "the key is wrong"), ended("failed")], terminal)
    assert [row.split(maxsplit=3)[-1] for row in terminal.shown] == ["no connection", "the key is wrong"]


def test_a_stopped_run_leaves_its_lines_and_no_running_mark() -> None:
    terminal = Emulator(100)
    show([*started(2), finished(0)], terminal).stop()
    assert [row[0] for row in terminal.shown] == ["✓", "-"]
    assert terminal.shown[1].endswith("stopped")


@pytest.mark.parametrize("can_redraw", [True, False])
def test_the_line_of_a_model_that_answers_alone_stands_below_its_answer(can_redraw: bool) -> None:
    terminal = Emulator(100)
    screen = live(terminal) if can_redraw else Screen(live=False)
    view = TerminalView(terminal, terminal, screen=screen)
    pieces = [AnswerDelta(at=0.5, text="It is "), AnswerDelta(at=0.6, text="18.")]
    for event in (*started(1), *pieces, finished(0), AnswerFinished(at=1.3, source=0), ended()):
        view.add(event)
    assert terminal.shown[0] == "It is 18."
    assert terminal.shown[1].startswith("✓ llama-3.1-8b-instant")


def test_thinking_is_shown_as_such_until_text_comes() -> None:
    terminal = Emulator(100)
    view = show([*started(1), CallDelta(at=0.2, call=0, reasoning="let me see")], terminal)
    assert terminal.shown[0].endswith("thinking: let me see")
    view.add(CallDelta(at=0.4, call=0, text="It is"))
    assert terminal.shown[0].endswith("  It is")


def test_where_the_cursor_cannot_move_only_finished_lines_are_written() -> None:
    out = io.StringIO()
    view = TerminalView(out, out, screen=Screen(symbols=False))
    for event in [*started(2), CallDelta(at=0.2, call=0, text="x"), finished(0), failed(1), AnswerDelta(text="Hi")]:
        view.add(event)
    view.add(AnswerFinished(text="Hi"))
    view.add(ended())
    lines = out.getvalue().splitlines()
    assert [line[:1] for line in lines] == ["+", "x", "H", "2"]
    assert out.getvalue().isascii()


def test_colours_are_for_marks_and_side_notes() -> None:
    out = io.StringIO()
    view = TerminalView(out, None, screen=Screen(colour=True))
    for event in [*started(1), finished(0), ended()]:
        view.add(event)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("\x1b[32m✓\x1b[0m llama")
    assert lines[1].startswith("\x1b[2m2.0s")


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "env", "redraws", "coloured"),
    [
        (Tty(), {"TERM": "xterm"}, True, True),
        (Tty(), {"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        (Tty(), {"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        (Tty(), {"TERM": "dumb"}, False, False),
        (Tty(), {}, False, False),
        (io.StringIO(), {"TERM": "xterm"}, False, False),
        (io.StringIO(), {"TERM": "xterm", "FORCE_COLOR": "1"}, False, True),
        (io.StringIO(), {"FORCE_COLOR": "0"}, False, False),
    ],
)
def test_the_environment_decides_what_a_screen_can_do(
    stream: io.StringIO, env: Mapping[str, str], redraws: bool, coloured: bool
) -> None:
    screen = screen_of(stream, env)
    assert (screen.live, screen.colour) == (redraws, coloured)


def test_a_terminal_that_tells_no_size_takes_it_from_the_environment() -> None:
    assert screen_of(Tty(), {"COLUMNS": "52", "LINES": "9"}).size() == (52, 9)
    assert screen_of(Tty(), {"COLUMNS": "wide", "LINES": "0"}).size() == (80, 24)


def test_the_summary_marks_what_is_estimated_missing_or_partial() -> None:
    answer = Answer(
        seconds=1.26,
        status="partial",
        drafts=[Draft(call=0, role="proposer", model="m", provider="p")],
        usage=Usage(prompt_tokens=1200, completion_tokens=34, estimated=True),
        cost=0.00042,
        unpriced=["m"],
    )
    assert summary(answer) == "1.3s · 1 call · ~1,200 in + ~34 out tokens · $0.000420+ · partial"
    assert summary(answer, 40) == "1.3s · 1 call · ~1,234 tok · $0.000420+ · partial"
    assert summary(Answer()).endswith("no price known")


@given(st.text(), st.integers(0, 40))
def test_cut_text_fits_and_keeps_the_end_it_should(text: str, width: int) -> None:
    for shorter, kept in ((cut(text, width), str.startswith), (cut_front(text, width), str.endswith)):
        assert display_width(shorter) <= width
        assert shorter == text or kept(text, shorter.strip("…"))


@given(st.text())
def test_one_line_is_one_line_and_safe_text_has_no_controls(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", safe(text))


@given(st.text(max_size=300), st.integers(20, 120))
def test_no_text_makes_a_live_line_wider_than_the_terminal(text: str, columns: int) -> None:
    terminal = Emulator(columns)
    show([*started(1), CallDelta(at=0.3, call=0, text=text, reasoning=text[::-1])], terminal)
    assert all(display_width(line) < columns for line in re.split(r"[\r\n]", _ESCAPE.sub("", terminal.getvalue())))


def test_widths_are_those_of_a_terminal_or_more() -> None:
    assert display_width("abc") == 3
    assert display_width("日本語") == 6
    assert display_width("e\u0301") == 1
    assert display_width("👩\u200d💻") >= 2
    assert cut("日本語テキスト", 6) == "日本…"
    assert cut_front("日本語テキスト", 6) == "…スト"
