"""Reasoning that stands in a model's text, moved to the field of its own. What it is: `models.reasoning`."""

from collections.abc import Collection

import msgspec

from mixtura.chat import CallContext, ChatRequest, Completion, Delta, FinishReason, OnAnswered, PartialReader, tool_name
from mixtura.models.base import ChatModel, Emit
from mixtura.models.reasoning.splitter import ThinkSplitter, split_thinking


class ThinkingApart:
    """A model whose completions never have reasoning in their `text`; what was there moves to `reasoning`."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`. See `ChatModel.chat`."""
        if emit is None:
            if request.context is not None and request.context.partial:
                request = msgspec.structs.replace(request, context=_SplitContext(request.context))
            return thinking_apart(await self._model.chat(request, deadline=deadline), tools=_wanted(request))
        splitter = ThinkSplitter(tools=_wanted(request))

        def separated(delta: Delta) -> None:
            # One that is held back came all the same: it is billed, and a sign of life.
            emit(_counted(splitter.apart(delta), delta))

        completion = await self._model.chat(request, emit=separated, deadline=deadline)
        rest = splitter.finish(cut=completion.finish_reason == "length")
        if rest.text or rest.reasoning or rest.tool_calls:
            emit(rest)
        return thinking_apart(completion, tools=_wanted(request))


def _wanted(request: ChatRequest) -> Collection[str]:
    """Return the names of the tools that may be called."""
    tools = request.options.tools
    return [name for tool in tools if (name := tool_name(tool))] if tools else ()


class _SplitContext:
    """A call's context whose reader gives the thinking in a partial reply apart from its text."""

    partial = True
    on_answered: OnAnswered | None = None

    def __init__(self, inner: CallContext) -> None:
        self.draw, self.begin, self.pause, self.waste = inner.draw, inner.begin, inner.pause, inner.waste
        self.expect_whole, self.refuse_repeat, self.share = inner.expect_whole, inner.refuse_repeat, inner.share
        self._inner = inner

    def attach(self, reader: PartialReader) -> None:
        """Attach a reader that splits what `reader` reads. See `chat.CallContext`."""
        self._inner.attach(_SplitReader(reader))

    def look(self) -> None:
        """Pass it on. See `chat.CallContext`."""
        self._inner.look()


class _SplitReader:
    """A partial reply, its thinking apart."""

    def __init__(self, reader: PartialReader) -> None:
        self._reader = reader
        self._splitter: ThinkSplitter | None = None

    def read(self) -> list[tuple[float, Delta]]:
        """Return the pieces since the last call. See `chat.PartialReader`."""
        found = []
        # Made when a piece is wanted: most replies come whole.
        splitter = self._splitter = self._splitter or ThinkSplitter()
        for at, delta in self._reader.read():
            found.append((at, _counted(splitter.apart(delta), delta)))
        return found


def _counted(split: Delta, delta: Delta) -> Delta:
    """Return `split`, what can be shown of `delta`, with the pieces that this holds."""
    return split if split.pieces == delta.pieces else msgspec.structs.replace(split, pieces=delta.pieces)


def thinking_apart(completion: Completion, *, tools: Collection[str] = ()) -> Completion:
    """Return `completion` with the reasoning in its text moved to `reasoning`.

    With names of `tools`, the tool calls that a server left in the text are moved to `tool_calls`.
    """
    split = split_thinking(completion.text, tools=tools, cut=completion.finish_reason == "length")
    if split is None:
        return completion
    text, reasoning = split.text, split.reasoning
    if reasoning in completion.reasoning:
        # Some servers say it twice: in the text, and in a field of its own.
        reasoning = completion.reasoning
    elif completion.reasoning:
        reasoning = f"{completion.reasoning}\n\n{reasoning}"
    completion = msgspec.structs.replace(completion, text=text, reasoning=reasoning)
    if not split.calls:
        return completion
    finish: FinishReason = "tool_calls" if completion.finish_reason in ("stop", "unknown") else completion.finish_reason
    calls = [*(completion.tool_calls or ()), *split.calls]
    return msgspec.structs.replace(completion, tool_calls=calls, finish_reason=finish)
