"""Whether a call may be made a second time: is there room in the rate limits, and money that the run may cost?"""

from mixtura.decisions import NoticedDetail
from mixtura.engine import calls
from mixtura.engine.ask import Ask
from mixtura.engine.context import Run
from mixtura.limits.queue import Priority
from mixtura.planning.schedule import output_limit
from mixtura.recipe import Fallback, Slot
from mixtura.tokens import estimate_messages


def has_room(run: Run, ask: Ask, asked: Fallback | Slot) -> bool:
    """Say whether a second try of `asked` fits the rate limits now, with nobody waiting for them."""
    account = run.account(asked.provider, asked.model)
    if account is None or account.unlimited:
        return True
    card = run.models.card(asked.provider, asked.model)
    limit = output_limit(ask.slot, card, ask.role, ask.options)
    size = account.reserve_for(estimate_messages(ask.messages), limit)
    accounting = run.models.find(asked.provider, asked.model).accounting
    waiting = accounting is not None and accounting.limiter().queue.ahead(account.key, Priority.BATCH) != (0, 0)
    return not waiting and account.quote(size, run.loop.time()).wait <= 0


def pay(run: Run, ask: Ask, asked: Fallback | Slot, *, racing: bool) -> bool:
    """Set aside what a second try costs at most; say whether the run may cost that much.

    Args:
        run: the run.
        ask: what is asked.
        asked: whom the second try asks.
        racing: the first try goes on beside it; else it is the last hope, and a run without it warns.
    """
    allowance = run.allowance
    if allowance is None or allowance.take(calls.worst_cost(run, ask, asked)):
        return True
    why = f"that could bring the run past the ${allowance.most:.6f} that it may cost"
    run.decide(NoticedDetail(), f"{ask.slot.model} was not asked a second time: {why}", warning=not racing)
    return False
