"""Where the simulated models' words come from: a function, a script file, recordings, or filler.

A script is TOML with `[[rules]]` tables, or JSONL with one rule a line; the first rule that fits answers:

    [[rules]]
    model = "openai/gpt-oss-120b"       # any model when left out
    contains = "Draft 1"                # in the last user message; or `matches`, a regular expression
    call = 2                            # only the second call that fits
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
from typing import Any

import msgspec

from mixtura.chat import JsonObject
from mixtura.errors import ConfigError
from mixtura.models.recorded import Recordings, count_tokens
from mixtura.sim.faults import parse_faults

SIMULATED = "This is a simulated answer: no model was asked."
"""What an unscripted model says, followed by the number of the call: real models do not answer all alike."""
_FENCED_JSON = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)
_WORDS = (
    "the a small large model answer draft round token window queue first last other each same new old and or "
    "but of to in on with from that this it we they is are was can may will gives takes holds keeps sees makes"
)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call a simulated model makes; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulated model says. `finish_reason` "" lets the cloud decide; `fault` is `kind` or `kind=value`."""

    text: str | None = ""
    reasoning: str = ""
    tool_calls: tuple[Call, ...] = ()
    finish_reason: str = ""
    fault: str = ""


ReplyFunction = Callable[[JsonObject, int], Reply | str | None]
"""Takes a request body and the number of the call, counting from 1; None leaves it to the next source."""


class _Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str = ""
    contains: str = ""
    matches: str = ""
    call: int | None = None
    text: str | None = ""
    reasoning: str = ""
    tool_calls: tuple[Call, ...] = ()
    finish_reason: str = ""
    fault: str = ""


class Script:
    """Rules read from a file; each counts the calls that fit it."""

    def __init__(self, rules: list[_Rule]) -> None:
        self._rules = rules
        self._seen = [0] * len(rules)

    @classmethod
    def load(cls, path: Path) -> "Script":
        """Read a script file.

        Raises:
            ConfigError: the file cannot be read or a rule is wrong; the text names the file and the rule.
        """
        try:
            text = path.read_text("utf-8")
            if path.suffix == ".toml":
                rows = tomllib.loads(text)["rules"]
            else:
                rows = [msgspec.json.decode(line) for line in text.split("\n") if line.strip()]
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.DecodeError, KeyError) as error:
            raise ConfigError(f"{path}: cannot be read as a script: {error!r}") from error
        rules = []
        for number, row in enumerate(rows, start=1):
            try:
                rules.append(msgspec.convert(row, _Rule))
                re.compile(rules[-1].matches)
                parse_faults(rules[-1].fault)
            except (msgspec.ValidationError, re.error, ConfigError) as error:
                raise ConfigError(f"{path}, rule {number}: {error}") from error
        return cls(rules)

    def reply(self, request: JsonObject, call: int) -> Reply | None:
        """Return the reply of the first rule that fits, None when none does."""
        model, asked = request["model"], last_user_text(request)
        for place, rule in enumerate(self._rules):
            found = re.search(rule.matches, asked)
            if rule.model not in ("", model) or rule.contains not in asked or not found:
                continue
            self._seen[place] += 1
            if rule.call not in (None, self._seen[place]):
                continue
            words = {"model": model, "call": str(call)}
            words |= {str(number): group or "" for number, group in enumerate(found.groups(), start=1)}
            return Reply(
                text=None if rule.text is None else _filled(rule.text, words),
                reasoning=_filled(rule.reasoning, words),
                tool_calls=rule.tool_calls,
                finish_reason=rule.finish_reason,
                fault=rule.fault,
            )
        return None


class Replies:
    """All sources in order: the function, the script, the recordings, then filler or one plain sentence."""

    def __init__(
        self,
        function: ReplyFunction | None = None,
        script: Script | None = None,
        recordings: Recordings | None = None,
        tokens: int | None = None,
    ) -> None:
        self._function = function
        self._script = script
        self._recordings = recordings
        self._tokens = tokens

    def reply(self, request: JsonObject, call: int, rng: random.Random, *, reasons: bool) -> Reply:
        """Return what the model says to `request`; `reasons` gives unscripted replies a thought."""
        told = self._function(request, call) if self._function else None
        if told is None and self._script:
            told = self._script.reply(request, call)
        if told is None and self._recordings:
            told = self._recordings.output(request["model"], last_user_text(request))
            wants = (request.get("response_format") or {}).get("type", "text")
            fenced = _FENCED_JSON.search(told) if told and wants != "text" else None
            told = fenced[1] if fenced else told  # under JSON mode the model could not have written the fence
        if isinstance(told, str):
            told = Reply(text=told)
        return told or self._unscripted(request, call, rng, reasons=reasons)

    def _unscripted(self, request: JsonObject, call: int, rng: random.Random, *, reasons: bool) -> Reply:
        reasoning = "A simulated thought." if reasons else ""
        choice = request.get("tool_choice")
        tools = [tool["function"] for tool in request.get("tools") or () if tool.get("function")]
        if tools and (choice == "required" or isinstance(choice, dict)):
            wanted = choice["function"]["name"] if isinstance(choice, dict) else tools[0]["name"]
            schema = next((tool.get("parameters") for tool in tools if tool["name"] == wanted), None)
            arguments = msgspec.json.encode(sample(schema)).decode()
            return Reply(text=None, reasoning=reasoning, tool_calls=(Call(name=wanted, arguments=arguments),))
        asked = request.get("response_format") or {}
        if asked.get("type") == "json_schema":
            body = sample((asked.get("json_schema") or {}).get("schema"))
            return Reply(text=msgspec.json.encode(body).decode(), reasoning=reasoning)
        if asked.get("type") == "json_object":
            return Reply(text='{"answer":"simulated"}', reasoning=reasoning)
        if self._tokens is not None:
            return Reply(text=filler(self._tokens, rng), reasoning=reasoning)
        return Reply(text=f"{SIMULATED} (Call {call}.)", reasoning=reasoning)


def filler(tokens: int, rng: random.Random) -> str:
    """Return words without meaning that count as `tokens` tokens; the same words for the same `rng`."""
    known = _WORDS.split()
    words = [rng.choice(known) for _ in range(tokens)]
    text = " ".join(words)
    assert count_tokens(text) == tokens, "each word is one token"
    return text


def sample(schema: Any) -> Any:
    """Return a small value that fits the common parts of a JSON schema; what is no schema gives an empty object."""
    if not isinstance(schema, dict):
        return {}
    if "const" in schema:
        return schema["const"]
    for choice in ("enum", "anyOf", "oneOf"):
        if isinstance(schema.get(choice), list) and schema[choice]:
            return schema[choice][0] if choice == "enum" else sample(schema[choice][0])
    kinds = schema.get("type", "object")
    kind = next(iter(kinds), "null") if isinstance(kinds, list) else kinds
    if kind == "array":
        return [sample(schema.get("items", {"type": "string"}))]
    plain = {"string": "simulated", "integer": 1, "number": 1.0, "boolean": True, "null": None}
    if isinstance(kind, str) and kind in plain:
        return plain[kind]
    parts = schema.get("properties")
    return {name: sample(part) for name, part in parts.items()} if isinstance(parts, dict) else {}


def last_user_text(request: JsonObject) -> str:
    """Return the text of the last user message of a request body, "" when there is none."""
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


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: words.get(found[1], found[0]), text)
