"""When final answers, as text, are the same; and which of several are counted as one."""

import re
from collections.abc import Iterable

from mixtura.engine.answers.reading import parse
from mixtura.engine.answers.values import same

_PLAIN_NUMBER = re.compile(r"-?(?:[1-9]\d*|0)(?:\.\d*[1-9])?")


class Choice(str):
    """A final answer in its canonical text, "" for none. Two are equal where the answers are (see `values.same`).

    So a dict or a set of them is no count: "5" equals "5 min" and "5 h", which differ. `groups` counts.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return alike(str(self), str(other)) if isinstance(other, str) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    # What is equal must have one hash, and no part of a text is the same in all that are equal to it.
    def __hash__(self) -> int:
        return 0


def alike(one: str, other: str) -> bool:
    """Say whether two final answers, as text, are the same; "" is the same as nothing but itself."""
    if one == other:
        return True
    if not one or not other or (_PLAIN_NUMBER.fullmatch(one) and _PLAIN_NUMBER.fullmatch(other)):
        return False
    first, second = parse(one), parse(other)
    return first is not None and second is not None and same(first, second)


def groups(choices: Iterable[str]) -> dict[str, str]:
    """Return, for each final answer, the one that it is counted under: the first of its group.

    All answers of a group are the same as each other. "5" beside "5 min" and "5 h", which differ, is with neither.
    """
    counted = {choice: choice for choice in choices}
    compared = [choice for choice in counted if choice]
    if len(compared) < 2 or all(map(_PLAIN_NUMBER.fullmatch, compared)):
        return counted
    values = [(choice, value) for choice in compared if (value := parse(choice)) is not None]
    near = {choice: [other for other, second in values if same(first, second)] for choice, first in values}
    for choice, others in near.items():
        if len(others) > 1 and all(near[other] == others for other in others):
            counted[choice] = others[0]
    return counted
