"""The forms in which an answer is shown and kept: one line, Markdown for a notebook, a dict, JSON."""

import html
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec

from mixtura.errors import ConfigError

if TYPE_CHECKING:
    from mixtura.events import Answer, Call

_CLIPPED = 60  # characters of a text in a line
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
# Where a link's address begins: inline, and in a definition. Whitespace may stand in between, a line break included.
_MARKUP = re.compile(r"[\\`*_{}\[\]()#+!|~$<>&\"':@-]")
_ADDRESS = re.compile(r"\](\(|:)(?!\s*(?:https?://|mailto:|#|/))")


class AnswerForms(msgspec.Struct, frozen=True, kw_only=True):
    """What every `Answer` can be turned into."""

    def to_json(self) -> bytes:
        """Return the whole answer as one JSON object; keys are the attributes, plus `n_calls`."""
        return msgspec.json.encode({**msgspec.structs.asdict(self), "n_calls": self._answer.n_calls})

    def to_dict(self) -> dict[str, Any]:
        """Return the same as a dict of dicts, lists, texts, numbers and None."""
        return cast("dict[str, Any]", msgspec.json.decode(self.to_json()))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the answer that `to_dict` was called on; keys that this version does not know are passed over.

        Raises:
            ConfigError: it is no answer.
        """
        try:
            return msgspec.convert(dict(data), cls, str_keys=True)
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise ConfigError(f"not an answer as to_dict writes it: {error}") from None

    @property
    def _answer(self) -> "Answer":
        return cast("Answer", self)

    def __repr__(self) -> str:
        answer = self._answer
        cost = "" if answer.cost is None else f", cost={answer.cost:.6f}"
        return (
            f"Answer({clipped(answer.text)!r}, status={answer.status!r}, drafts={len(answer.drafts)}, "
            f"calls={answer.n_calls}{cost}, seconds={answer.seconds:.1f})"
        )

    def _repr_markdown_(self) -> str:
        """Return what a notebook shows: the answer, its warnings, and a row a draft.

        No part of it becomes HTML or a script, loads anything, or links elsewhere than to a web or mail address.
        """
        answer = self._answer
        parts = [safe_markdown(answer.text) if answer.text else f"**No answer**: {_literal(answer.error)}"]
        parts += [f"> **Warning**: {_literal(warning)}" for warning in answer.warnings]
        if answer.drafts:
            rows = [
                f"| {_cell(draft.answered_by or draft.model)} | {_cell(draft.choice or draft.text)} | "
                f"{draft.usage.completion_tokens:,} | {draft.timing.total:.1f} |"
                for draft in answer.drafts
            ]
            parts.append("\n".join(["| draft | begins | tokens | seconds |", "|---|---|---:|---:|", *rows]))
        money = "" if answer.cost is None else f", ${answer.cost:.6f}"
        calls = f"{answer.n_calls} call{'s' * (answer.n_calls != 1)}"
        tokens = f"{answer.usage.total_tokens:,} tokens"
        parts.append(f"*{_literal(answer.recipe or 'no recipe')}: {calls}, {answer.seconds:.1f} s, {tokens}{money}*")
        return "\n\n".join(parts)


class CallForms(msgspec.Struct, frozen=True, kw_only=True):
    """What every `Call` and `Draft` can be turned into."""

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as a dict of dicts, lists, texts, numbers and None."""
        return cast("dict[str, Any]", msgspec.to_builtins(self, str_keys=True))

    def __repr__(self) -> str:
        call = cast("Call", self)
        cost = "" if call.cost is None else f", cost={call.cost:.6f}"
        return (
            f"{type(self).__name__}({call.call}, {call.role!r}, {call.model!r}, {clipped(call.text)!r}, "
            f"tokens={call.usage.total_tokens}{cost})"
        )


def clipped(text: str) -> str:
    """Return the beginning of a text as one line."""
    line = " ".join(text[: 8 * _CLIPPED].split())
    return line if len(line) <= _CLIPPED and len(text) <= 8 * _CLIPPED else line[: _CLIPPED - 1] + "…"


def safe_markdown(text: str) -> str:
    """Return a model's Markdown so that a renderer makes no HTML of the model's own from it, whatever its dialect.

    Every `<` becomes `&lt;`. Markdown would show that as it is inside code, so code becomes the HTML that Markdown
    would make of it: where the renderer disagrees about what is code, it shows too much and runs nothing.
    """
    return "\n".join(_blocks(text))


def _blocks(text: str) -> Iterator[str]:
    prose: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        opened = _FENCE.match(line)
        if opened is None:
            prose.append(line)
            continue
        if prose:
            yield _prose("\n".join(prose))
            prose = []
        yield _code_block(opened[1], opened[2], lines)
    if prose:
        yield _prose("\n".join(prose))


def _code_block(fence: str, language: str, lines: Iterator[str]) -> str:
    """Return the code up to the line that closes `fence`, or to the end."""
    closing = re.compile(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}\s*$")
    code = []
    for line in lines:
        if closing.match(line):
            break
        code.append(_without_markup(line))
    named = f' class="language-{html.escape(language)}"' if language else ""
    # An empty line would end the HTML where a renderer takes it for a block of another kind.
    inside = "\n".join(line or "&#32;" for line in code)
    return f"\n<pre><code{named}>{inside}\n</code></pre>\n"


def _prose(text: str) -> str:
    pieces, end = [], 0
    for found in _CODE.finditer(text):
        if "\n\n" not in found[2]:  # code does not go beyond its paragraph
            pieces += [_inert(text[end : found.start()]), f"<code>{_literal(found[2])}</code>"]
            end = found.end()
    return "".join([*pieces, _inert(text[end:])])


def _inert(text: str) -> str:
    """Return Markdown without HTML, images, and links to anything but web and mail addresses.

    A character as its entity is shown as ever, and is no part of the Markdown's structure; a backslash before it would
    be, together with one that the model wrote.
    """
    text = text.replace("<", "&lt;").replace("![", "&#33;[")
    return _ADDRESS.sub(lambda found: "]" + {"(": "&#40;", ":": "&#58;"}[found[1]], text)


def _literal(text: str) -> str:
    """Return a text as it is, on one line: nothing in it is Markdown."""
    return _without_markup(" ".join(text.split()))


def _without_markup(line: str) -> str:
    """Return a line with every character that Markdown or HTML has a use for as its entity."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", line)


def _cell(text: str) -> str:
    return _literal(clipped(text))
