"""Calls of model files in this process, and waiting until the model's slots are free or taken."""

import asyncio
from collections.abc import Callable
from typing import Any

from mixtura.chat import ChatRequest, Message
from mixtura.models.local.llama import LlamaFile


def request_of(text: str = "hi", **given: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(Message(role="user", content=text),), **{"max_tokens": 16, **given})


async def until(holds: Callable[[], Any], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  # llama.cpp has no event for a free slot
            await asyncio.sleep(0.01)


async def idle(llama: LlamaFile) -> bool:
    return not any(slot["is_processing"] for slot in await llama.slots())


async def busy(llama: LlamaFile) -> bool:
    return any(slot["is_processing"] for slot in await llama.slots())
