"""Reasoning that stands in a text, whichever family of models wrote it, and text that only speaks of it."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixtura.chat import Delta, JsonObject
from mixtura.models.reasoning.marks import FAMILIES, STARTS
from mixtura.models.reasoning.splitter import ThinkSplitter, split_thinking

SECRET = "SECRET"
TOOLS = ("get_weather", "get_analysis")
ARGUMENTS = '{"city":"Paris"}'
FINAL = "<|start|>assistant<|channel|>final<|message|>"
ANALYSIS = "<|channel|>analysis<|message|>"


def split(text: str, **asked: object) -> tuple[str, str, list[tuple[str, str]]]:
    """Return the answer, the reasoning, and name and arguments of the tool calls."""
    found = split_thinking(text, **asked)  # type: ignore[arg-type]  # tools and cut, as given
    return (text, "", []) if found is None else (found.text, found.reasoning, names(found.calls))


def names(calls: list[JsonObject]) -> list[tuple[str, str]]:
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def in_chunks(text: str, cuts: list[int]) -> list[str]:
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(bounds)]


def streamed(
    text: str, cuts: list[int], *, tools: tuple[str, ...] = (), cut: bool = False
) -> tuple[Delta, ThinkSplitter]:
    """Return all that a stream showed, as one delta, and its splitter."""
    splitter = ThinkSplitter(tools=tools)
    deltas = [splitter.feed(chunk) for chunk in in_chunks(text, cuts)] + [splitter.finish(cut=cut)]
    calls = list(itertools.chain.from_iterable(delta.tool_calls or () for delta in deltas))
    said = "".join(delta.text for delta in deltas), "".join(delta.reasoning for delta in deltas)
    return Delta(*said, calls or None), splitter


def every(text: str, length: int) -> list[int]:
    return list(range(0, len(text), length))


PAIRS = [(opened, closed) for family in FAMILIES for opened in family.opens for closed in family.closes]
SPLIT = [
    *((f"{opened}{SECRET}{closed}4", "4") for opened, closed in PAIRS),
    *((f"{opened}\n{SECRET}\n{closed}\n\n4", "4") for opened, closed in PAIRS),
    *((f"{opened}{SECRET}", "") for opened, _ in PAIRS),
    *((f"4\n{opened}{SECRET}", "4\n") for opened, _ in PAIRS),
    *((f"It is 4. {opened}{SECRET}", "It is 4. ") for opened, _ in PAIRS),
    *((f"{opened}a {opened}{SECRET}{closed} {SECRET}{closed}4", "4") for opened, closed in PAIRS),
    *((f"{opened}\n{opened}{SECRET}{closed}4", "4") for opened, closed in PAIRS),
    *((f"{opened}The `{closed}` mark. {SECRET}{closed}4", "4") for opened, closed in PAIRS),
    *((f'{opened}The "{closed}" mark. {SECRET}{closed}4', "4") for opened, closed in PAIRS),
    *((f"{opened}```\n{closed}\n```\n{SECRET}{closed}4", "4") for opened, closed in PAIRS),
    *((f"{opened}They ask what {closed} means. {SECRET}{closed}4", "4") for opened, closed in PAIRS),
    (f"{ANALYSIS}{SECRET}<|end|>{FINAL}4", "4"),
    (f"{ANALYSIS}{SECRET}<|end|>4", "4"),
    (f"<|start|>assistant{ANALYSIS}{SECRET}<|end|>{FINAL}4<|return|>", "4"),
    (f"<|start|>assistant{ANALYSIS}{SECRET}<|end|>\n{FINAL}4<|end|>", "4"),
    (f"{ANALYSIS}{SECRET}{FINAL}4", "4"),
    (f"{ANALYSIS}{SECRET}<|channel|>final<|message|>4", "4"),
    (f"{ANALYSIS}{SECRET}<|end|><|start|>assistant<|message|>4", "4"),
    (f"{ANALYSIS}{SECRET}<|end|>{ANALYSIS}{SECRET}<|end|>{FINAL}4", "4"),
    (f"{ANALYSIS}<think>{SECRET}</think>{SECRET}<|end|>{FINAL}4", "4"),
    (f"{ANALYSIS}{SECRET}<|end|>{FINAL}<think>{SECRET}</think>4", "4"),
    (f"<think>{ANALYSIS}{SECRET}<|end|>{FINAL}{SECRET}</think>4", "4"),
    (f"{ANALYSIS}It ends with `<|end|>`. {SECRET}<|end|>{FINAL}4", "4"),
    (f"{ANALYSIS}{SECRET}<|end|><|start|>assistant<|channel|>commentary<|message|>{SECRET}<|end|>{FINAL}4", "4"),
    (f"{ANALYSIS}{SECRET}<|end|>{FINAL}4<|end|><|start|>user<|message|>{SECRET}<|end|>", "4"),
    (f"{ANALYSIS}{SECRET}<|end|><|start|>functions.f to=assistant<|channel|>commentary<|message|>{SECRET}", ""),
    (f"<|channel|>analysis {SECRET}<|end|>4", "4"),
    (f"{ANALYSIS}{SECRET}", ""),
    ("<|channel|>analy", ""),
    ("<|start|>assis", ""),
    ("<|channel|>final<|message|>4<|return|>", "4"),
    (f"analysis{SECRET}assistantfinal4", "4"),
    (f"analysisWe {SECRET}.assistantfinalThe assistant says 4", "The assistant says 4"),
    (f"assistantanalysis{SECRET}assistantfinal4", "4"),
    (f"analysis\n{SECRET}\nassistantfinal4", "4"),
    (f"analysis{SECRET}assistantcommentary{SECRET}assistantfinal4", "4"),
    (f"analysis{SECRET}", ""),
    ("assistantfinal4", "4"),
    ("final<|message|>4<|return|>", "4"),
    (f"assistant{ANALYSIS}{SECRET}<|end|>{FINAL}4", "4"),
    (f"assistant{ANALYSIS}{SECRET}<|end|>4", "4"),
    (f"analysis<|message|>{SECRET}<|end|>{FINAL}4", "4"),
    (f"<think >{SECRET}</think >4", "4"),
    (f"<THINK>{SECRET}</Think>4", "4"),
    (f"\r\n<think>\r\n{SECRET}\r\n</think>\r\n\r\n4", "4"),
    (f"> <think>{SECRET}</think>4", "> 4"),
    (f"Assistant: <think> I see {SECRET}\n</think>\n\n4", "Assistant: \n\n4"),
    (f"<think> okay, {SECRET} </think> the answer is 4", "the answer is 4"),
    (f"Here's my thought process: {SECRET} Here's my response: 4", "4"),
    (f"Here are my reasoning steps:\n{SECRET}\n[BEGIN FINAL RESPONSE]\n4\n[END FINAL RESPONSE]", "4\n"),
    (f"<think>a<reasoning>{SECRET}</reasoning>{SECRET}</think>4", "4"),
    (f"<think>or </reasoning>{SECRET}</think>4", "4"),
    (f"<seed:think>a<seed:cot_budget_reflect>{SECRET}</seed:cot_budget_reflect>{SECRET}</seed:think>4", "4"),
    (f'<think duration="3s">{SECRET}</think>4', "4"),
    (f'<details type="reasoning" done="true">\n<summary>x</summary>{SECRET}\n</details>\n4', "4"),
    (f"The <think> tag is next. Hm. <think>{SECRET}</think>4", "The <think> tag is next. Hm. 4"),
]


@pytest.mark.parametrize(("text", "answer"), SPLIT, ids=[repr(text) for text, _ in SPLIT])
def test_reasoning_of_every_family_stands_apart_and_is_never_shown(text: str, answer: str) -> None:
    said, reasoning, _ = split(text)
    assert said == answer
    assert SECRET in reasoning or SECRET not in text
    for length in (1, 2, 3, 7, len(text)):
        shown, splitter = streamed(text, every(text, length))
        assert (splitter.text, splitter.reasoning) == (said, reasoning)
        assert shown.text == said
        assert SECRET not in shown.text


STRAY = [
    *((f"{SECRET}{closed}4", "4") for family in FAMILIES for closed in family.closes if family.name != "details"),
    (f"{SECRET}<|end|>{FINAL}4", "4"),
    (f"{SECRET}\n[BEGIN FINAL RESPONSE]\n4", "4"),
    (f"{SECRET}<|END_THINKING|><|START_TEXT|>4<|END_TEXT|>", "4"),
]


@pytest.mark.parametrize(("text", "answer"), [one for one in STRAY if "budget" not in one[0]])
def test_what_stands_before_a_mark_that_nothing_announced_was_reasoning(text: str, answer: str) -> None:
    said, reasoning, _ = split(text)
    assert said == answer
    assert SECRET in reasoning
    _, splitter = streamed(text, every(text, 2))
    assert (splitter.text, splitter.reasoning) == (said, reasoning)


def of_marks(sentence: str) -> list[str]:
    return [sentence.format(opened, closed) for opened, closed in PAIRS if "\n" not in opened]


WHOLE = [
    *of_marks("Models write {} and {} round their thoughts."),
    *of_marks("Models write `{}` and `{}` round their thoughts."),
    *of_marks("Begin with `{}x{}` and go on."),
    *of_marks("Begin with ``{}`` and go on."),
    *of_marks("So:\n```xml\n{}x{}\n```\nThat is all."),
    *of_marks("So:\n~~~\n{}\nx\n{}\n~~~\n"),
    *of_marks('They are "{}" and "{}".'),
    *of_marks('{{"format": "{}x{}4"}}'),
    *of_marks("- {}: opens it\n- {}: closes it"),
    *of_marks("1. {} opens it.\n2. {} closes it."),
    *of_marks("| mark | does |\n|---|---|\n| {} | opens |\n| {} | closes |\n"),
    *of_marks("An example:\n\n    {}x{}\n\nThat is all."),
    *of_marks("<example>\n  {}x{}\n  <answer>4</answer>\n</example>".replace("{}", "{}")),
    *of_marks("They think in {}...{} blocks."),
    *of_marks("A pair ({}, {}) of marks."),
    *of_marks("**{}** and **{}**"),
    *of_marks("{} and {} are marks."),
    "gpt-oss writes <|channel|>analysis<|message|> before its thoughts, and <|end|> after them.",
    "Its header is `<|start|>assistant<|channel|>final<|message|>`.",
    "```\n<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>final<|message|>4\n```\n",
    "The <|return|> token ends it.",
    "analysis of the data shows 4",
    "analysis",
    "assistant",
    "Here is my thought process: four is even.",
    "The words assistantfinal and analysis",
    "x[THIN] < y[/THINK and z > <thi",
    "List<Thought> thoughts = new ArrayList<>();",
    "<details><summary>More</summary>4</details>",
    "<b>[BEGIN]</b> a <channel> b",
    "1 < 2, 3 > 2, [1], [A B], ◁ ▷",
]


@pytest.mark.parametrize("text", WHOLE)
def test_an_answer_that_speaks_of_marks_is_whole(text: str) -> None:
    assert split(text) == (text, "", [])
    for length in (1, 3, len(text)):
        shown, splitter = streamed(text, every(text, length))
        assert (splitter.text, splitter.reasoning) == (text, "")
        assert shown.text == text


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{ARGUMENTS}<|call|>", 1),
        (f"<|channel|>commentary to=functions.get_weather json<|message|>{ARGUMENTS}<|return|>", 1),
        (f"<|channel|>commentary to=functions.get_weather<|channel|>commentary json<|message|>{ARGUMENTS}<|call|>", 1),
        (f"<|start|> assistant <|channel|> commentary to=functions.get_weather\n<|message|>{ARGUMENTS}<|call|>", 1),
        (f"<|channel|>commentary to=functions.get_weatherjson<|message|>{ARGUMENTS}", 1),
        (f"<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{ARGUMENTS}<|call|>", 1),
        (f"<|channel|>analysis to=functions.get_weather<|message|>{ARGUMENTS}<|end|>", 1),
        (f"<|channel|>commentary to=functions.get_weather json<|message|>{ARGUMENTS}<|call|>" * 2, 2),
        (f"assistantcommentary to=functions.get_weather json{ARGUMENTS}", 1),
        (f"assistant to=functions.get_weathercommentary json{ARGUMENTS}", 1),
        (f"commentary to=functions.get_weather json{ARGUMENTS}", 1),
        (f"analysis{SECRET}assistantcommentary to=functions.get_weather json{ARGUMENTS}", 1),
        (f"{ANALYSIS}{SECRET}<|end|><|start|>assistant<|channel|>commentary to=get_weather<|message|>{ARGUMENTS}", 1),
    ],
)
def test_a_tool_call_in_the_text_is_one_where_tools_were_asked_for_and_else_no_answer(text: str, calls: int) -> None:
    said, reasoning, found = split(text, tools=TOOLS)
    assert (said, found) == ("", [("get_weather", ARGUMENTS)] * calls)
    assert ARGUMENTS not in reasoning
    for length in (1, 4, len(text)):
        shown, splitter = streamed(text, every(text, length), tools=TOOLS)
        assert shown.text == ""
        assert [{**call, "index": place} for place, call in enumerate(splitter.calls)] == shown.tool_calls
        assert names(splitter.calls) == found
    assert len({call["id"] for call in splitter.calls}) == calls
    said, reasoning, found = split(text)
    assert (said, found) == ("", [])
    assert reasoning.count(ARGUMENTS) == calls


def test_a_call_without_arguments_has_an_empty_object_and_a_tool_s_name_may_be_a_channel_s() -> None:
    text = "<|channel|>commentary to=functions.get_analysis json<|message|><|call|>"
    assert split(text, tools=TOOLS) == ("", "", [("get_analysis", "{}")])
    text = "assistant to=functions.get_analysiscommentary json{}"
    assert split(text, tools=TOOLS) == ("", "", [("get_analysis", "{}")])


def test_a_call_in_the_text_comes_behind_those_that_came_as_such() -> None:
    splitter = ThinkSplitter(tools=TOOLS)
    splitter.apart(Delta("", "", [{"index": 0, "id": "a", "type": "function", "function": {}}]))
    found = splitter.apart(Delta(f"<|channel|>commentary to=functions.get_weather<|message|>{ARGUMENTS}<|call|>. "))
    assert found.tool_calls is not None
    assert [call["index"] for call in found.tool_calls] == [1]


@pytest.mark.parametrize(
    ("text", "whole", "cut"),
    [
        pytest.param("<think>a</thinking>more", "more", "", id="closed by another tag"),
        pytest.param("<think>a <think>b</think> more", " more".strip(), "", id="closed once of twice"),
        pytest.param("the <think> tag is", "the <think> tag is", "the <think> tag is", id="spoken of"),
        pytest.param(
            "Here is my thought process: more", "Here is my thought process: more", "", id="an announced thought"
        ),
    ],
)
def test_of_a_reply_that_was_cut_off_what_may_be_reasoning_is(text: str, whole: str, cut: str) -> None:
    assert split(text)[0] == whole
    assert split(text, cut=True)[0] == cut
    for doubtful in (True, False):
        shown, splitter = streamed(text, every(text, 2), cut=doubtful)
        assert shown.text == splitter.text == (cut if doubtful else whole)


def test_nothing_is_held_back_that_is_no_mark() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("analysis").text == ""
    assert splitter.feed(", as ").text == "analysis, as "
    assert splitter.feed("I said <").text == "I said "
    assert splitter.feed("b>").text == "<b>"
    assert splitter.feed(" [TH").text == " "
    assert splitter.feed("E]").text == "[THE]"
    assert splitter.feed(" <|cha").text == " "
    assert splitter.feed("nge|>").text == "<|change|>"


def test_in_front_of_a_tool_call_what_is_held_back_for_text_is_shown() -> None:
    call: JsonObject = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    splitter = ThinkSplitter()
    assert splitter.apart(Delta("The <think> tag ")) == Delta("The ")
    assert splitter.apart(Delta("", "", [call])) == Delta("<think> tag ", "", [call])
    splitter = ThinkSplitter()
    assert splitter.apart(Delta(f"Here is my thought process: {SECRET}")).text == ""
    assert splitter.apart(Delta("", "", [call])) == Delta("", "", [call])


MARKS = [mark for family in FAMILIES for mark in (*family.opens, *family.closes, *family.answers, *family.ends)]
PIECE = st.sampled_from(
    [
        *MARKS,
        *STARTS,
        *(
            ANALYSIS,
            FINAL,
            "<|start|>",
            "<|channel|>",
            "<|message|>",
            "<|constrain|>",
            "assistant",
            "final",
            "analysis",
        ),
        *("<|channel|>commentary to=functions.get_weather json<|message|>", "commentary", " to=functions.f", " json"),
        *("{}", "`", "```", "\n", "\n\n", " ", "  ", "    ", '"', "a", "word", " tag", " and ", ". ", ", ", "|", "*"),
        *("<", ">", "</", "[", "]", "<|", "|>", "◁", "Here is my response:", 'a="b"', "<think", "x"),
    ]
)
TEXT = st.lists(PIECE, max_size=16).map("".join)
CUTS = st.lists(st.integers(0, 200), max_size=30)


@given(TEXT, CUTS, st.booleans())
@example("<think a", list(range(8)), False)
def test_any_chunking_gives_the_same(text: str, cuts: list[int], cut: bool) -> None:
    shown, splitter = streamed(text, cuts, tools=TOOLS, cut=cut)
    assert (splitter.text, splitter.reasoning, names(splitter.calls)) == split(text, tools=TOOLS, cut=cut)
    assert shown.text.endswith(splitter.text)
    assert len(shown.tool_calls or ()) == len(splitter.calls)


@given(st.text(alphabet='abc <>[]|/`\n"{}◁▷=:', max_size=60), CUTS)
def test_a_text_without_marks_is_unchanged(text: str, cuts: list[int]) -> None:
    assert split(text) == (text, "", [])
    shown, splitter = streamed(text, cuts)
    assert shown.text == splitter.text == text


@given(
    st.sampled_from(PAIRS),
    st.text(alphabet="abc .\n", max_size=12),
    st.text(alphabet="abc.,\n[]{}", max_size=12),
    CUTS,
)
def test_a_secret_in_reasoning_at_the_start_is_never_shown(
    pair: tuple[str, str], thought: str, answer: str, cuts: list[int]
) -> None:
    text = f"{pair[0]}{thought}{SECRET}{thought}\n{pair[1]}\n4{answer}"
    shown, splitter = streamed(text, cuts)
    assert shown.text == splitter.text == f"4{answer}"
    assert SECRET in splitter.reasoning
