"""A user reads errors by their classes."""

from typing import Literal, assert_type

from mixtura import (
    Answer,
    BudgetError,
    ConfigError,
    DailyBudgetError,
    DeadlineError,
    LimitError,
    MissingKeyError,
    MixturaError,
    Mixture,
    ModelError,
    NoAnswerError,
    RecipeError,
)
from mixtura.errors import ModelGoneError, RateLimitedError


async def ask(mixture: Mixture) -> str:
    try:
        return (await mixture.ask("Why?")).text
    except MissingKeyError as error:
        return error.env
    except RecipeError as error:
        return f"{error.where}: {error.problem}"
    except ConfigError as error:
        return error.message
    except DailyBudgetError as error:
        assert_type(error.seconds_left, float)
        return str(error)
    except BudgetError as error:
        assert_type(error.worst, float | None)
        return str(error)
    except LimitError as error:
        assert_type(error.retry_after, float | None)
        return error.window
    except NoAnswerError as error:
        assert_type(error.failures, tuple[ModelError, ...])
        return "; ".join(failure.reason for failure in error.failures)
    except DeadlineError as error:
        return error.answer.text if isinstance(error.answer, Answer) else ""
    except MixturaError as error:
        assert_type(error.exit_code, int)
        assert_type(error.answer, Answer | None)
        return error.message


def advice(error: ModelError) -> str | float | None:
    assert_type(error.action, Literal["retry", "wait", "substitute", "drop"])
    assert_type(error.status, int | None)
    if isinstance(error, ModelGoneError):
        assert_type(error.nearest, tuple[str, ...])
        return error.replacement
    if isinstance(error, RateLimitedError):
        return error.retry_after
    return error.kind
