"""Serve a mixture with FastAPI: one `Mixture` for the app, answers as events, and a heartbeat while models think.

    uvicorn --app-dir examples fastapi_app:app

A client that hangs up ends its response, and the end of `async with` stops the run and every call of it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from mixtura import MixturaError, Mixture
from mixtura.events import AnswerDelta, AnswerRestarted

HEARTBEAT = 15.0  # seconds: proxies close a connection that is silent for 30 to 60


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make the mixture when the server starts; its connections end with the server's event loop."""
    app.state.mixture = Mixture("toy")
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/answer")
async def answer(question: str) -> dict[str, object]:
    """Return the whole answer."""
    try:
        found = await app.state.mixture.ask(question, deadline=20)
    except MixturaError as error:
        wait = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:.0f}"}
        raise HTTPException(error.status or 502, error.message, wait) from error
    return {"answer": found.text, "warnings": found.warnings}


@app.get("/stream")
async def stream(question: str) -> StreamingResponse:
    """Return the answer as server-sent events."""
    return StreamingResponse(told(question), media_type="text/event-stream")


async def told(question: str) -> AsyncIterator[str]:
    """Give the pieces of the answer, and a comment whenever there was nothing to say for a while."""
    async with app.state.mixture.stream(question, watch="answer", deadline=120) as events:
        while True:
            try:
                event = await asyncio.wait_for(anext(events), HEARTBEAT)
            except TimeoutError:
                yield ": still at work\n\n"
            except StopAsyncIteration:
                return
            except MixturaError as error:
                yield f"event: failed\ndata: {json.dumps(error.message)}\n\n"
                return
            else:
                if isinstance(event, AnswerRestarted):
                    yield "event: restarted\ndata:\n\n"
                elif isinstance(event, AnswerDelta):
                    yield f"data: {json.dumps(event.text)}\n\n"
