"""Each code by which Groq refuses a call, over HTTP: the error, how often it is asked, and who is asked besides."""

import json
from collections import Counter
from typing import Any, NamedTuple

import pytest
from aiohttp import web

import local_servers
from mixtura import Aggregator, Layer, Mixture, NoAnswerError, Policy, Proposer, Recipe
from mixtura.chat import ChatRequest, JsonObject, Message
from mixtura.errors import (
    BadGenerationError,
    ModelError,
    ModelGoneError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    TooLargeError,
    UnauthorizedError,
)
from mixtura.models.registry import ModelRegistry
from mixtura.models.wrappers.retry import RetryPolicy
from mixtura.virtual import run_virtual

MODEL, OTHER = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
LIMITS, PROJECT = "https://console.groq.com/settings/limits", "https://console.groq.com/settings/project/limits"
TERMS = "https://console.groq.com/playground?model=openai%2Fgpt-oss-20b"
MANY = f"Rate limit reached for model `{MODEL}` in organization `org_01abcdef` service tier `on_demand` on "
TOO_MANY = f"{MANY}tokens per minute (TPM): Limit 8000, Used 7000, Requested 3572. Please try again in 1.5s."
NEVER = f"Request too large for model `{MODEL}` on tokens per minute (TPM): Limit 8000, Requested 66536"


class Row(NamedTuple):
    """A refusal, and what is made of it.

    `tries` of its model (0: while there is time), whether `others` are asked, whether it `trips` the breaker.
    """

    status: int
    code: str
    message: str
    kind: type[ModelError]
    tries: int = 1
    others: bool = True
    trips: bool = False
    words: str = ""
    type: str = "invalid_request_error"


ROWS = [
    Row(400, "", "'n' : number must be at most 1", RejectedError),
    Row(400, "context_length_exceeded", "Please reduce the length of the messages or completion.", TooLargeError),
    Row(400, "json_validate_failed", "Failed to generate JSON.", BadGenerationError, tries=4),
    Row(400, "tool_use_failed", "Tool call validation failed", BadGenerationError, tries=4),
    Row(400, "model_decommissioned", f"The model `{MODEL}` has been decommissioned", ModelGoneError),
    Row(400, "model_terms_required", f"The model `{MODEL}` requires terms acceptance.", ModelGoneError, words=TERMS),
    Row(400, "organization_restricted", "Organization has been restricted.", UnauthorizedError, others=False),
    Row(400, "blocked_api_access", "Spend limit reached", UnauthorizedError, others=False, words="no budget left"),
    Row(401, "invalid_api_key", "Invalid API Key", UnauthorizedError, others=False, words="check GROQ_API_KEY"),
    Row(401, "expired_api_key", "This API key has expired", UnauthorizedError, others=False),
    Row(403, "", "Access denied. Please check your network settings.", UnauthorizedError, others=False),
    Row(
        403, "model_permission_blocked_org", "The model is blocked at the organization level.", ModelGoneError
    )._replace(words=f"an administrator of the organization allows it at {LIMITS}", type="permissions_error"),
    Row(403, "model_permission_blocked_project", "It is blocked at the project level.", ModelGoneError)._replace(
        words=f"an administrator of the project allows it at {PROJECT}", type="permissions_error"
    ),
    Row(403, "", f"The model `{MODEL}` is not available on your tier.", ModelGoneError)._replace(
        words="another plan, which is chosen at https://console.groq.com/settings/billing"
    ),
    Row(404, "model_not_found", f"The model `{MODEL}` does not exist or you do not have access to it.", ModelGoneError),
    Row(404, "unknown_url", "Unknown request URL: POST /x", RejectedError, words="is the base URL right?"),
    Row(413, "request_too_large", "Request Entity Too Large", TooLargeError),
    Row(413, "rate_limit_exceeded", NEVER, TooLargeError, type="tokens"),
    Row(422, "", "The request could not be processed.", RejectedError),
    Row(424, "", "Failed Dependency: the MCP server refused", RejectedError),
    Row(429, "rate_limit_exceeded", TOO_MANY, RateLimitedError, tries=0, type="tokens"),
    Row(429, "rate_limit_exceeded", f"{MANY}tokens per minute (TPM): Limit 10, Requested 11", TooLargeError),
    Row(429, "insufficient_quota", "You exceeded your current quota", UnauthorizedError, others=False),
    Row(498, "capacity_exceeded", "Flex Tier Capacity Exceeded", OverloadedError, tries=4, trips=True),
    Row(499, "", "Request Cancelled", RejectedError),
    Row(500, "", "Internal Server Error", OverloadedError, tries=4, trips=True, type="internal_server_error"),
    Row(502, "", "Bad Gateway", OverloadedError, tries=4, trips=True),
    Row(503, "", f"{MODEL} is currently over capacity.", OverloadedError, tries=4, trips=True),
    Row(504, "", "Gateway Timeout", OverloadedError, tries=4, trips=True),
]


class Refusing:
    """A server that refuses one model as `row` says and answers for others."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.asked: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        model = json.loads(await request.read())["model"]
        self.asked[model] += 1
        if model == MODEL:
            row = self.row
            error: JsonObject = {"message": row.message, "type": row.type, **({"code": row.code} if row.code else {})}
            return web.json_response({"error": error}, status=row.status)
        message = {"role": "assistant", "content": "42"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})


REQUEST = ChatRequest(model=MODEL, messages=(Message(role="user", content="6 times 7?"),))
RECIPE = Recipe(
    layers=(Layer(proposers=(Proposer(model=MODEL),)),),
    aggregator=Aggregator(model=OTHER),
    policy=Policy(deadline=500.0),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.status} {row.code or row.message[:20]}")
def test_a_refusal_of_groq_is_what_it_says_and_costs_no_more_than_it_must(row: Row) -> None:
    server = Refusing(row)

    async def main() -> list[Any]:
        async with local_servers.served(server.answer) as url:
            env = {"GROQ_BASE_URL": url, "GROQ_API_KEY": "k"}
            failure: ModelError | None = None
            try:
                answer = await Mixture(RECIPE, env=env).ask("6 times 7?")
                assert (answer.text, [failed.kind for failed in answer.failures]) == ("42", [row.kind.kind])
                said = answer.failures[0].reason
            except NoAnswerError as error:
                failure = error.failures[0]
                said = failure.reason
                assert type(failure) is row.kind
            return [said, failure]

    said, failure = run_virtual(main())
    assert server.asked[MODEL] == row.tries or (row.tries == 0 and server.asked[MODEL] > 4)
    assert server.asked[OTHER] == int(row.others)
    assert (failure is None) is row.others
    assert row.words in said
    assert "org_01" not in said


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.status} {row.code or row.message[:20]}")
def test_only_a_model_that_is_not_well_opens_the_breaker(row: Row) -> None:
    server = Refusing(row)

    async def main() -> ModelError:
        async with local_servers.served(server.answer) as url:
            env = {"GROQ_BASE_URL": url, "GROQ_API_KEY": "k"}
            found = ModelRegistry(env=env, policy=RetryPolicy(attempts=1, waits=0)).find("groq", MODEL)
            for _ in range(9):
                with pytest.raises(row.kind) as caught:
                    await found.chat.chat(REQUEST)
            return caught.value

    error = run_virtual(main())
    assert type(error) is row.kind
    assert server.asked[MODEL] == (8 if row.trips else 9) or row.kind is RateLimitedError


OF_THE_MODEL = [
    (403, "Project `proj_x` does not have access to model `gpt-4o`", "model_not_found"),
    (404, "The model `gpt-4o` does not exist or you do not have access to it.", None),
    (403, "You are not allowed to sample from this model", None),
    (403, "Your organization must be verified to use the model `gpt-4o`.", None),
    (400, "Unable to access non-serverless model gpt-4o.", None),
    (401, "key not allowed to access model. This key can only access models=['a']. Tried to access gpt-4o", "401"),
    (403, "This model is only available on the Developer tier", None),
    (403, "Access to model gpt-4o is restricted and you are not in the authorized list.", None),
    (404, "No endpoints found matching your data policy", None),
    (404, "No endpoints found for gpt-4o.", None),
    (404, "No allowed providers are available for the selected model.", None),
    (400, "gpt-4o is not a valid model ID", None),
    (400, "Invalid model: gpt-4o", "1500"),
    (410, "The requested model is deprecated and no longer supported", None),
    (404, "The API deployment for this resource does not exist.", "DeploymentNotFound"),
]
OF_THE_KEY = [
    (401, "Incorrect API key provided: sk-ab***wxyz. You can find your API key at https://example.com"),
    (403, "You have insufficient permissions for this operation. Missing scopes: model.request"),
    (403, "Country, region, or territory not supported"),
    (403, "Invalid API key: no access to the model gpt-4o"),
    (403, "Your team has been suspended"),
    (401, "Authentication Error"),
]
OF_THE_REQUEST = [
    (403, "gpt-4o requires moderation on OpenAI. Your input was flagged for violence"),
    (400, "logprobs is not supported with this model"),
    (400, "Structured output is not available for this model"),
    (400, "The model `gpt-4o` does not support tools"),
    (404, "No endpoints found that support tool use"),
]


def refusal(status: int, message: str, code: object = None, **more: object) -> ModelError:
    body = {"error": {"message": message, "code": code, "type": "x", **more}}
    return local_servers.FAILURES.of_reply("gpt-4o", status, {}, json.dumps(body))


@pytest.mark.parametrize(("status", "message", "code"), OF_THE_MODEL)
def test_a_model_that_other_providers_refuse_does_not_cost_its_key(status: int, message: str, code: str) -> None:
    kind = "key_model_access_denied" if code == "401" else "invalid_model" if code == "1500" else "x"
    found = refusal(status, message, code, type=kind)
    assert type(found) is ModelGoneError, found


@pytest.mark.parametrize(("status", "message"), OF_THE_KEY)
def test_a_refused_key_stays_refused_whatever_is_said_of_models(status: int, message: str) -> None:
    assert type(refusal(status, message)) is UnauthorizedError


@pytest.mark.parametrize(("status", "message"), OF_THE_REQUEST)
def test_what_a_model_does_not_take_is_no_refusal_of_the_model(status: int, message: str) -> None:
    assert type(refusal(status, message)) is RejectedError


def test_a_blocked_model_inside_a_stream_is_told_by_its_code_or_its_type() -> None:
    told: list[JsonObject] = [
        {"message": "The model `gpt-4o` is blocked", "code": "model_permission_blocked_org", "status_code": 403},
        {"message": "The model `gpt-4o` is blocked", "code": "model_permission_blocked_org"},
        {"message": "The model `gpt-4o` is blocked", "type": "permissions_error"},
    ]
    for error in told:
        found = local_servers.FAILURES.of_body("gpt-4o", None, {}, error)
        assert isinstance(found, ModelGoneError)
        assert found.blocked
    key = local_servers.FAILURES.of_body("gpt-4o", None, {}, {"message": "no", "type": "permissions_error"})
    assert type(key) is UnauthorizedError


def test_a_blocked_model_is_replaced_as_one_that_is_gone_and_asked_again_by_the_next_run() -> None:
    server = Refusing(ROWS[11])
    policy = Policy(deadline=500.0, substitutes={MODEL: OTHER})
    recipe = Recipe(layers=(Layer(proposers=(Proposer(model=MODEL),)),), policy=policy)

    async def main() -> list[str]:
        async with local_servers.served(server.answer) as url:
            mixture = Mixture(recipe, env={"GROQ_BASE_URL": url, "GROQ_API_KEY": "k"})
            return [decision.reason for _ in range(2) for decision in (await mixture.ask("6 times 7?")).decisions]

    # An administrator may have allowed it by then.
    said = f"{MODEL} is not for this key, {OTHER} was asked instead"
    assert run_virtual(main()) == [said, said]
    assert server.asked == {MODEL: 2, OTHER: 2}
