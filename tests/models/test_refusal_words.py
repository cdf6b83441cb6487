"""Empty accounts and prompts that are too long, in the words of many servers, and what must not be taken for them."""

import asyncio
import datetime as dt
import json

import pytest
from aiohttp import web

import local_servers
from mixtura import Aggregator, Layer, Mixture, Policy, Proposer, Recipe
from mixtura.errors import (
    ModelError,
    NoAnswerError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    TooLargeError,
    UnauthorizedError,
)
from mixtura.models.catalog import Catalog
from mixtura.models.openai.denials import of_model
from mixtura.models.openai.failures import Failures

FAILURES = Failures("groq", Catalog.load(), lambda: dt.date(2026, 11, 27), clock=lambda: 1795780800.0)


def of(status: int, message: str, **more: object) -> ModelError:
    return FAILURES.of_reply("m", status, {}, json.dumps({"error": {"message": message, **more}}))


UNPAID = [
    "Insufficient Balance",
    "Your account balance is not enough",
    "Your account does not have sufficient balance",
    "Your account has insufficient funds",
    "You do not have enough credits",
    "You have run out of credits",
    "No credits left",
    "Account balance is negative",
    "Insufficient quota",
    "Please purchase more credits",
    "Your credit balance is too low to access the API",
    "You have used all available credits",
    "It has reached its monthly spending limit.",
    "Budget has been exceeded! Current cost: 1.0, Max budget: 0.5",
    "Payment required",
    "Please recharge",
    "Please top up your account",
    "The account has an overdue balance",
    "Your account is in arrears",
    "账户已欠费，请充值",
    "余额不足",
    "用户额度不足",
]
CODES = [
    "insufficient_quota",
    "InsufficientBalance",
    "BILLING_NOT_ACTIVE",
    "insufficient_balance_error",
    "1113",
    "Arrearage",
]


@pytest.mark.parametrize("status", [400, 403, 429, 500])
@pytest.mark.parametrize("words", UNPAID)
def test_an_account_without_money_is_known_by_its_words_with_any_status(words: str, status: int) -> None:
    found = of(status, words)
    assert isinstance(found, UnauthorizedError), found
    assert found.unpaid
    assert found.reason.endswith("the account has no budget left for it")
    assert NoAnswerError([found]).status == 402


@pytest.mark.parametrize("field", ["code", "type"])
@pytest.mark.parametrize("code", CODES)
def test_an_account_without_money_is_known_by_its_code_or_type(code: str, field: str) -> None:
    found = of(429, "see the console", **{field: code})
    assert isinstance(found, UnauthorizedError)
    assert found.unpaid


@pytest.mark.parametrize(
    "words",
    [
        "Rate limit exceeded: free-models-per-day-high-balance. Add 10 credits to unlock 1000 requests",
        "Rate limit reached. Need more tokens? Upgrade today at https://example.com/settings/billing",
        "The token rate limit of your pricing tier is exceeded; raise the quota at https://example.com/quota",
        "Resource has been exhausted (e.g. check quota).",
        "Quota exceeded for aiplatform.googleapis.com/generate_content_requests_per_minute_per_project",
        "You exceeded your current quota, please check your plan and billing details: https://ai.google.dev/limits",
        "You exceeded your current quota, please check your plan and billing details. Please retry in 39.5s.",
        "The load balancer has no room",
        "Too many tokens, please wait before trying again.",
    ],
)
def test_a_limit_that_refills_is_not_taken_for_an_empty_account(words: str) -> None:
    assert isinstance(of(429, words), RateLimitedError)


def test_a_key_that_is_refused_is_still_sent_on_as_such() -> None:
    found = of(401, "Invalid API Key", code="invalid_api_key")
    assert isinstance(found, UnauthorizedError)
    assert (found.unpaid, NoAnswerError([found]).status) == (False, 401)


TOO_LONG = [
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
    "You passed 5000 input tokens. However, the model's context length is only 4096 tokens.",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "Trying to keep the first 5000 tokens when context the overflows.",
    "the model is loaded with context length of only 4096 tokens, which is not enough.",
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "Input length (5000 tokens) exceeds the maximum allowed length (4090 tokens).",
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "Please reduce the length of the messages or completion.",
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "too many tokens: size limit exceeded by 11326 tokens.",
    "Input is too long for requested model.",
    "prompt token count of 140000 exceeds the limit of 128000",
    "Your request exceeded model token limit: 8192 (requested: 9000)",
    "the number of input tokens 5000 cannot exceed the total tokens limit 4096 for this model",
    "Prompt length 5000 is greater than max_seq_len 4096",
    "Prompt exceeds max length",
    "messages too long",
    "prompt (5000 tokens) is too long for n_ctx 4096",
]
OF_THE_OUTPUT = [
    "`max_tokens` must be less than or equal to `32768`, which is less than the `context_window` for this model",
    "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
    "max_tokens must be less than or equal to 8192",
    "Range of max_tokens should be [1, 8192]",
    "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens",
    "max_tokens (9000) exceeds the model limit of 8192",
    "stop sequence is too long",
    "maximum number of tools exceeded",
]


@pytest.mark.parametrize("words", TOO_LONG)
def test_a_prompt_that_is_too_long_is_known_by_any_servers_words(words: str) -> None:
    for status in (400, 413, 422, 500):
        assert isinstance(of(status, words), TooLargeError), status
    assert isinstance(FAILURES.of_body("m", None, {}, {"object": "error", "message": words}), TooLargeError)


@pytest.mark.parametrize("words", OF_THE_OUTPUT)
def test_a_limit_of_the_output_is_not_taken_for_one_of_the_prompt(words: str) -> None:
    assert isinstance(of(400, words), RejectedError)


@pytest.mark.parametrize("words", [TOO_LONG[0], TOO_LONG[4], TOO_LONG[8], TOO_LONG[9], TOO_LONG[11]])
def test_drafts_are_shortened_for_a_writer_that_says_so_in_its_own_words(words: str) -> None:
    seen: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        text = " ".join(
            f"At {height} m it boils at {100 - height / 300:.2f}, says {asked['model']}." for height in range(400)
        )
        if asked["model"] == "writer":
            seen.append(len(json.dumps(asked["messages"])))
            if len(seen) == 1:
                return web.json_response({"error": {"message": words}}, status=422 if "`inputs`" in words else 400)
            text = " ".join(f"Pressure step {step} lowers it by {step / 7:.3f} degrees." for step in range(200))
        message = {"role": "assistant", "content": text}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})

    async def main() -> str:
        async with local_servers.served(answer) as url:
            proposers = tuple(Proposer(model=name, provider=url) for name in ("one", "two"))
            recipe = Recipe(
                layers=(Layer(proposers=proposers),),
                aggregator=Aggregator(kind="synthesize", model="writer", provider=url),
                policy=Policy(deadline=20.0),
            )
            return (await Mixture(recipe, env={}).ask("When does water boil?")).text

    assert asyncio.run(main()).startswith("Pressure step 0")
    assert len(seen) == 2
    assert seen[1] < 0.6 * seen[0]


def test_an_error_in_a_success_has_the_class_of_its_code_its_type_or_its_words() -> None:
    told: list[tuple[object, type[ModelError]]] = [
        ({"base_resp": {"status_code": 1002, "status_msg": "x"}}, RateLimitedError),
        ({"base_resp": {"status_code": 1013, "status_msg": "x"}}, OverloadedError),
        ({"code": "Throttling.RateQuota", "message": "x"}, RateLimitedError),
        ({"detail": "Too many requests"}, RateLimitedError),
        ({"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}, UnauthorizedError),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, OverloadedError),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}, RateLimitedError),
        ({"code": 400, "msg": "x"}, RejectedError),
        ({"message": "Model is loading"}, OverloadedError),
    ]
    for body, kind in told:
        assert type(FAILURES.of_body("m", None, {}, body)) is kind, body


@pytest.mark.parametrize(("model", "theirs"), [("m", False), ("mm", True)])
def test_a_name_of_one_letter_is_not_looked_for_in_words(model: str, theirs: bool) -> None:
    assert of_model(model, 403, "", "", f"The {model} is forbidden") is theirs
