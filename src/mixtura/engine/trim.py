"""Fitting drafts into the window of the model that reads them: fairly, and never in silence."""

from collections.abc import Sequence

from mixtura.tokens import estimate_tokens

_LEFT_OUT = "\n[... {} characters left out ...]\n"
# An estimate can be wrong by a few per cent, and a window that overflows costs the whole answer.
_MARGIN = 0.94
_LEAST = 64
# Tokens of the note in place of what is left out.
_NOTE = 16


def room(window: int, max_tokens: int | None, prompt_tokens: int) -> int:
    """Return how many tokens of drafts fit into `window` beside a prompt and a reply."""
    return max(int(window * _MARGIN) - prompt_tokens - (max_tokens or window // 4), 0)


def fair_shares(sizes: Sequence[int], budget: int) -> list[int]:
    """Split `budget` so that small ones are kept whole and the large ones get equal parts of the rest."""
    shares = list(sizes)
    left, waiting = budget, sorted(range(len(sizes)), key=lambda place: sizes[place])
    while waiting:
        share = left // len(waiting)
        if sizes[waiting[0]] <= share:
            left -= sizes[waiting.pop(0)]
            continue
        for place in waiting:
            shares[place] = share
        break
    return shares


def trim(texts: Sequence[str], budget: int | None) -> tuple[list[str], dict[int, int]]:
    """Shorten `texts` to `budget` tokens together; return them and {place: characters left out}.

    A shortened text keeps its beginning and its end, where answers stand, and says what is missing between.
    """
    # No text has more tokens than characters, which are free to count.
    if budget is None or sum(map(len, texts)) <= budget:
        return list(texts), {}
    sizes = [estimate_tokens(text) for text in texts]
    if sum(sizes) <= budget:
        return list(texts), {}
    kept, left_out = [], {}
    shares = fair_shares(sizes, budget)
    for place, text in enumerate(texts):
        size, share = sizes[place], shares[place]
        if size <= max(share, _LEAST):
            kept.append(text)
            continue
        keep = int(len(text) * max(share - _NOTE, _LEAST) / size)
        head = keep // 2
        tail = keep - head
        left_out[place] = len(text) - keep
        kept.append(text[:head] + _LEFT_OUT.format(left_out[place]) + text[len(text) - tail :])
    return kept, left_out
