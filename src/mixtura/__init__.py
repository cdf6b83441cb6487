"""Mixtura: a mixture of agents. Several proposer models draft, an aggregator turns the drafts into one answer.

Inside a running event loop:

    from mixtura import Mixture

    answer = await Mixture("balanced").ask("Why is the sky blue?")
    print(answer.text)
"""

import importlib

from mixtura._version import __version__

TYPE_CHECKING = False  # as in `typing`, whose import takes longer than the rest of this module

if TYPE_CHECKING:
    from typing import Any

    from mixtura.chat import ChatOptions, ChatRequest, Completion, Delta, Message, Timing, Usage
    from mixtura.errors import (
        BudgetError,
        ConfigError,
        DailyBudgetError,
        DeadlineError,
        InputError,
        LimitError,
        MissingKeyError,
        MixturaError,
        ModelError,
        NoAnswerError,
        RecipeError,
    )
    from mixtura.events import Answer, Draft, Event
    from mixtura.folding import fold
    from mixtura.mixture import EventStream, Mixture, ask
    from mixtura.models.base import ChatModel
    from mixtura.models.card import ModelCard, Predicted, Price
    from mixtura.models.catalog import Catalog
    from mixtura.models.registry import ModelRegistry
    from mixtura.models.served import Models, Served
    from mixtura.planning.forecast import Forecast
    from mixtura.recipe import Aggregator, Fallback, Layer, Policy, Proposer, Recipe, recipe_names

_HOME = {
    "mixtura.chat": ("ChatOptions", "ChatRequest", "Completion", "Delta", "Message", "Timing", "Usage"),
    "mixtura.planning.forecast": ("Forecast",),
    "mixtura.errors": (
        "BudgetError",
        "ConfigError",
        "DailyBudgetError",
        "DeadlineError",
        "InputError",
        "LimitError",
        "MissingKeyError",
        "MixturaError",
        "ModelError",
        "NoAnswerError",
        "RecipeError",
    ),
    "mixtura.events": ("Answer", "Draft", "Event"),
    "mixtura.folding": ("fold",),
    "mixtura.mixture": ("EventStream", "Mixture", "ask"),
    "mixtura.models.base": ("ChatModel",),
    "mixtura.models.card": ("ModelCard", "Predicted", "Price"),
    "mixtura.models.served": ("Models", "Served"),
    "mixtura.models.catalog": ("Catalog",),
    "mixtura.models.registry": ("ModelRegistry",),
    "mixtura.recipe": ("Aggregator", "Fallback", "Layer", "Policy", "Proposer", "Recipe", "recipe_names"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Aggregator",
    "Answer",
    "BudgetError",
    "Catalog",
    "ChatModel",
    "ChatOptions",
    "ChatRequest",
    "Completion",
    "ConfigError",
    "DailyBudgetError",
    "DeadlineError",
    "Delta",
    "Draft",
    "Event",
    "EventStream",
    "Fallback",
    "Forecast",
    "InputError",
    "Layer",
    "LimitError",
    "Message",
    "MissingKeyError",
    "MixturaError",
    "Mixture",
    "ModelCard",
    "ModelError",
    "ModelRegistry",
    "Models",
    "NoAnswerError",
    "Policy",
    "Predicted",
    "Price",
    "Proposer",
    "Recipe",
    "RecipeError",
    "Served",
    "Timing",
    "Usage",
    "__version__",
    "ask",
    "fold",
    "recipe_names",
]


# Hidden from type checkers, for which any misspelt name would exist and be `Any`.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> "Any":
        # Names are resolved on first use: importing the package must not cost what only a run needs.
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
