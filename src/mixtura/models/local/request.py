"""A `ChatRequest` as llama.cpp's server reads it."""

from msgspec.structs import replace

from mixtura.chat import ChatRequest, JsonObject
from mixtura.models.openai.wire import Dialect, encode_body, request_body

_DIALECT = Dialect(usage_option=True)
# The model's own distribution at the temperature asked for, and nothing that cuts or bends it: the server's defaults
# (top_k 40, top_p 0.95, min_p 0.05) would make drafts more alike than their temperature says.
_PLAIN: JsonObject = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "top_n_sigma": -1.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "dry_multiplier": 0.0,
    "xtc_probability": 0.0,
    "dynatemp_range": 0.0,
    "mirostat": 0,
}


def body_of(request: ChatRequest) -> bytes:
    """Return the JSON body: plain sampling unless the request asks otherwise, `options.extra` last.

    It is always streamed, since a call can be stopped between two pieces only; prompts are reported as they are read.
    """
    body: JsonObject = {**_PLAIN, **request_body(request, _DIALECT, stream=True)}
    # One answer a call; the file is the model.
    body.pop("n", None)
    body.pop("model", None)
    if "messages" not in request.options.extra:
        # Few templates know "developer", which is a system prompt by another name.
        body["messages"] = [
            replace(message, role="system") if message.role == "developer" else message for message in request.messages
        ]
    effort = body.pop("reasoning_effort", None)
    if effort is not None:
        body["chat_template_kwargs"] = {"reasoning_effort": effort, **body.get("chat_template_kwargs", {})}
    if request.seed is not None:
        # What was read from a cache was computed in other batches, whose sums are rounded differently.
        body.setdefault("cache_prompt", False)
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    body["return_progress"] = True
    return encode_body(body)
