"""Drafts are trimmed fairly, and only when they must be."""

from hypothesis import given
from hypothesis import strategies as st

from mixtura.engine import trim
from mixtura.tokens import estimate_messages, estimate_tokens

sizes = st.lists(st.integers(0, 10_000), min_size=1, max_size=8)


@given(sizes, st.integers(0, 30_000))
def test_shares_keep_to_the_budget_and_cut_only_the_large(sizes: list[int], budget: int) -> None:
    shares = trim.fair_shares(sizes, budget)
    assert sum(shares) <= max(budget, 0) or shares == sizes
    assert all(share <= size for share, size in zip(shares, sizes, strict=True))
    cut = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    whole = [size for share, size in zip(shares, sizes, strict=True) if share == size]
    if cut:
        assert len(set(cut)) == 1
        assert all(size <= cut[0] or size in shares for size in whole)
        assert sum(shares) > budget - len(sizes)


@given(st.lists(st.text(st.characters(codec="ascii"), max_size=4000), min_size=1, max_size=5), st.integers(400, 2000))
def test_trimmed_texts_keep_both_ends_and_say_what_is_missing(texts: list[str], budget: int) -> None:
    kept, left_out = trim.trim(texts, budget)
    assert len(kept) == len(texts)
    for place, (before, after) in enumerate(zip(texts, kept, strict=True)):
        if place not in left_out:
            assert after == before
            continue
        head, _, tail = after.partition(f"\n[... {left_out[place]} characters left out ...]\n")
        assert before.startswith(head)
        assert before.endswith(tail)
        assert len(head) + len(tail) + left_out[place] == len(before)


def test_what_fits_is_untouched_and_an_unknown_window_trims_nothing() -> None:
    texts = ["a" * 100, "b" * 100_000]
    assert trim.trim(texts, None) == (texts, {})
    assert trim.trim(texts, 100_000) == (texts, {})
    kept, left_out = trim.trim(texts, 1000)
    assert kept[0] == texts[0]
    assert list(left_out) == [1]
    assert sum(map(estimate_tokens, kept)) <= 1000


def test_room_is_what_the_window_leaves() -> None:
    assert trim.room(8192, 1000, 500) == int(8192 * 0.94) - 1500
    assert trim.room(8192, None, 500) == int(8192 * 0.94) - 500 - 2048
    assert trim.room(100, 1000, 500) == 0


@given(st.text())
def test_estimates_never_fail_and_grow_with_the_text(text: str) -> None:
    assert 0 <= estimate_tokens(text) <= estimate_tokens(text + " more words")


def test_an_estimate_is_a_little_high_for_english() -> None:
    # Nine common words: nine tokens in any large vocabulary.
    assert 9 <= estimate_tokens("The quick brown fox jumps over the lazy dog") <= 13
    assert estimate_messages(()) == 0


def test_a_shortened_text_keeps_as_much_of_its_end_as_of_its_beginning() -> None:
    text = "".join(f"{n:04}" for n in range(10_000))
    size = estimate_tokens(text)
    kept, left_out = trim.trim(["short", text], 2000)
    share = 2000 - estimate_tokens("short")
    keep = int(len(text) * (share - 16) / size)
    assert left_out == {1: len(text) - keep}
    note = f"\n[... {len(text) - keep} characters left out ...]\n"
    assert kept == ["short", text[: keep // 2] + note + text[len(text) - (keep - keep // 2) :]]


def test_what_fits_to_the_token_is_whole() -> None:
    texts = ["a b c d e f g h " * 40, "i j k l m n o p " * 40]
    needed = sum(map(estimate_tokens, texts))
    assert trim.trim(texts, needed) == (texts, {})
    assert list(trim.trim(texts, needed - 1)[1]) == [0, 1]
    # As many characters as tokens fit whatever they are.
    assert trim.trim(["!" * 50, "?" * 50], 100) == (["!" * 50, "?" * 50], {})


def test_a_text_of_sixty_four_tokens_is_never_shortened() -> None:
    short, longer = "word " * 64, "word " * 66
    assert estimate_tokens(short.strip()) >= 64
    several = [longer] * 40
    kept, left_out = trim.trim([*several, "w " * 64], 100)
    assert 40 not in left_out
    assert set(left_out) == {place for place, text in enumerate(several) if estimate_tokens(text) > 64}
    assert all(len(text) > 64 for text in kept[:40])


def test_shares_of_equal_texts_are_equal_and_a_text_as_large_as_its_share_is_whole() -> None:
    assert trim.fair_shares([10, 10, 10], 30) == [10, 10, 10]
    assert trim.fair_shares([10, 10, 10], 29) == [9, 9, 9]
    assert trim.fair_shares([5, 30, 10], 31) == [5, 16, 10]
    assert trim.fair_shares([4, 100, 100], 104) == [4, 50, 50]
    assert trim.fair_shares([10, 30, 30], 32) == [10, 11, 11]
    assert trim.fair_shares([], 10) == []


def test_a_quarter_of_an_odd_window_is_left_for_a_reply_without_a_limit() -> None:
    assert trim.room(1003, None, 100) == int(1003 * 0.94) - 100 - 250
