"""What a verb may ask of the answer (`ChatOptions`), and the prompts as they were sent."""

import base64
import mimetypes
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from mixtura.chat import ChatOptions, Message
from mixtura.cli.common import amount, notice
from mixtura.columns import safe
from mixtura.errors import InputError
from mixtura.events import CallStarted, Event, RunStarted
from mixtura.input_files import cause_of, read_input, shown_name, utf8_text

_Function = TypeVar("_Function", bound=Callable[..., Any])
# An image is sent in the request, so a film or an archive that is given by mistake must not be read whole.
_MOST_IMAGE = 20_000_000


class AnswerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command line, by their names."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    schema: str | None = None
    images: tuple[str, ...] = ()

    def chat(self) -> ChatOptions | None:
        """Return them as a caller of the library sets them; None for none.

        Raises:
            InputError: a file cannot be read or is not what it should be.
        """
        if self == AnswerOptions():
            return None
        return ChatOptions(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=list(self.stop) or None,
            response_format=None if self.schema is None else _format(self.schema),
            images=[_image(given) for given in self.images] or None,
        )


def answer_options(function: _Function) -> _Function:
    """Add `--max-tokens`, `--temperature`, `--top-p`, `--stop`, `--schema` and `--image`."""
    for option in reversed(
        (
            click.option("--max-tokens", type=int, help="The most tokens the answer may have, reasoning included."),
            click.option(
                "--temperature", metavar="NUMBER", callback=amount, help="Of the model that writes the answer, 0 to 2."
            ),
            click.option("--top-p", metavar="NUMBER", callback=amount, help="Of the same model, up to 1."),
            click.option("--stop", metavar="TEXT", multiple=True, help="End the answer before TEXT; can be repeated."),
            click.option(
                "--schema", metavar="FILE", help="Answer in JSON that holds the schema in FILE; {} for any object."
            ),
            click.option(
                "--image",
                "images",
                metavar="FILE",
                multiple=True,
                help="Show an image (file or URL) with the question.",
            ),
        )
    ):
        function = option(function)
    return function


def _format(file: str) -> dict[str, Any]:
    """Return the `response_format` for the schema in `file`."""
    try:
        schema = {} if file.strip() == "{}" else msgspec.json.decode(utf8_text(read_input(file)))
    except OSError as error:
        raise InputError(f"--schema {shown_name(file)}: cannot be read: {cause_of(error)}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"--schema {shown_name(file)}: not JSON: {cause_of(error)}") from None
    if not isinstance(schema, dict):
        raise InputError(f"--schema {file}: expected a JSON schema, which is an object")
    if not schema:
        return {"type": "json_object"}
    if isinstance(schema.get("json_schema"), dict):
        schema = schema["json_schema"]
    if isinstance(schema.get("schema"), dict) and "properties" not in schema:
        # The form in which a request carries it: {"name": ..., "schema": ...}.
        schema = schema["schema"]
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _image(given: str) -> str:
    """Return a URL as it is, and a file as a data URL."""
    if given.startswith(("http://", "https://", "data:")):
        return given
    kind = mimetypes.guess_type(given)[0] or ""
    if not kind.startswith("image/"):
        raise InputError(f"--image {given}: expected a file that is named like an image (.png, .jpg, ...)")
    try:
        return f"data:{kind};base64,{base64.b64encode(read_input(given, _MOST_IMAGE)).decode()}"
    except (OSError, ValueError) as error:
        raise InputError(f"--image {shown_name(given)}: cannot be read: {cause_of(error)}") from None


def write_prompts(events: Sequence[Event]) -> None:
    """Write every prompt of one or more runs on stderr, in the order of the calls."""
    conversation: Sequence[Message] | None = None
    for event in events:
        if isinstance(event, RunStarted):
            conversation = event.conversation
        if not isinstance(event, CallStarted):
            continue
        reads = f", reads the drafts of calls {', '.join(map(str, event.reads))}" if event.reads else ""
        notice(f"--- call {event.call}: {event.role} {safe(event.model)} on {safe(event.provider)}{reads}")
        for message in event.messages or conversation or ():
            notice(f"[{message.role}]\n{safe(message.text)}")
