"""The sources of the simulated models' text: a function, a script file, recordings, or filler.

A script is TOML with `[[rules]]` tables, or JSONL with one rule a line. The first rule that matches answers:

    [[rules]]
    model = "openai/gpt-oss-120b"       # omit it to match any model
    contains = "Draft 1"                # in the last user message; or `matches`, a regular expression
    call = 2                            # only the second call that matches
    text = "The answer is {1}."         # {1}, {2}: groups of `matches`; {model}, {call}
    reasoning = "..."
    finish_reason = "length"
    tool_calls = [{ name = "weather", arguments = '{"city": "Florence"}' }]
    fault = "cut=2"                     # as in mixtura.sim.faults: kind or kind=value
"""

import random
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec

from mixtura.chat import JsonObject
from mixtura.errors import ConfigError
from mixtura.input_files import cause_of, read_input, shown_name, utf8_text
from mixtura.models.recorded import RecordingIndex, count_tokens
from mixtura.sim.faults import parse_faults
from mixtura.sim.schemas import sample

SIMULATED = "This is a simulated answer: no model was asked."
"""The default text of an unscripted model. The number of the call follows it, so that answers differ."""
_FENCED_JSON = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)
_WORDS = (
    "the a small large model answer draft round token window queue first last other each same new old and or "
    "but of to in on with from that this it we they is are was can may will gives takes holds keeps sees makes"
)

# Bytes of a script.
_MOST = 64_000_000


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call by a simulated model. `arguments` is JSON text."""

    name: str
    arguments: str = "{}"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A simulated model's reply.

    An empty `finish_reason` lets the cloud decide. `fault` is `kind` or `kind=value`, as in `mixtura.sim.faults`.
    """

    text: str | None = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = ""
    fault: str = ""


ReplyFunction = Callable[[JsonObject, int], Reply | str | None]
"""Takes a request body and the number of the call (from 1). None passes the request on to the next source."""


class _ScriptRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str = ""
    contains: str = ""
    matches: str = ""
    call: int | None = None
    text: str | None = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = ""
    fault: str = ""


class ReplyScript:
    """Rules read from a file. Each rule counts the calls that match it."""

    def __init__(self, rules: list[_ScriptRule]) -> None:
        self._rules = rules
        self._seen = [0] * len(rules)

    @classmethod
    def load(cls, path: Path) -> "ReplyScript":
        """Read a script file.

        Raises:
            ConfigError: the file cannot be read or a rule is invalid. The message names the file and the rule.
        """
        try:
            text = utf8_text(read_input(path, _MOST))
            if path.suffix == ".toml":
                rows = tomllib.loads(text)["rules"]
            else:
                rows = [msgspec.json.decode(line) for line in text.split("\n") if line.strip()]
        except KeyError:
            raise ConfigError(f"{shown_name(path)}: expected at least one [[rules]] table") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{shown_name(path)}: cannot be read as a script: {cause_of(error)}") from error
        if not isinstance(rows, list):
            raise ConfigError(f"{shown_name(path)}: expected at least one [[rules]] table")
        rules = []
        for number, row in enumerate(rows, start=1):
            try:
                rules.append(msgspec.convert(row, _ScriptRule))
                re.compile(rules[-1].matches)
                parse_faults(rules[-1].fault)
            except (msgspec.ValidationError, re.error, ConfigError) as error:
                raise ConfigError(f"{path}, rule {number}: {error}") from error
        return cls(rules)

    def reply(self, request: JsonObject, call: int) -> Reply | None:
        """Return the reply of the first rule that matches, None when none does."""
        model, user_text = request["model"], last_user_text(request)
        for place, rule in enumerate(self._rules):
            match = re.search(rule.matches, user_text)
            if rule.model not in ("", model) or rule.contains not in user_text or not match:
                continue
            self._seen[place] += 1
            if rule.call not in (None, self._seen[place]):
                continue
            words = {"model": model, "call": str(call)}
            words |= {str(number): group or "" for number, group in enumerate(match.groups(), start=1)}
            return Reply(
                text=None if rule.text is None else _fill(rule.text, words),
                reasoning=_fill(rule.reasoning, words),
                tool_calls=rule.tool_calls,
                finish_reason=rule.finish_reason,
                fault=rule.fault,
            )
        return None


class ReplySources:
    """Tries the sources in order: the function, the script, the recordings, then filler or a fixed sentence."""

    def __init__(
        self,
        function: ReplyFunction | None = None,
        script: ReplyScript | None = None,
        recordings: RecordingIndex | None = None,
        tokens: int | None = None,
    ) -> None:
        self._function = function
        self._script = script
        self._recordings = recordings
        self._tokens = tokens

    def reply(self, request: JsonObject, call: int, rng: random.Random, *, reasons: bool) -> Reply:
        """Return the model's reply to `request`. With `reasons`, unscripted replies contain some reasoning."""
        reply: Reply | str | None = self._function(request, call) if self._function else None
        if reply is None and self._script:
            reply = self._script.reply(request, call)
        if reply is None and self._recordings:
            reply = self._recordings.output(request["model"], last_user_text(request))
            wants = (request.get("response_format") or {}).get("type", "text")
            fenced = _FENCED_JSON.search(reply) if reply and wants != "text" else None
            reply = fenced[1] if fenced else reply  # in JSON mode a model cannot write the fence
        if isinstance(reply, str):
            reply = Reply(text=reply)
        return reply or self._default_reply(request, call, rng, reasons=reasons)

    def _default_reply(self, request: JsonObject, call: int, rng: random.Random, *, reasons: bool) -> Reply:
        reasoning = "A simulated thought." if reasons else ""
        choice = request.get("tool_choice")
        tools = [tool["function"] for tool in request.get("tools") or () if tool.get("function")]
        if tools and (choice == "required" or isinstance(choice, dict)):
            wanted = choice["function"]["name"] if isinstance(choice, dict) else tools[0]["name"]
            schema = next((tool.get("parameters") for tool in tools if tool["name"] == wanted), None)
            arguments = msgspec.json.encode(sample(schema)).decode()
            return Reply(text=None, reasoning=reasoning, tool_calls=(ToolCall(name=wanted, arguments=arguments),))
        response_format = request.get("response_format") or {}
        if response_format.get("type") == "json_schema":
            body = sample((response_format.get("json_schema") or {}).get("schema"))
            return Reply(text=msgspec.json.encode(body).decode(), reasoning=reasoning)
        if response_format.get("type") == "json_object":
            if (described := _schema_in_words(request)) is not None:
                return Reply(text=msgspec.json.encode(sample(described)).decode(), reasoning=reasoning)
            return Reply(text='{"answer":"simulated"}', reasoning=reasoning)
        if self._tokens is not None:
            return Reply(text=filler(self._tokens, rng), reasoning=reasoning)
        return Reply(text=f"{SIMULATED} (Call {call}.)", reasoning=reasoning)


def filler(tokens: int, rng: random.Random) -> str:
    """Return meaningless words that count as exactly `tokens` tokens. The words depend on `rng` alone."""
    known = _WORDS.split()
    words = [rng.choice(known) for _ in range(tokens)]
    text = " ".join(words)
    assert count_tokens(text) == tokens, "each word is one token"
    return text


def _schema_in_words(request: JsonObject) -> JsonObject | None:
    """Return the JSON schema that stands at the end of a system message, None where there is none."""
    for turn in request["messages"]:
        text = text_of(turn) if turn.get("role") == "system" else ""
        at = text.find("\n{")
        while at >= 0:
            try:
                found = msgspec.json.decode(text[at:])
            except msgspec.DecodeError:
                at = text.find("\n{", at + 1)
                continue
            return found if isinstance(found, dict) else None
    return None


def last_user_text(request: JsonObject) -> str:
    """Return the text of the last user message in a request body, "" when there is none."""
    for turn in reversed(request.get("messages") or []):
        if turn.get("role") == "user":
            return text_of(turn)
    return ""


def text_of(turn: JsonObject) -> str:
    """Return a message's text: its string, or its text parts joined by newlines."""
    content = turn.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _fill(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: words.get(match[1], match[0]), text)
