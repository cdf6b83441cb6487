"""Checks of what a caller sets: each value that cannot be gets one sentence, before anything is sent."""

import math
from typing import Any

import msgspec

from mixtura.answer_format import answer_format
from mixtura.caller_options import wants_json, with_named_fields
from mixtura.chat import NO_OPTIONS, ChatOptions, tool_name
from mixtura.errors import InputError
from mixtura.recipe_checks import check_sampling

_CHOICES = ("auto", "none", "required")


def checked_options(given: object) -> ChatOptions:
    """Return a caller's options, with what `extra` says of a field that has a name of its own moved there.

    Tools that the model may not call are taken out.

    Raises:
        InputError: a value cannot be, or two exclude each other.
    """
    if given is None or given == NO_OPTIONS:
        return NO_OPTIONS
    if not isinstance(given, ChatOptions):
        raise InputError(f"options: expected ChatOptions, got {type(given).__name__}")
    try:
        # Nobody checks a struct's types when it is made.
        given = msgspec.convert(msgspec.to_builtins(given), ChatOptions)
    except (msgspec.ValidationError, TypeError) as error:
        raise InputError(f"options: {_explained(str(error))}") from None
    options = with_named_fields(given)
    try:
        options = msgspec.convert(msgspec.to_builtins(options), ChatOptions)
        check_sampling(options.temperature, options.top_p, options.max_tokens)
    except (msgspec.ValidationError, ValueError) as error:
        raise InputError(f"options: {_explained(str(error))}") from None
    for name in ("reasoning_effort", "service_tier", "user"):
        if getattr(options, name) == "":
            raise InputError(f"options: {name}: expected text, got ''")
    stops = [options.stop] if isinstance(options.stop, str) else options.stop or []
    if not all(stops):
        raise InputError("options: stop: expected texts that are not empty")
    for url in options.images or ():
        if not url.startswith(("http://", "https://", "data:image/")):
            raise InputError(f"options: images: expected http(s) or data:image/ URLs, got {url[:40]!r}")
    try:
        msgspec.json.encode(options)
    except UnicodeEncodeError as error:
        raise InputError(f"options: not valid text: {error.reason}; read it as UTF-8 before asking") from None
    options = _checked_format(_checked_tools(options))
    return NO_OPTIONS if options == NO_OPTIONS else options


def _checked_tools(options: ChatOptions) -> ChatOptions:
    names: list[str] = []
    for place, tool in enumerate(options.tools or ()):
        name = tool_name(tool)
        if not name:
            raise InputError(
                f"options: tools: expected a function with a name, got {str(tool)[:60]} (tool {place + 1})"
            )
        if name in names:
            raise InputError(f"options: tools: two are named {name!r}")
        names.append(name)
    choice: Any = options.tool_choice
    named = tool_name(choice) if isinstance(choice, dict) else None
    if choice is not None and choice not in _CHOICES and not (isinstance(choice, dict) and isinstance(named, str)):
        raise InputError(
            f"options: tool_choice: expected {', '.join(_CHOICES)} or "
            f"{{type: function, function: {{name}}}}, got {choice!r}"
        )
    if named is not None and named not in names:
        raise InputError(f"options: tool_choice: no tool is named {named!r}")
    if choice == "required" and not names:
        raise InputError("options: tool_choice: 'required' needs tools")
    if not names or choice == "none":
        return msgspec.structs.replace(options, tools=None, tool_choice=None, parallel_tool_calls=None)
    return options


def _checked_format(options: ChatOptions) -> ChatOptions:
    # A schema that is none is refused here.
    if answer_format(options.response_format) is None:
        return msgspec.structs.replace(options, response_format=None)
    if wants_json(options) and options.tools:
        raise InputError(
            "options: expected either tools or a response_format of JSON, not both; "
            "a tool can have the answer's fields as its parameters"
        )
    return options


def _explained(problem: str) -> str:
    """Return msgspec's words with the field first."""
    said, _, path = problem.partition(" - at `$.")
    return f"{path.rstrip('`')}: {said[:1].lower()}{said[1:]}" if path else problem


def is_number(value: object) -> bool:
    """Say whether `value` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
