"""`--first-token` and `--no-hedge`: how patient a run is with slow models."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from mixtura.cli.common import amount
from mixtura.recipe import Recipe

_Function = TypeVar("_Function", bound=Callable[..., Any])


class PatienceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the options say: `first_token` in seconds, None to choose it by who serves; `hedge`: the recipe decides."""

    first_token: float | None = None
    hedge: bool = True

    def applied_to(self, recipe: Recipe) -> Recipe:
        """Return `recipe` under a policy with what was said."""
        policy = recipe.policy
        if self.first_token is not None:
            # 0 is how the options of the command say "never".
            policy = msgspec.structs.replace(policy, first_token=self.first_token or None)
        if not self.hedge:
            policy = msgspec.structs.replace(policy, hedge=False)
        return recipe if policy is recipe.policy else msgspec.structs.replace(recipe, policy=policy)


def patience_options(function: _Function) -> _Function:
    """Add `--first-token` and `--no-hedge`."""
    first = click.option(
        "--first-token",
        metavar="SECONDS",
        callback=amount,
        help="Seconds a model may take until its first token, 0 for as long as the deadline.  [default: by who "
        "serves it, the prompt and the calls before it]",
    )
    hedge = click.option(
        "--no-hedge", "hedge", flag_value=False, default=True, help="Ask no model a second time because it is slow."
    )
    return first(hedge(function))
