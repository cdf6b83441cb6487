"""An option that does not exist is refused: overlooked, `max_costs=0.01` would let a run cost any amount."""

from collections.abc import Callable
from typing import Any

import pytest

from mixtura import ConfigError, Mixture

MIXTURE = Mixture("classic", env={"GROQ_API_KEY": "gsk_x"})


@pytest.mark.parametrize("ask", [MIXTURE.ask_sync, MIXTURE.stream, MIXTURE.forecast])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_costs": 0.01}, "max_costs: no such option; did you mean max_cost?"),
        (
            {"max_tokens": 64},
            "max_tokens: not an option by itself; it is a field of options=ChatOptions(max_tokens=...)",
        ),
        (
            {"deadline": 5, "zzz": 1},
            "zzz: no such option; expected one of system, options, deadline, max_cost, seed, priority, watch",
        ),
    ],
)
def test_an_option_that_does_not_exist(ask: Callable[..., object], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ask("Why?", **options)
    assert str(caught.value) == said
