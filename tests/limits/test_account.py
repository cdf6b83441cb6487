"""What is believed of one key's windows, held against a provider that counts as the recorded headers do."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtura.chat import RateLimitHeaders
from mixtura.errors import Exceeded
from mixtura.limits.account import FITS, PROBE_DELAY, Account, SentCall
from mixtura.limits.window import Limits
from mixtura.sim.quota import ModelQuota

FREE = Limits(rpm=30, rpd=1000, tpm=8000, tpd=200_000)
DEVELOPER = Limits(rpm=1000, tpm=250_000)


def told(quota: ModelQuota, now: float) -> RateLimitHeaders:
    """What the provider's headers would say now."""
    headers = quota.headers(now)
    names = ("limit-requests", "remaining-requests", "limit-tokens", "remaining-tokens")
    return RateLimitHeaders(*(float(headers[f"x-ratelimit-{name}"]) for name in names))


def test_a_call_that_fits_every_window_waits_for_none() -> None:
    assert Account("a", FREE, known=True).quote(7000, 0.0).wait == 0


@pytest.mark.parametrize(("tokens", "dimension", "limit"), [(8001, "tpm", 8000), (200_001, "tpm", 8000)])
def test_what_can_never_fit_names_the_window(tokens: int, dimension: str, limit: int) -> None:
    quote = Account("a", FREE, known=True).quote(tokens, 0.0)
    assert (quote.wait, quote.dimension, quote.limit, quote.requested) == (math.inf, dimension, limit, tokens)


def test_a_demand_of_the_whole_window_fits_when_it_is_empty() -> None:
    account = Account("a", FREE, known=True)
    assert account.quote(8000, 0.0).wait == 0
    account.take(100, 0.0)
    wait = account.quote(8000, 0.0).wait
    assert 0 < wait < 2
    assert account.quote(8000, wait).wait == 0


def test_requests_count_beside_tokens() -> None:
    account = Account("a", FREE, known=True)
    for _ in range(30):
        account.take(1, 0.0)
    quote = account.quote(1, 0.0)
    assert quote.dimension == "rpm"
    assert quote.wait == pytest.approx(2.1)


def test_what_is_held_for_other_runs_is_not_free() -> None:
    account = Account("a", FREE, known=True)
    account.held_tokens, account.held_requests = 5000, 1
    assert account.quote(3000, 0.0).wait > 0
    assert account.quote(2900, 0.0).wait == 0


@settings(max_examples=300, deadline=None)
@given(
    calls=st.lists(
        st.tuples(
            st.floats(0.0, 20.0),  # seconds since the call before
            st.integers(1, 4000),  # tokens as estimated
            st.integers(-300, 300),  # how far the provider's own estimate differs
            st.floats(0.0, 30.0),  # seconds until the reply
        ),
        min_size=1,
        max_size=40,
    )
)
def test_late_replies_in_any_order_keep_belief_and_provider_in_step(
    calls: list[tuple[float, int, int, float]],
) -> None:
    account, quota = Account("a", FREE, known=True), ModelQuota(FREE)
    now = 0.0
    waiting: list[tuple[float, int, SentCall, RateLimitHeaders]] = []
    for pause, tokens, off, takes in calls:
        now += pause
        for reply in sorted(entry for entry in waiting if entry[0] <= now):
            waiting.remove(reply)
            account.settle(reply[2], reply[0], headers=reply[3])
        real = max(1, tokens + off)
        sent = account.take(tokens, now)
        if quota.admit(real, now) is not None:
            account.refund(sent, now)
            continue
        waiting.append((now + takes, len(waiting), sent, told(quota, now)))
    for at, _, sent, said in sorted(waiting, key=lambda entry: entry[0]):
        account.settle(sent, at, headers=said)
        now = max(now, at)
    theirs = quota._buckets["tokens per minute (TPM)"].level(now)
    # Never less than the provider counts but for what rounding of the header leaves open.
    assert account.buckets["tpm"].level(now) >= theirs - 2.0


def test_a_reply_alone_puts_belief_where_the_provider_is() -> None:
    account, quota = Account("a", FREE, known=True), ModelQuota(FREE)
    sent = account.take(1000, 0.0)
    quota.admit(900, 0.0)
    account.settle(sent, 3.0, headers=told(quota, 0.0))
    assert account.buckets["tpm"].level(3.0) == pytest.approx(900 - 400, abs=1.5)


def test_limits_told_by_headers_replace_a_guess_and_name_the_plan() -> None:
    account = Account("a", FREE, plans=(FREE, DEVELOPER))
    assert account.guessing
    sent = account.take(100, 0.0)
    account.settle(sent, 1.0, headers=RateLimitHeaders(None, None, 250_000, 249_900))
    assert account.known
    assert account.limits == DEVELOPER


def test_limits_of_no_plan_are_taken_as_told() -> None:
    account = Account("a", FREE, plans=(FREE, DEVELOPER))
    account.settle(account.take(100, 0.0), 1.0, headers=RateLimitHeaders(500, 499, 12_345, 12_000))
    assert account.limits == Limits(rpd=500, tpm=12_345)


def test_a_limit_of_one_is_a_limit() -> None:
    account = Account("a", FREE)
    account.settle(account.take(100, 0.0), 1.0, headers=RateLimitHeaders(1, 0, None, None))
    assert (account.known, account.limits.rpd) == (True, 1)


def test_the_head_of_a_reply_ends_a_guess_and_its_end_teaches_nothing_more() -> None:
    account = Account("a", FREE, plans=(FREE, DEVELOPER))
    first, second = account.take(3000, 0.0), account.take(3000, 0.0)
    assert account.quote_call(3000, 0.0).wait > 0
    account.learn(first, RateLimitHeaders(None, None, 250_000, 247_000), 1.0)
    assert account.limits == DEVELOPER
    assert account.quote_call(3000, 1.0).wait == 0
    later = [account.take(40_000, 1.0) for _ in range(4)]
    level = account.buckets["tpm"].level(9.0)
    account.settle(first, 9.0, headers=RateLimitHeaders(None, None, 250_000, 247_000))
    assert account.buckets["tpm"].level(9.0) == level
    assert account.in_flight == 1 + len(later)
    account.settle(second, 9.0, headers=RateLimitHeaders(None, None, 250_000, 244_000))


def test_a_call_that_exceeds_a_guess_looks_again_soon_while_others_are_under_way() -> None:
    account = Account("a", FREE)
    sent = account.take(7000, 0.0)
    assert account.quote_call(7000, 0.0).wait == PROBE_DELAY
    assert account.quote_call(9000, 0.0).wait == PROBE_DELAY
    account.abandon(sent)
    # What failed may have been counted, so the guess paces; it can say nothing of a call that it never has room for.
    assert account.quote_call(7000, 0.0).wait == pytest.approx(6000 / (8000 / 60), abs=0.2)
    assert account.quote_call(9000, 0.0) == FITS


def test_a_test_of_a_guess_waits_as_long_as_a_refusal_says() -> None:
    account = Account("a", FREE)
    account.refund(account.take(7000, 0.0), 1.0)
    account.learn_refusal(Exceeded("", 0.0), 5.0, 1.0)
    assert account.quote_call(9000, 2.0).wait == 4.0
    assert account.quote_call(9000, 6.0) == FITS


def test_a_provider_that_tells_no_limits_has_none_unless_the_user_says_so() -> None:
    guess, sure = Account("a", FREE), Account("b", FREE, known=True)
    guess.settle(guess.take(100, 0.0), 1.0)
    sure.settle(sure.take(100, 0.0), 1.0)
    assert guess.unlimited
    assert not sure.unlimited


@pytest.mark.parametrize(
    "odd",
    [
        RateLimitHeaders(None, None, 8000, -5),
        RateLimitHeaders(None, None, 8000, 9000),
        RateLimitHeaders(None, None, 0, 0),
        RateLimitHeaders(None, None, None, 100),
        RateLimitHeaders(1000, None, None, None),
        RateLimitHeaders(None, None, 8000, None),
    ],
)
def test_headers_that_contradict_themselves_change_no_level(odd: RateLimitHeaders) -> None:
    account = Account("a", FREE, known=True)
    account.settle(account.take(3000, 0.0), 0.0, headers=odd)
    assert account.buckets["tpm"].level(0.0) == 3000
    assert account.limits.tpm == 8000


def test_a_refusal_that_names_its_window_fills_it() -> None:
    account = Account("a", FREE, known=True)
    account.refund(account.take(500, 0.0), 0.0)
    account.learn_refusal(Exceeded("tpm", 8000, 7900), 11.2, 0.0)
    assert account.quote(500, 0.0).wait == pytest.approx((7900 + 500 - 8000) / (8000 / 60) + 0.1, abs=0.02)


@pytest.mark.parametrize(("taken", "used", "level"), [(7000, 7900, 7900), (7000, 100, 7000), (7000, 9000, 8000)])
def test_a_refusal_fills_its_window_up_to_the_limit_and_never_empties_it(taken: int, used: float, level: float) -> None:
    account = Account("a", FREE, known=True)
    account.take(taken, 0.0)
    account.learn_refusal(Exceeded("tpm", 8000, used), 11.2, 0.0)
    assert account.buckets["tpm"].level(0.0) == level


def test_a_refusal_without_figures_blocks_for_as_long_as_it_says() -> None:
    account = Account("a", FREE, known=True)
    account.learn_refusal(Exceeded("", 0.0), 7.66, 0.0)
    assert account.quote(1, 0.0).wait == pytest.approx(7.66)
    assert account.quote(1, 7.7).wait == 0


def test_a_wait_of_a_century_blocks_for_a_day_at_most() -> None:
    account = Account("a", FREE, known=True)
    account.learn_refusal(Exceeded("", 0.0), 1e10, 0.0)
    assert account.quote(1, 0.0).wait <= 86_400


def test_a_window_that_nobody_knew_is_learned_from_its_refusal() -> None:
    account = Account("a")
    assert account.limits == Limits()
    account.learn_refusal(Exceeded("rpm", 20, 20), 3.0, 0.0)
    assert not account.unlimited
    assert account.limits == Limits(rpm=20)
    assert account.quote(1, 0.0).wait > 0


def test_refused_calls_cost_no_tokens_but_a_request_of_the_day() -> None:
    account = Account("a", FREE, known=True)
    account.refund(account.take(5000, 0.0), 0.0)
    levels = {name: bucket.level(0.0) for name, bucket in account.buckets.items()}
    assert levels == {"rpm": 0, "rpd": 1, "tpm": 0, "tpd": 0}


def test_whether_unused_output_is_given_back_is_learned_from_the_headers() -> None:
    account = Account("a", FREE, known=True)
    now, level = 0.0, 0.0
    learned = []
    for _ in range(6):
        sent = account.take(2000, now)
        level = max(0.0, level) + 2000
        account.settle(sent, now + 0.5, headers=RateLimitHeaders(None, None, 8000, 8000 - level), actual=200)
        # This provider returns what was not used as soon as the reply is whole.
        level -= 1800 + 0.5 * 8000 / 60
        level, now = max(0.0, level), now + 0.5
        learned.append(account.gives_back)
    # The first reply has nothing before it that could have been given back; the two after it show it.
    assert learned == [False, False, True, True, True, True]
    for _ in range(3):
        sent = account.take(2000, now)
        level += 2000
        account.settle(sent, now, headers=RateLimitHeaders(None, None, 8000, max(0.0, 8000 - level)), actual=200)
    assert not account.gives_back


def test_cached_prompt_tokens_do_not_count() -> None:
    account = Account("a", FREE, known=True)
    account.settle(account.take(3000, 0.0), 0.0, headers=RateLimitHeaders(None, None, 8000, 5000))
    account.credit(2000, 0.0)
    assert account.buckets["tpm"].level(0.0) == pytest.approx(1000)
    assert account.buckets["tpd"].level(0.0) == pytest.approx(1000)


def test_estimates_are_corrected_quickly_upwards_and_slowly_downwards() -> None:
    account = Account("a", FREE, known=True)
    account.learn_estimate(100, 200)
    assert account.reserve_for(100, 50) == math.ceil(150 * 1.05) + 50
    up = account.ratio
    account.learn_estimate(100, 100)
    assert up - 0.1 < account.ratio < up
    account.learn_estimate(0, 100)
    account.learn_estimate(100, 10**9)
    assert account.ratio < 8


def test_the_day_is_charged_what_the_prompt_really_was() -> None:
    account = Account("a", FREE, known=True)
    account.settle(account.take(3000, 0.0), 0.0, headers=RateLimitHeaders(None, None, 8000, 5100), excess=100)
    assert account.buckets["tpd"].level(0.0) == pytest.approx(2900)
    assert account.buckets["tpm"].level(0.0) == pytest.approx(2900)


def test_a_clock_set_back_by_an_hour_freezes_nothing() -> None:
    account = Account("a", FREE, known=True)
    account.take(8000, 10_000.0)
    back = 6_400.0
    wait = account.quote(4000, back).wait
    assert wait < 31
    assert account.quote(4000, back + wait).wait == 0


def test_books_are_closed_once() -> None:
    account = Account("a", FREE, known=True)
    sent = account.take(1000, 0.0)
    account.settle(sent, 0.0)
    account.settle(sent, 0.0)
    account.abandon(sent)
    account.refund(sent, 0.0)
    assert account.in_flight == 0
    assert account.buckets["tpm"].level(0.0) == 1000


def test_a_reply_to_a_call_of_windows_that_are_no_more_tells_the_level_as_it_is() -> None:
    account = Account("a", FREE)
    first, second = account.take(1000, 0.0), account.take(1000, 0.0)
    account.settle(first, 0.0)
    assert account.unlimited, "no limits were told, so there are none"
    account.settle(second, 0.0, headers=RateLimitHeaders(None, None, 8000, 5000))
    assert account.buckets["tpm"].level(0.0) == 3000


def test_a_late_reply_does_not_undo_what_a_later_call_of_an_open_account_was_told() -> None:
    account = Account("a", FREE)
    first, second = account.take(1000, 0.0), account.take(1000, 0.0)
    account.settle(first, 0.0)
    third = account.take(1000, 0.0)
    account.settle(third, 0.0, headers=RateLimitHeaders(None, None, 8000, 8000))
    account.settle(second, 0.0, headers=RateLimitHeaders(None, None, 8000, 2000))
    assert account.buckets["tpm"].level(0.0) == 0


def test_a_call_ends_once() -> None:
    account = Account("a", FREE, known=True)
    kept, sent = account.take(3000, 0.0), account.take(2000, 0.0)
    for _ in range(2):
        account.refund(sent, 0.0)
    account.settle(sent, 0.0, headers=RateLimitHeaders(None, None, 8000, 8000), actual=10, excess=500)
    account.abandon(sent)
    assert (account.buckets["tpm"].level(0.0), account.buckets["rpm"].level(0.0), account.in_flight) == (3000, 1, 1)
    for _ in range(2):
        account.abandon(kept)
    assert account.in_flight == 0


def test_headers_without_a_limit_end_a_guess() -> None:
    account = Account("a", FREE)
    account.settle(account.take(1000, 0.0), 0.0, headers=RateLimitHeaders(None, 5.0, 0.0, 5.0))
    assert account.unlimited
    assert account.quote(10**9, 0.0) == FITS
