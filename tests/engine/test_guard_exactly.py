"""What may not pass as an answer, in whole sentences, and when each piece of a streamed answer is passed on."""

import pytest

from mixtura.answer_format import AnswerFormat
from mixtura.chat import Completion
from mixtura.engine import guard
from mixtura.events import Draft

NO = "I'm sorry, but I can't help with that."


def drafts(*texts: str) -> list[Draft]:
    return [Draft(call=call, role="proposer", model="m", provider="p", text=text) for call, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        (Completion(model="m", text=" \n"), "wrote no answer"),
        (Completion(model="m", text="", reasoning="hm"), "wrote no answer, only reasoning"),
        (Completion(model="m", text="", finish_reason="length"), "wrote no answer"),
        (Completion(model="m", text="So it", finish_reason="length"), "was cut off at its output limit"),
        (Completion(model="m", text="So it", finish_reason="content_filter"), "was stopped by a content filter"),
        (Completion(model="m", text=NO), "refused, while the drafts answer"),
        (Completion(model="m", text="", tool_calls=[{}], finish_reason="length"), ""),
        (Completion(model="m", text="An answer."), ""),
    ],
)
def test_why_a_reply_is_no_answer_is_said(completion: Completion, why: str) -> None:
    assert guard.problem(completion, drafts("An answer.", "Another.", NO)) == why


@pytest.mark.parametrize(
    ("texts", "stands"),
    [((), True), ((NO,), True), (("Yes.",), False), ((NO, "Yes."), False), ((NO, NO, "Yes."), True)],
)
def test_a_refusal_stands_where_more_than_half_of_the_drafts_refuse(texts: tuple[str, ...], stands: bool) -> None:
    assert (guard.problem(Completion(model="m", text=NO), drafts(*texts)) == "") is stands


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Based on the drafts, use it.", "Use it."),
        ("Based on the drafts,   use it.", "Use it."),
        ("Based on the drafts, use it.\nThen rest.", "Use it.\nThen rest."),
        # Nothing is left without it, so it stays.
        ("Based on the drafts, ", "Based on the drafts, "),
        ("Based on the drafts.\n\n", "Based on the drafts.\n\n"),
        # Behind a line break the look is kept, less empty lines.
        ("Based on the drafts:\n \n\n  x = 1\n", "  x = 1\n"),
        ("Based on the drafts: \n\tx", "\tx"),
        # Only a word of small letters takes a capital.
        ("Based on the drafts, x.y is it.", "x.y is it."),
        ("Based on the drafts, x = 1.", "X = 1."),
        ("Based on the drafts, x=1.", "x=1."),
        ("Based on the drafts, Yes.", "Yes."),
        ("Based on the drafts, 3 of them.", "3 of them."),
        ("Based on the drafts, a", "A"),
    ],
)
def test_what_stands_behind_an_opening_begins_like_an_answer(text: str, rest: str) -> None:
    assert guard.without_lead_in(text) == rest


@pytest.mark.parametrize(
    ("text", "asked", "mentions"),
    [
        ("Burn the drafts.", "What now?", True),
        ("Burn the DRAFTS.", "What now?", True),
        ("Burn the drafts.", "What of my Draft?", False),
        ("Burn drafts.", "What now?", False),
        ("Burn it.", "What now?", False),
        ("Response 2 is right.", "What now?", True),
        ("Response 2 is right.", "Which draft?", True),
        ("Response 2 is right.", "Which response?", False),
    ],
)
def test_an_answer_mentions_drafts_unless_the_conversation_does(text: str, asked: str, mentions: bool) -> None:
    assert guard.mentions_drafts(text, asked) is mentions


class Stream:
    """An answer that is streamed character by character."""

    def __init__(self, question: str = "Which index?", form: AnswerFormat | None = None) -> None:
        self.said: list[str] = []
        self.opening = guard.Opening(self.said.append, question, form)

    def add(self, text: str) -> str:
        for character in text:
            self.opening.add(character)
        return "".join(self.said)


@pytest.mark.parametrize(
    ("held", "then", "said"),
    [
        # An opening about drafts is held until its next word shows where it ends.
        ("Based on the drafts, ", "use it.", ""),
        ("Based on the drafts, use", " it.", "Use it."[:3] + " "),
        ("**Base", "l", "**Basel"),
        ("Given", "ness", ""),
        ("According to the rain", ".", "According to the rain."),
        ("From here", "\nOn", "From here\nO"),
        ("Here is", ":", "Here is:"),
        # A refusal is held, and so is a verdict on drafts.
        ("I can't", " think of it as one of them", "I can't think of it as one"),
        ("Draft", "y rooms", "Drafty"),
    ],
)
def test_what_may_be_an_opening_is_held_until_it_is_decided(held: str, then: str, said: str) -> None:
    stream = Stream()
    assert stream.add(held) == ""
    assert stream.add(then).startswith(said)


def test_an_opening_is_held_for_two_hundred_characters_at_most() -> None:
    stream = Stream()
    assert stream.add("According to " + "w" * 186) == ""
    assert len(stream.add("w")) == 200


def test_who_asks_about_drafts_waits_for_no_opening() -> None:
    stream = Stream("Which Draft is better?")
    assert stream.add("Ba") == "Ba"
    assert stream.add("sed on the drafts, it is so.") == "Based on the drafts, it is so."


def test_an_empty_piece_is_not_passed_on() -> None:
    stream = Stream()
    stream.add("LSM-trees")
    before = len(stream.said)
    stream.opening.add("")
    stream.opening.close()
    assert len(stream.said) == before
    assert "".join(stream.said) == "LSM-trees"


def test_what_is_held_is_passed_on_once_when_the_answer_ends() -> None:
    stream = Stream()
    assert stream.add("Here") == ""
    stream.opening.close()
    stream.opening.close()
    assert stream.said == ["Here"]
    assert stream.add(" it is") == "Here it is"


def test_json_is_passed_on_from_its_first_sign_and_prose_before_it_never() -> None:
    form = AnswerFormat({"type": "json_object"})
    stream = Stream(form=form)
    assert stream.add(" \n") == ""
    assert stream.add("{") == " \n{"
    assert stream.add('"a": 1}') == ' \n{"a": 1}'
    stream = Stream(form=form)
    assert stream.add('So: {"a": 1}') == ""
    stream.opening.close()
    assert stream.said == []
