"""Where calls of a model are served: by many machines, by one, or in this process; and how patient one may be there."""

from typing import Literal

import msgspec

ServedBy = Literal["many", "machine", "process"]


class Patience(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How long a call may be silent where it is served, while nothing was measured there.

    Attributes:
        first_token: seconds until the first token of a short prompt, loading of the model and reasoning that the
            provider hides included.
        prompt_rate: tokens of the prompt that are read a second at the least; a long prompt adds to `first_token`.
        between_tokens: seconds between two tokens.
        hedge_after: seconds after which a call is slower than it should be.
    """

    first_token: float = 60.0
    prompt_rate: float = 500.0
    between_tokens: float = 30.0
    hedge_after: float = 10.0


# A model of 40 GB takes a minute from a fast disk and two from a slow one. A processor reads 20 tokens a second of a
# prompt to a model of 7B; while it does, the other slots of its server write nothing.
ONE_MACHINE = Patience(first_token=120.0, prompt_rate=20.0, between_tokens=60.0, hedge_after=60.0)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the calls of a model are served.

    Attributes:
        name: equal for models whose calls wait for each other; "" where that is not known.
        served_by: `many` machines, of which another may answer a second try; one `machine`; or this `process`.
        patience: how long a call may be silent there.
    """

    name: str = ""
    served_by: ServedBy = "many"
    patience: Patience = Patience()

    @property
    def queues(self) -> bool:
        """Whether calls wait for each other there, so that a second try would only wait behind the first."""
        return self.served_by != "many"


ANYWHERE = Place()
"""The place of a model that says nothing about its own."""
