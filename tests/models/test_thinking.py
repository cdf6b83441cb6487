import itertools
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from mixtura.chat import CallContext, ChatRequest, Completion, Delta, Message, PartialReader
from mixtura.models.base import Emit
from mixtura.models.reasoning.splitter import ThinkSplitter
from mixtura.models.reasoning.splitter import split_thinking as split_of
from mixtura.models.wrappers.thinking import ThinkingApart


def split_thinking(text: str) -> tuple[str, str]:
    split = split_of(text)
    return (text, "") if split is None else (split.text, split.reasoning)


REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        pytest.param("plain 1 < 2 text", "plain 1 < 2 text", "", id="no tag"),
        pytest.param("<think>hm</think>answer", "answer", "hm", id="plain"),
        pytest.param("<think>\nhm\n</think>\n\nanswer\n", "answer\n", "hm", id="white space around"),
        pytest.param(" \n<THINKING>hm</Thinking> answer", "answer", "hm", id="any case, white space first"),
        pytest.param("<thought>a</thought><reasoning>b</reasoning>answer", "answer", "a\n\nb", id="several"),
        pytest.param("<think>cut off", "", "cut off", id="unclosed at the start"),
        pytest.param("answer\n<think>cut off", "answer\n", "cut off", id="unclosed at a line's start"),
        pytest.param("answer\n  <think>x</think>more", "answer\n  more", "x", id="at a line's start"),
        pytest.param("an <think>x</think> answer", "an  answer", "x", id="inside a line, closed"),
        pytest.param("the <think> tag", "the <think> tag", "", id="inside a line, not closed"),
        pytest.param("the <think> and <thought> tags", "the <think> and <thought> tags", "", id="two, not closed"),
        pytest.param("a <think>b <think>c</think> d", "a  d", "b <think>c", id="two inside a line, closed"),
        pytest.param("the <think> tag\n<think>cut", "the <think> tag\n", "cut", id="both"),
        pytest.param("hm, well</think>answer", "answer", "hm, well", id="stray closing tag"),
        pytest.param("hm, well</think>\n\n answer", "answer", "hm, well", id="white space after a stray closing tag"),
        pytest.param("<think>a <think>b</think> c</think>answer", "answer", "a <think>b\n\nc", id="nested"),
        pytest.param("</think>answer", "answer", "", id="closing tag first"),
        pytest.param("use `<think>` and `</think>`.", "use `<think>` and `</think>`.", "", id="quoted"),
        pytest.param("a\n```xml\n<think>x</think>\n```\nb", "a\n```xml\n<think>x</think>\n```\nb", "", id="fence"),
        pytest.param("a\n````\n```\n<think>\n````\nb", "a\n````\n```\n<think>\n````\nb", "", id="longer fence"),
        pytest.param("```\nx\n```\n<think>hm</think>b", "```\nx\n```\nb", "hm", id="after a fence"),
        pytest.param(
            "The <think> tag:\n```\n</think>\n```\n", "The <think> tag:\n```\n</think>\n```\n", "", id="fenced close"
        ),
        pytest.param("<think>```\ncode\n```</think>answer", "answer", "```\ncode\n```", id="fence in the reasoning"),
        pytest.param("<think>a</thinking>answer", "answer", "a", id="closed by another name"),
        pytest.param("<think></think>answer", "answer", "", id="empty"),
        pytest.param("<thinker>x</thinker>", "<thinker>x</thinker>", "", id="another tag"),
        pytest.param("a <thi", "a <thi", "", id="half a tag at the end"),
    ],
)
def test_where_a_tag_stands_decides_what_is_reasoning(text: str, answer: str, reasoning: str) -> None:
    assert split_thinking(text) == (answer, reasoning)


PIECE = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<Thought>",
        "</thought>",
        "```",
        "```py",
        "`",
        "\n",
        "\n\n",
        " ",
        "a",
        "<",
        ">",
        "</",
        "thi",
    ]
)


def in_chunks(text: str, cuts: list[int]) -> list[str]:
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(bounds)]


@given(st.lists(PIECE, max_size=14).map("".join), st.lists(st.integers(0, 60), max_size=20))
@example("<think>a</think>b", list(range(20)))
def test_any_chunking_gives_the_same_answer_and_reasoning(text: str, cuts: list[int]) -> None:
    splitter = ThinkSplitter()
    for chunk in in_chunks(text, cuts):
        splitter.feed(chunk)
    splitter.finish()
    assert (splitter.text, splitter.reasoning) == split_thinking(text)


@given(st.lists(PIECE, max_size=14).map("".join), st.lists(st.integers(0, 60), max_size=20))
def test_what_is_shown_is_what_counts_unless_a_closing_tag_turned_it_over(text: str, cuts: list[int]) -> None:
    splitter = ThinkSplitter()
    shown = "".join(splitter.feed(chunk).text for chunk in in_chunks(text, cuts)) + splitter.finish().text
    assert shown.endswith(splitter.text)


@given(st.text(alphabet="ab<>`\n t", max_size=30), st.text(alphabet="ab \n<", max_size=30))
def test_reasoning_at_the_start_never_reaches_the_answer(answer: str, thought: str) -> None:
    text, _ = split_thinking(f"<think>{thought}</think>{answer}")
    assert text == answer.lstrip()


def test_a_piece_without_a_tag_is_passed_on_at_once_and_half_a_tag_held_back() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("hello ") == Delta("hello ")
    assert splitter.feed("a <th") == Delta("a ")
    assert splitter.feed("ree") == Delta("<three")
    assert splitter.feed("\n<think>hm") == Delta("\n", "hm")
    assert splitter.feed("m</thi") == Delta("", "m")
    assert splitter.feed("nk>so") == Delta("so")
    assert splitter.finish() == Delta()


def test_half_a_tag_at_the_end_belongs_to_where_it_stands() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("<think>hm</thi") == Delta("", "hm")
    assert splitter.finish() == Delta("", "</thi")
    assert (splitter.text, splitter.reasoning) == ("", "hm</thi")
    call = {"index": 0}
    splitter = ThinkSplitter()
    assert splitter.apart(Delta("<think>hm</thi", "so ")) == Delta("", "so hm")
    assert splitter.apart(Delta("", "well", [call])) == Delta("", "well</thi", [call])


class Says:
    """Answers with its pieces, streamed when somebody watches."""

    def __init__(self, *pieces: str, reasoning: str = "") -> None:
        self.pieces = pieces
        self.reasoning = reasoning

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        if emit is not None:
            for piece in self.pieces:
                emit(Delta(piece))
        return Completion(model="m", text="".join(self.pieces), reasoning=self.reasoning)


async def test_a_completion_s_reasoning_moves_to_its_own_field() -> None:
    completion = await ThinkingApart(Says("<think>b</think>answer", reasoning="a")).chat(REQUEST)
    assert (completion.text, completion.reasoning) == ("answer", "a\n\nb")


async def test_reasoning_that_a_server_says_twice_is_kept_once() -> None:
    completion = await ThinkingApart(Says("<think>a</think>answer", reasoning="a\n")).chat(REQUEST)
    assert (completion.text, completion.reasoning) == ("answer", "a\n")


async def test_a_completion_without_tags_is_passed_on_untouched() -> None:
    completion = await ThinkingApart(Says("1 < 2 `<think>`", reasoning="a")).chat(REQUEST)
    assert (completion.text, completion.reasoning) == ("1 < 2 `<think>`", "a")


async def test_a_stream_shows_reasoning_as_reasoning() -> None:
    seen: list[Delta] = []
    completion = await ThinkingApart(Says("<th", "ink>h", "m</think>", "\n\nans", "wer <")).chat(
        REQUEST, emit=seen.append
    )
    assert "".join(delta.text for delta in seen) == completion.text == "answer <"
    assert "".join(delta.reasoning for delta in seen) == completion.reasoning == "hm"


async def test_a_stray_closing_tag_in_a_stream_decides_for_the_completion() -> None:
    completion = await ThinkingApart(Says("hm, ", "well</think>", "answer")).chat(REQUEST, emit=lambda delta: None)
    assert (completion.text, completion.reasoning) == ("answer", "hm, well")


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_stray_closing_tag_with_nothing_behind_it_takes_no_answer_away(cut: int) -> None:
    text = "The answer is 42.\n</think>\n"
    splitter = ThinkSplitter()
    for start in range(0, len(text), cut):
        splitter.feed(text[start : start + cut])
    splitter.finish()
    assert splitter.text.strip() == "The answer is 42."
    assert splitter.reasoning == ""


class Heard:
    """A call's context that notes what it is told."""

    partial = True
    on_answered = None

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[object, ...]]] = []
        self.reader: PartialReader | None = None

    def attach(self, reader: PartialReader) -> None:
        self.reader = reader

    def __getattr__(self, name: str) -> Any:
        def note(*given: object) -> str:
            self.told.append((name, given))
            return f"what {name} says"

        return note


class Pieces:
    """A reader of pieces that have come."""

    def __init__(self, *pieces: tuple[float, Delta]) -> None:
        self.left = list(pieces)

    def read(self) -> list[tuple[float, Delta]]:
        found, self.left = self.left, []
        return found


async def test_a_call_whose_partial_reply_is_split_can_be_told_all_that_any_call_can() -> None:
    names = {name for name in vars(CallContext) if callable(getattr(CallContext, name)) and not name.startswith("_")}
    given: dict[str, tuple[object, ...]] = {
        "look": (),
        "expect_whole": (),
        "draw": ("account", 7),
        "begin": (1.0,),
        "pause": (),
        "share": (None,),
        "waste": (None,),
        "refuse_repeat": (),
    }
    assert {*given, "attach"} == names
    heard, said = Heard(), dict[str, object]()

    class Tells:
        async def chat(self, request: ChatRequest, **_: Any) -> Completion:
            assert request.context is not None
            assert request.context.partial
            said.update({name: getattr(request.context, name)(*values) for name, values in given.items()})
            return Completion(model="m", text="<think>hm</think>answer")

    request = structs.replace(REQUEST, context=cast("CallContext", heard))
    completion = await ThinkingApart(Tells()).chat(request)
    assert (completion.text, completion.reasoning) == ("answer", "hm")
    assert heard.told == list(given.items())
    assert (said["draw"], said["refuse_repeat"]) == ("what draw says", "what refuse_repeat says")


async def test_what_a_partial_reply_thinks_is_read_apart_with_its_times_and_counts() -> None:
    heard = Heard()
    pieces = Pieces(
        (1.0, Delta("<thi")), (2.0, Delta("nk>hm")), (3.0, Delta("</think>ans", pieces=7)), (4.0, Delta("wer"))
    )

    class Attaches:
        async def chat(self, request: ChatRequest, **_: Any) -> Completion:
            assert request.context is not None
            request.context.attach(pieces)
            return Completion(model="m", text="")

    await ThinkingApart(Attaches()).chat(structs.replace(REQUEST, context=cast("CallContext", heard)))
    assert heard.reader is not None
    assert heard.reader.read() == [
        (1.0, Delta()),
        (2.0, Delta("", "hm")),
        (3.0, Delta("ans", pieces=7)),
        (4.0, Delta("wer")),
    ]
    assert heard.reader.read() == []
    pieces.left = [(5.0, Delta(" <think"))]
    assert heard.reader.read() == [(5.0, Delta(" "))]


async def test_a_call_that_is_not_split_keeps_its_context() -> None:
    heard = Heard()
    heard.partial = False
    seen: list[object] = []

    class Sees:
        async def chat(self, request: ChatRequest, **_: Any) -> Completion:
            seen.append(request.context)
            return Completion(model="m", text="")

    request = structs.replace(REQUEST, context=cast("CallContext", heard))
    await ThinkingApart(Sees()).chat(request, deadline=1.0)
    assert seen == [heard]
