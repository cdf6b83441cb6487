"""What the calls of a trial show, in types and in a phrase each."""

import json
import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from mixtura.chat import Completion
from mixtura.errors import ModelError, RateLimitedError, TooLargeError
from mixtura.models.openai.formats import Formats
from mixtura.models.openai.wire import Dialect
from mixtura.models.trial.calls import FIELD, CallName
from mixtura.models.wrappers.thinking import thinking_apart

Outcome = Literal[
    "works",
    "comes_whole",
    "one_piece",
    "empty",
    "called",
    "not_called",
    "broken_call",
    "json_schema",
    "json_object",
    "words",
    "not_kept",
    "cut_off",
    "field",
    "text",
    "hidden",
    "none",
    "known",
    "unknown_words",
    "cut_silently",
    "taken",
    "declined",
    "refused",
    "failed",
    "not_tried",
]
"""What came of a call. The last four can come of each."""

_SHOWN = 200
_TAG = re.compile(r"</?(think|thinking|thought|reasoning)>", re.IGNORECASE)
_PASSES = (401, 402, 403, 407, 408, 409, 425, 429)


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one call showed.

    Attributes:
        name: which call.
        outcome: what came of it.
        works: whether what it tries can be used; None where nothing is wrong and nothing was shown.
        said: the same in a phrase.
        seconds: what the call took.
        error: the kind of the error it ended in (`ModelError.kind`), "" for none.
        status: the HTTP status of that error.
    """

    name: CallName
    outcome: Outcome
    works: bool | None
    said: str
    seconds: float = 0.0
    error: str = ""
    status: int | None = None


class Pieces(msgspec.Struct):
    """The pieces of a streamed reply: how many, and the event-loop times of its begin, its first and its last one."""

    begun: float
    count: int = 0
    first: float = 0.0
    last: float = 0.0

    def note(self, now: float) -> None:
        """Count one more piece."""
        self.count += 1
        self.first = self.first or now
        self.last = now


def of_error(name: CallName, error: ModelError, seconds: float = 0.0) -> Finding:
    """Return what a failed call shows: the server refuses what was tried, the call failed, or it is not known."""
    status = error.status
    refused = status is not None and 400 <= status < 500 and status not in _PASSES
    before = "not taken: " if refused else "fails: "
    works: bool | None = False
    if isinstance(error, RateLimitedError) and name not in ("whole", "streamed"):
        before, works = "not known, since a limit is reached: ", None
    return Finding(
        name=name,
        outcome="refused" if refused else "failed",
        works=works,
        said=f"{before}{_status(status)}{quoted(error.reason)}",
        seconds=seconds,
        error=error.kind,
        status=status,
    )


def _status(status: int | None) -> str:
    return "" if status is None else f"HTTP {status} "


def not_tried(name: CallName, why: str) -> Finding:
    """Return the finding of a call that was not made."""
    return Finding(name=name, outcome="not_tried", works=None, said=f"not tried: {why}")


def of_whole(completion: Completion, most: int) -> Finding:
    """Return what a reply in one piece shows."""
    seconds = completion.timing.total
    outcome, said = _answered(completion, most, seconds)
    return Finding(name="whole", outcome=outcome, works=outcome == "works", said=said, seconds=seconds)


def _answered(completion: Completion, most: int, seconds: float) -> tuple[Outcome, str]:
    usage = completion.usage
    tokens = f"{'about ' * usage.estimated}{usage.completion_tokens} tokens in {_duration(seconds)}"
    told = "; it does not tell its usage, which is estimated" if usage.estimated else ""
    if completion.declined:
        return "works", f"works: {tokens} (the model declines this question: {quoted(completion.declined)})"
    if completion.text.strip() or completion.tool_calls:
        return "works", f"works: {tokens}{told}"
    if completion.reasoning or (completion.finish_reason == "length" and usage.completion_tokens >= most):
        return "works", f"works: {tokens}, all of them reasoning (it thinks longer than this call allows){told}"
    return "empty", f'answers with an empty text (finish reason "{completion.finish_reason}")'


def of_streamed(completion: Completion, pieces: Pieces, most: int) -> Finding:
    """Return what a streamed reply shows."""
    seconds = completion.timing.total
    outcome, said = _answered(completion, most, seconds)
    if outcome != "works":
        return Finding(name="streamed", outcome=outcome, works=False, said=said, seconds=seconds)
    told = "usage is not told, and estimated" if completion.usage.estimated else "usage comes in the last chunk"
    if pieces.count <= 1 and completion.timing.first_token in (None, seconds):
        said = f"is answered whole, after {_duration(seconds)}: nothing can be shown before"
        return Finding(name="streamed", outcome="comes_whole", works=None, said=said, seconds=seconds)
    first = max(0.0, pieces.first - pieces.begun)
    said = f"works: first token after {_duration(first)}, {pieces.count} chunk{'s' * (pieces.count != 1)}; {told}"
    if pieces.count == 1 or (pieces.last - pieces.first < 0.02 * seconds and seconds > 1.0):
        said += "; all of it comes at once, so the server, or something on the way, gathers it"
        return Finding(name="streamed", outcome="one_piece", works=True, said=said, seconds=seconds)
    return Finding(name="streamed", outcome="works", works=True, said=said, seconds=seconds)


def of_tools(completion: Completion, reply: Completion) -> Finding:
    """Return what a reply to a question with a tool shows; `reply` is the same as its server sent it."""
    outcome: Outcome
    if completion.declined:
        return _declined("tools", completion)
    calls = completion.tool_calls or []
    if calls:
        functions = [call.get("function") for call in calls]
        broken = [one for one in functions if not isinstance(one, dict) or not _is_object(one.get("arguments"))]
        many = "one call" if len(calls) == 1 else f"{len(calls)} calls"
        if broken:
            outcome, works, said = (
                "broken_call",
                False,
                f"{many}, whose arguments are no JSON: {quoted(str(broken[0]))}",
            )
        else:
            written = ", read out of the text" if not reply.tool_calls else ""
            outcome, works, said = "called", True, f"works: {many} with arguments{written}"
    elif "get_weather" in completion.text and "{" in completion.text:
        outcome, works = "broken_call", False
        said = f"taken, and the call comes as text: {quoted(completion.text)}"
    elif completion.finish_reason == "length":
        outcome, works = "cut_off", None
        said = f"taken, and cut off after {completion.usage.completion_tokens} tokens, before a call"
    else:
        outcome, works = "not_called", None
        said = f"taken, and no tool was called: {quoted(completion.text) or 'an empty text'}"
    return Finding(name="tools", outcome=outcome, works=works, said=said, seconds=completion.timing.total)


def _is_object(arguments: object) -> bool:
    try:
        return isinstance(json.loads(arguments if isinstance(arguments, str) else ""), dict)
    except (ValueError, RecursionError):
        return False


def of_json(completion: Completion, formats: Formats | None) -> Finding:
    """Return what a reply to a question for JSON shows; `formats` are what is known of the server after it."""
    if completion.declined:
        return _declined("JSON", completion)
    taken: Outcome = "json_schema"
    said = "json_schema"
    if formats is not None and not formats.objects:
        taken, said = "words", "taken as words, since no response_format is taken"
    elif formats is not None and formats.schemas == "none":
        taken, said = "json_object", "json_object only; the schema goes along in words"
    seconds = completion.timing.total
    text = completion.text
    if _keeps(text):
        said = "json_schema works" if taken == "json_schema" else f"{said}, and the reply keeps to it"
        return Finding(name="JSON", outcome=taken, works=True, said=said, seconds=seconds)
    said += " is taken" * (taken == "json_schema")
    if completion.finish_reason == "length":
        said = f"{said}; the reply was cut off after {completion.usage.completion_tokens} tokens, before it was whole"
        return Finding(name="JSON", outcome="cut_off", works=None, said=said, seconds=seconds)
    said = f"{said}, and the reply does not keep to it: {quoted(text) or 'an empty text'}"
    return Finding(name="JSON", outcome="not_kept", works=False, said=said, seconds=seconds)


def _keeps(text: str) -> bool:
    """Say whether a text holds the object that was asked for, words or a code fence around it set aside."""
    try:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except (ValueError, RecursionError):
        return False
    value = found.get(FIELD) if isinstance(found, dict) else None
    return isinstance(value, int) and not isinstance(value, bool) and len(found) == 1


def of_reasoning(replies: Sequence[Completion]) -> Finding:
    """Return where the reasoning of replies stands as their server sent them; the last one was asked to think."""
    outcome: Outcome = "none"
    said = "none"
    in_text = next((one for one in replies if _thinks_in_text(one)), None)
    in_field = any(one.reasoning for one in replies)
    hidden = max(one.usage.reasoning_tokens for one in replies)
    if in_text is not None:
        tag = _TAG.search(in_text.text)
        marks = f"in <{tag[1].lower()}>" if tag is not None else "between marks of its own"
        outcome, said = "text", f"in the text, {marks} (kept apart from the answer)"
        said += ", and in a field of its own" if in_field else ""
    elif in_field:
        outcome, said = "field", "in a field of its own"
    elif hidden:
        outcome, said = "hidden", f"counted and not shown ({hidden} tokens)"
    works = None if outcome == "none" else True
    return Finding(name="reasoning", outcome=outcome, works=works, said=said, seconds=replies[-1].timing.total)


def _thinks_in_text(reply: Completion) -> bool:
    return len(thinking_apart(reply).reasoning) > len(reply.reasoning)


def of_overflow(answer: Completion | ModelError, sent: int, seconds: float) -> Finding:
    """Return what came of a prompt of at least `sent` tokens, which is longer than the context."""
    if isinstance(answer, TooLargeError):
        said = f"is refused in words that Mixtura knows, so drafts are trimmed to fit: {quoted(answer.reason)}"
        return _of_long("known", True, said, seconds, answer)
    if isinstance(answer, ModelError):
        if answer.status is None or answer.status in _PASSES:
            return of_error("overflow", answer, seconds)
        said = f"{_status(answer.status)}{quoted(answer.reason)}: not known as a prompt that is too long"
        return _of_long("unknown_words", False, f"{said}, so nothing is trimmed", seconds, answer)
    if answer.declined:
        return _declined("overflow", answer)
    read = answer.usage.prompt_tokens
    if answer.usage.estimated:
        said = f"a prompt of {sent:,} tokens is taken, and how much of it was read is not told"
        return _of_long("taken", None, said, seconds)
    if read < sent:
        said = f"is cut without a word: of {sent:,} tokens {read:,} were read"
        return _of_long("cut_silently", False, said, seconds)
    return _of_long("taken", None, f"a prompt of {read:,} tokens is taken: its context is longer than known", seconds)


def _of_long(
    outcome: Outcome, works: bool | None, said: str, seconds: float, error: ModelError | None = None
) -> Finding:
    return Finding(
        name="overflow",
        outcome=outcome,
        works=works,
        said=said,
        seconds=seconds,
        error="" if error is None else error.kind,
        status=None if error is None else error.status,
    )


def given_up(before: Dialect | None, after: Dialect | None) -> str:
    """Return what a server's refusals have changed of how it is asked, "" for nothing."""
    if before is None or after is None or before == after:
        return ""
    fields = sorted(after.left_out - before.left_out)
    if before.usage_option and not after.usage_option:
        fields.append("stream_options")
    if before.reasoning and not after.reasoning:
        fields.append(before.reasoning)
    if before.formats.streamed and not after.formats.streamed:
        fields.append("stream beside response_format")
    if before.formats.beside_tools and not after.formats.beside_tools:
        fields.append("response_format beside tools")
    changed = f" ({after.max_tokens} in place of {before.max_tokens})" if before.max_tokens != after.max_tokens else ""
    return f"does without {', '.join(fields)}{changed}, which it refuses" if fields else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"


def _declined(name: CallName, completion: Completion) -> Finding:
    said = f"the model declines it: {quoted(completion.declined)}"
    return Finding(name=name, outcome="declined", works=None, said=said, seconds=completion.timing.total)


def quoted(text: str) -> str:
    """Return words of a server or model in quotes, on one line and not too long; "" for none."""
    line = " ".join(text[: 4 * _SHOWN].split())
    line = line if len(line) <= _SHOWN else f"{line[:_SHOWN].rstrip()}..."
    return f'"{line}"' if line else ""
