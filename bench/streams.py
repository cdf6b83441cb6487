"""The same mixture with its answer streamed: what a client pays to show the answer while it is being written.

`bare` reads three whole replies and one stream of chunks, the least that a client on aiohttp can do for that.
`ours` is `Mixture.stream`, with only the answer watched or every call.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Literal

import aiohttp
import msgspec

from bench.pipelines import (
    AGGREGATOR,
    PLAIN,
    QUESTION,
    Ask,
    BareClient,
    MakePipeline,
    Said,
    compose_messages,
    mixture_of,
)
from mixtura.events import AnswerDelta


class _Choice(msgspec.Struct):
    delta: Said


class _Chunk(msgspec.Struct):
    choices: list[_Choice]


@contextlib.asynccontextmanager
async def bare(url: str) -> AsyncIterator[Ask]:
    """Make the pipeline of three whole replies and one stream, read as it arrives."""
    decode = msgspec.json.Decoder(_Chunk).decode
    async with aiohttp.ClientSession() as session:
        client = BareClient(session, url)

        async def mixture() -> str:
            said: list[str] = []
            rest = b""
            drafts = await client.drafts()
            async with client.post(AGGREGATOR, compose_messages(drafts), 0.3, stream=True) as response:
                # By hand: aiohttp's own iteration over lines costs more than all the rest here.
                async for data in response.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        if line.startswith(b"data: {"):
                            piece = decode(line[6:]).choices[0].delta.content
                            if piece:
                                said.append(piece)
            return "".join(said)

        yield mixture


def ours(watch: Literal["answer", "calls"]) -> MakePipeline:
    """Return Mixtura's library as a pipeline that shows the answer as it is written, with "calls" the drafts too."""

    @contextlib.asynccontextmanager
    async def make(url: str) -> AsyncIterator[Ask]:
        mixture = mixture_of(PLAIN, url)

        async def ask() -> str:
            stream = mixture.stream(QUESTION, watch=watch)
            return "".join([event.text async for event in stream if type(event) is AnswerDelta])

        yield ask

    return make
