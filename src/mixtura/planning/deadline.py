"""How long a run may take whose recipe leaves it open (`deadline = "auto"`)."""

from mixtura.chat import NO_OPTIONS, ChatOptions
from mixtura.models.served import Models
from mixtura.planning.schedule import schedule
from mixtura.recipe import Recipe

HOSTED_SECONDS = 120.0
"""Where many machines serve: calls of a stage are answered at the same time, and within seconds."""
QUEUED_SECONDS = 300.0
"""For each call that may have to wait for those before it: a minute or two to load the model and to read the prompt,
and as long to write 500 tokens at 4 a second. It bounds what hangs; a run ends when its answer is there."""


def deadline_seconds(
    recipe: Recipe, models: Models, given: float | None = None, options: ChatOptions = NO_OPTIONS
) -> float:
    """Return the seconds that a run may take: those `given`, the recipe's, or by where its calls are served.

    Raises:
        ConfigError: as `Models.find`.
    """
    stated = recipe.policy.deadline if given is None else given
    return stated if stated != "auto" else seconds_for(queued_calls(recipe, models, options))


def seconds_for(queued: int) -> float:
    """Return the seconds that a run may take of whose calls so many may have to wait for each other."""
    return max(HOSTED_SECONDS, QUEUED_SECONDS * queued)


def queued_calls(recipe: Recipe, models: Models, options: ChatOptions = NO_OPTIONS) -> int:
    """Return how many calls of a run may go where calls wait for each other: to one machine, or into this process.

    A fall-back that waits there has to have the time when its model's turn comes.
    """
    count = 0
    for call in schedule(recipe, options).calls:
        for link in call.slot.links:
            if models.find(link.provider, link.model).place.queues:
                count += 1
                break
    return count
