"""How far the estimate of prompt tokens is off: recorded requests whose replies say how many there were.

The recordings are YAML, of which only the parts needed here are read: bodies as JSON in quotes, or messages as a list.
"""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.limits.table import Table
from mixtura.chat import Message
from mixtura.tokens import estimate_messages, estimate_tokens

WIRE = Path(__file__).resolve().parents[2] / "../shared/data/wire"

_QUOTED_BODY = re.compile(r"^    body: '((?:[^']|'')*)'", re.MULTILINE)
_PARSED = re.compile(r"^      messages:\n(.*?)^      model: (\S+)\n", re.MULTILINE | re.DOTALL)
_TURN = re.compile(r"^      - (.*?)(?=^      - |\Z)", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^        (content|role): (.*?)(?=^        \S|\Z)", re.MULTILINE | re.DOTALL)
_USED = re.compile(r'"prompt_tokens":\s*(\d+)')


class PromptSample(NamedTuple):
    """One recorded request; `offers` tools or not, whose JSON is `tools` tokens by the same estimate (0: not read)."""

    model: str
    estimate: int
    real: int
    offers: bool
    tools: int

    @property
    def ratio(self) -> float:
        """The estimate of the messages over the truth."""
        return self.estimate / self.real

    @property
    def shown(self) -> str:
        """The figures, and what comes out where the tools count too, as `Limited` counts them."""
        more = f"; with its tools {(self.estimate + self.tools) / self.real:.2f}" if self.tools else ""
        return f"{self.ratio:.2f} ({self.estimate} / {self.real}){more}"


class _RecordedRequest(NamedTuple):
    model: str
    messages: list[Message]
    tools: int


def samples(folder: Path = WIRE) -> list[PromptSample]:
    """Return every recorded request whose reply tells its prompt tokens; one that was recorded twice counts once."""
    return list(dict.fromkeys(sample for path in sorted(folder.glob("*.yaml")) for sample in _read(path)))


def _read(path: Path) -> Iterator[PromptSample]:
    for part in re.split(r"^- (?=id: |request:)", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        said, _, replied = part.partition("\n  response:")
        used = _USED.findall(replied)
        asked = _read_request(said)
        if asked is not None and used:
            offers = '"tools":' in said or "\n      tools:" in said
            yield PromptSample(asked.model, estimate_messages(asked.messages), int(used[-1]), offers, asked.tools)


def _read_request(request: str) -> _RecordedRequest | None:
    quoted = _QUOTED_BODY.search(request)
    if quoted is not None:
        # YAML folds a line end and what it is indented by into one space, and doubles a quote.
        text = re.sub(r"\n\s+", " ", quoted[1]).replace("''", "'")
        body: dict[str, Any] = msgspec.json.decode(text)
        tools = estimate_tokens(msgspec.json.encode(body["tools"]).decode()) if body.get("tools") else 0
        return _RecordedRequest(str(body["model"]), [_message(turn) for turn in body["messages"]], tools)
    parsed = _PARSED.search(request)
    if parsed is None:
        return None
    turns = [dict(_FIELD.findall(" " * 8 + turn)) for turn in _TURN.findall(parsed[1])]
    return _RecordedRequest(
        parsed[2], [_message({key: _plain(value) for key, value in turn.items()}) for turn in turns], 0
    )


def _plain(scalar: str) -> str:
    if scalar.startswith("|"):
        return "\n".join(line[10:] for line in scalar.splitlines()[1:])
    folded = re.sub(r"\s*\n\s*", " ", scalar.strip())
    return folded[1:-1].replace("''", "'") if folded[:1] == folded[-1:] == "'" else folded


def _message(turn: dict[str, Any]) -> Message:
    return Message(role=turn["role"], content=str(turn.get("content") or ""))


def table(found: Table, folder: Path = WIRE) -> None:
    """Add a row for each recorded request, and the spread of those that offer no tools."""
    seen = samples(folder)
    if not seen:
        found.skip("estimate of prompt tokens", "the recordings are not in ../shared/data/wire")
        return
    for sample in seen:
        what = f"prompt tokens, {sample.model}, estimate / real{' (offers tools)' * sample.offers}"
        found.add(what, sample.ratio, sample.shown)
    for name, offers in (("without tools", False), ("that offer tools", True)):
        ratios = [sample.ratio for sample in seen if sample.offers is offers]
        if ratios:
            shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            found.add(f"prompt tokens, estimate / real, {len(ratios)} requests {name}", 0, shown)
    print(
        "  not in the estimate: tools (`Limited` adds their JSON), the calls of tools in a conversation, and the "
        "system text that some models' templates add; what an account learns from usage makes up for them",
        flush=True,
    )
