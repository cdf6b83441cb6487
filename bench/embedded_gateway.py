"""TensorZero's gateway inside this process as a pipeline: `experimental_mixture_of_n`, in Rust, driven from Python.

What was seen of release 2026.6.0 on the wire: the candidates are asked at the same time and never streamed; the fuser
is, when the inference is. The fuser's prompt holds the gateway's own instructions (0.8 kB) and the drafts as JSON
content blocks. Requests are HTTP/1.1 over kept connections, with the output limit as `max_completion_tokens` and the
temperature as a 32-bit float. Reading SSL_CERT_FILE, it trusts the authority named there. Without observability and
analytics, as here, it connects to nothing but the models.
"""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.pipelines import AGGREGATOR, KEY, PROPOSERS, QUESTION, Ask, MakePipeline

_KEY_VARIABLE = "MIXTURA_BENCH_KEY"
_INPUT = {"messages": [{"role": "user", "content": QUESTION}]}


def configuration(url: str) -> str:
    """Return the gateway's configuration: the plain recipe, its models behind the server at `url`."""
    lines = [
        "[gateway]",
        "disable_pseudonymous_usage_analytics = true",
        "observability.enabled = false",
        "[functions.mixture]",
        'type = "chat"',
    ]
    for model in sorted({*PROPOSERS, AGGREGATOR}):
        lines += [
            f'[models."{model}"]',
            'routing = ["bench"]',
            f'[models."{model}".providers.bench]',
            'type = "openai"',
            f'model_name = "{model}"',
            f'api_base = "{url}/openai/v1/"',
            f'api_key_location = "env::{_KEY_VARIABLE}"',
        ]
    names = [f"proposer_{place}" for place in range(len(PROPOSERS))]
    for name, model in zip(names, PROPOSERS, strict=True):
        lines += [
            f"[functions.mixture.variants.{name}]",
            'type = "chat_completion"',
            f'model = "{model}"',
            "temperature = 0.7",
            "max_tokens = 1024",
        ]
    lines += [
        "[functions.mixture.variants.mixture]",
        'type = "experimental_mixture_of_n"',
        f"candidates = {names}",
        "[functions.mixture.variants.mixture.fuser]",
        f'model = "{AGGREGATOR}"',
        "temperature = 0.3",
        "max_tokens = 1024",
    ]
    return "\n".join([*lines, ""])


def gateway(*, stream: bool) -> MakePipeline:
    """Return the embedded gateway as a pipeline, its fuser streamed or not."""

    @contextlib.asynccontextmanager
    async def make(url: str) -> AsyncIterator[Ask]:
        os.environ[_KEY_VARIABLE] = KEY
        # Read when the module is loaded; its lines at the level "info" would stand between the rows.
        os.environ.setdefault("RUST_LOG", "warn")
        from tensorzero import AsyncTensorZeroGateway

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tensorzero.toml"
            path.write_text(configuration(url), "utf-8")
            client = await AsyncTensorZeroGateway.build_embedded(config_file=str(path))

        async def whole() -> str:
            reply = await client.inference(function_name="mixture", variant_name="mixture", input=_INPUT)
            return _text(reply.content)

        async def streamed() -> str:
            chunks = await client.inference(function_name="mixture", variant_name="mixture", input=_INPUT, stream=True)
            return "".join([_text(chunk.content) async for chunk in chunks])

        async with client:
            yield streamed if stream else whole

    return make


def _text(blocks: Any) -> str:
    return "".join(block.text for block in blocks if block.type == "text")
