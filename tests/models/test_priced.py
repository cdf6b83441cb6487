"""What a call costs by the price of its model."""

import pytest

from mixtura.chat import Completion, Usage
from mixtura.models.card import Price
from mixtura.models.wrappers.priced import Priced
from scripted import REQUEST, Scripted


@pytest.mark.parametrize(("wasted", "dollars"), [(None, 5e-6), (Usage(prompt_tokens=10, completion_tokens=4), 23e-6)])
async def test_attempts_that_failed_are_billed_with_the_reply(wasted: Usage | None, dollars: float) -> None:
    reply = Completion(model="m", text="x", usage=Usage(prompt_tokens=1, completion_tokens=2), wasted=wasted)
    done = await Priced(Scripted(reply, takes=0.0), Price(input=1.0, output=2.0)).chat(REQUEST)
    assert done.cost == pytest.approx(dollars)
