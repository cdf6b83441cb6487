"""A question as messages, checked."""

from collections.abc import Sequence

import msgspec

from mixtura.chat import JsonObject, Message
from mixtura.errors import InputError

Question = str | Sequence[Message | JsonObject]


def as_conversation(question: Question, system: str | None = None, images: Sequence[str] = ()) -> tuple[Message, ...]:
    """Return `question` as messages, the `images` (URLs) in the last one.

    A conversation that ends in the result of a tool goes on from there, whatever the result says.

    Raises:
        InputError: it is empty, holds characters that are not text, or is no conversation.
    """
    messages: list[Message] = []
    given: object = question
    if isinstance(question, str):
        messages.append(Message(role="user", content=question))
    elif not isinstance(given, Sequence):
        raise InputError(f"expected a question as text or a list of messages, got {type(given).__name__}")
    else:
        for place, said in enumerate(question):
            try:
                message = said if isinstance(said, Message) else msgspec.convert(said, Message)
                messages.append(_checked(message, said))
            except (msgspec.ValidationError, ValueError) as error:
                raise InputError(f"message {place + 1} of the conversation: {error}") from error
    last = messages[-1] if messages else None
    if last is None or not (last.text.strip() or _has_parts(last) or last.role in ("tool", "function") or images):
        raise InputError("the question is empty")
    if images:
        if last.role != "user":
            raise InputError(f"images: expected a conversation that ends in a question, not in a turn of {last.role!r}")
        parts = last.content if isinstance(last.content, list) else [{"type": "text", "text": last.text}]
        shown = [{"type": "image_url", "image_url": {"url": url}} for url in images]
        messages[-1] = msgspec.structs.replace(last, content=[*parts, *shown])
    prompt: object = system
    if prompt is not None and not isinstance(prompt, str):
        raise InputError(f"system: expected text, got {type(prompt).__name__}")
    if system:
        messages.insert(0, Message(role="system", content=system))
    for message in messages:
        text = message.text
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise InputError(
                    f"the question is not valid text: a lone surrogate at character {error.start + 1}; "
                    "read it as UTF-8 before asking"
                ) from error
    return tuple(messages)


def _checked(message: Message, given: object) -> Message:
    """Return `message` if it can be sent; nobody checks a struct's types when it is made.

    Raises:
        ValueError: it cannot; the text says why.
    """
    content: object = message.content
    if not isinstance(content, str | list | None):
        raise ValueError(f"content: expected text or a list of parts, got {type(content).__name__}")
    if isinstance(given, dict) and given.get("function_call") and not message.tool_calls:
        raise ValueError("function_call: write it as tool_calls, which took its place")
    for call in message.tool_calls or ():
        if not isinstance(call.get("function") or call.get(call.get("type") or "function"), dict):
            raise ValueError("tool_calls: expected {id, type: function, function: {name, arguments}}")
    if message.tool_calls:
        try:
            msgspec.json.encode(message.tool_calls)
        except UnicodeEncodeError as error:
            raise ValueError(f"tool_calls: not valid text: {error.reason}") from None
    return message


def _has_parts(message: Message) -> bool:
    return isinstance(message.content, list) and any(part.get("type") != "text" for part in message.content)
