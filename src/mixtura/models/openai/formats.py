"""Answers in JSON (`response_format`): what is sent to a model that takes less than was asked for.

    asked for                    the model takes      what is sent
    json_schema                  schemas, or unknown  as given
    json_schema                  schemas, as a help   without `strict`
    json_schema                  no schemas           json_object, and the schema in words
    json_schema or json_object   none beside tools    of a request with tools nothing, and the format in words
    json_schema or json_object   no format at all     nothing, and the format in words
    json_object                  objects              as given; words where no message speaks of JSON

The words stand at the end of the system message. A format in `options.extra` is sent as given.
"""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from mixtura.chat import ChatOptions, JsonObject, Message
from mixtura.errors import ModelError

Schemas = Literal["strict", "best_effort", "none"]
"""Whether a model keeps to a JSON schema, takes one as a help, or takes none."""

_JSON_KINDS = ("json_schema", "json_object")
# Servers insist that the word JSON stands in the messages when they are asked for a json_object.
_WORDS = "nswer with one JSON object and nothing else, no explanation and no code fence."
_SCHEMA = " It must be valid by this JSON schema"
_REFUSING_STATUS = frozenset({400, 422})
_FORMAT = re.compile(r"response[_ ]?format|json[_ ](?:schema|object|mode)|structured[_ ]outputs?", re.IGNORECASE)
_STREAM = re.compile(r"stream", re.IGNORECASE)
_TOOLS = re.compile(r"\btools?\b|function[_ ]call", re.IGNORECASE)
_UNSUPPORTED = re.compile(
    r"\b(?:not|cannot|can't|doesn't|isn't)\b[^.]{0,40}?\b(?:support|available|allowed|accept|permitted|implement)"
    r"|\bun(?:supported|available)\b|\bshould be\b|\bmust be (?:one of|either)",
    re.IGNORECASE,
)
# A server that names a fault of the schema itself takes schemas.
_BAD_SCHEMA = re.compile(r"\binvalid (?:json[_ ])?schema\b|\bschema_(?:code|path)\b|\bin context=", re.IGNORECASE)


class Formats(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes of answers in JSON; a server's refusals can lessen it.

    Attributes:
        schemas: what it makes of a schema; None where that is not known.
        objects: it takes a format at all.
        streamed: a reply in JSON may be streamed.
        beside_tools: a request may hold a format and tools.
    """

    schemas: Schemas | None = None
    objects: bool = True
    streamed: bool = True
    beside_tools: bool = True

    def may_stream(self, options: ChatOptions) -> bool:
        """Say whether the reply to a request with `options` may be streamed."""
        if self.streamed or _kind(_asked(options)) not in _JSON_KINDS:
            return True
        return bool(options.tools) and not self.beside_tools and "response_format" not in options.extra

    def write(self, body: JsonObject, options: ChatOptions) -> None:
        """Put what the model takes of the format that `options` ask for into `body`, whose messages are Mixtura's."""
        asked, kind = options.response_format, _kind(options.response_format)
        if asked is None or kind not in _JSON_KINDS or "response_format" in options.extra:
            return
        if (options.tools and not self.beside_tools) or not self.objects:
            del body["response_format"]
        elif kind == "json_schema" and self.schemas == "none":
            body["response_format"] = {"type": "json_object"}
        elif kind == "json_object" and not any("json" in said.text.casefold() for said in body["messages"]):
            # Groq and OpenAI refuse a json_object of which no message speaks.
            pass
        else:
            described = asked.get("json_schema")
            if self.schemas == "best_effort" and isinstance(described, dict) and "strict" in described:
                lesser = {name: value for name, value in described.items() if name != "strict"}
                body["response_format"] = {**asked, "json_schema": lesser}
            return
        body["messages"] = _with_words(body["messages"], _words(asked, tools=bool(options.tools)))

    def lessened(self, options: ChatOptions, error: ModelError, *, streamed: bool) -> "Formats | None":
        """Return what the model takes by its refusal of a request; None where that is not why it was refused."""
        asked = _asked(options)
        if error.status not in _REFUSING_STATUS or _kind(asked) not in _JSON_KINDS or not _FORMAT.search(error.reason):
            return None
        ours = "response_format" not in options.extra
        if streamed and self.streamed and _STREAM.search(error.reason):
            return msgspec.structs.replace(self, streamed=False)
        if ours and options.tools and self.beside_tools and _TOOLS.search(error.reason):
            return msgspec.structs.replace(self, beside_tools=False)
        schema = ours and _kind(asked) == "json_schema" and self.schemas != "none"
        if schema and _UNSUPPORTED.search(error.reason) and not _BAD_SCHEMA.search(error.reason):
            return msgspec.structs.replace(self, schemas="none")
        if ours and not schema and self.objects and _UNSUPPORTED.search(error.reason):
            return msgspec.structs.replace(self, objects=False)
        return None

    def and_less(self, other: "Formats") -> "Formats":
        """Return what is left of these by a refusal that was answered with `other`."""
        return Formats(
            schemas="none" if "none" in (self.schemas, other.schemas) else self.schemas,
            objects=self.objects and other.objects,
            streamed=self.streamed and other.streamed,
            beside_tools=self.beside_tools and other.beside_tools,
        )


def asks_format(options: ChatOptions) -> bool:
    """Say whether `options` ask for an answer in JSON."""
    return (options.response_format is not None or bool(options.extra)) and _kind(_asked(options)) in _JSON_KINDS


def format_words(options: ChatOptions) -> str:
    """Return the words for the format that `options` ask for, "" where it is never put into words.

    A model that takes the format itself is not sent them; a schema takes about as many tokens either way.
    """
    asked = _asked(options)
    kind = _kind(asked)
    if asked is None or kind not in _JSON_KINDS:
        return ""
    return _words(asked, tools=bool(options.tools))


def _asked(options: ChatOptions) -> JsonObject | None:
    """Return the format asked for; that of `extra` has the last word."""
    if options.extra and "response_format" in options.extra:
        asked = options.extra["response_format"]
        return asked if isinstance(asked, dict) else None
    return options.response_format


def _kind(asked: JsonObject | None) -> object:
    return None if asked is None else asked.get("type")


def _words(asked: JsonObject, *, tools: bool) -> str:
    words = ("If you call no tool, a" if tools else "A") + _WORDS
    described = asked.get("json_schema")
    if not isinstance(described, dict) or not described.get("schema"):
        return words
    about = described.get("description")
    schema = msgspec.json.encode(described["schema"]).decode()
    return f"{words}{_SCHEMA}{f' ({about})' if isinstance(about, str) and about else ''}:\n{schema}"


def _with_words(messages: Sequence[Message], words: str) -> tuple[Message, ...]:
    """Return `messages` with `words` at the end of the first system message, which is made where there is none."""
    for place, message in enumerate(messages):
        if message.role in ("system", "developer"):
            content = message.content
            more = (
                [*content, {"type": "text", "text": words}]
                if isinstance(content, list)
                else f"{content}\n\n{words}"
                if content
                else words
            )
            said = msgspec.structs.replace(message, content=more)
            return (*messages[:place], said, *messages[place + 1 :])
    return (Message(role="system", content=words), *messages)
