"""Encodes a `ChatRequest` for llama.cpp's server."""

from msgspec.structs import replace

from mixtura.chat import ChatRequest, JsonObject
from mixtura.models.openai.wire import Dialect, encode_body, request_body

_DIALECT = Dialect(usage_option=True)
# Plain sampling from the model's distribution at the requested temperature. The server's defaults (top_k 40,
# top_p 0.95, min_p 0.05) cut the distribution, so drafts would be more alike than their temperature implies.
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
    """Return the JSON body. Sampling is plain unless the request sets its parameters; `options.extra` overrides both.

    The reply is always streamed, because a call can be stopped only between two chunks. `return_progress` makes the
    server send chunks while it reads the prompt, so that a call can be stopped there as well.
    """
    body: JsonObject = {**_PLAIN, **request_body(request, _DIALECT, stream=True)}
    # A call has one answer, and the file determines the model.
    body.pop("n", None)
    body.pop("model", None)
    if "messages" not in request.options.extra:
        # Few chat templates know the role "developer", another name for "system".
        body["messages"] = [
            replace(message, role="system") if message.role == "developer" else message for message in request.messages
        ]
    effort = body.pop("reasoning_effort", None)
    if effort is not None:
        body["chat_template_kwargs"] = {"reasoning_effort": effort, **body.get("chat_template_kwargs", {})}
    if request.seed is not None:
        # A cached prompt was computed in other batches, which round sums differently: the text could change.
        body.setdefault("cache_prompt", False)
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    body["return_progress"] = True
    return encode_body(body)
