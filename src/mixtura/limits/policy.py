"""What each failure means, in one table: whether to try again and when, whether another model is asked, who is blamed.

`ModelError.action` carries the second column to `models/wrappers/retry.py`; the sets below carry the last two to
`models/wrappers/limited.py`; `engine/calls.py` asks fall-backs for every failure. docs/limits.md shows the same table.

    failure        again                      another model   breaker    counted in the windows
    unreachable    after a pause              fall-back       provider   unknown: stays counted
    overloaded     after a pause              fall-back       model      no: nothing was begun
    broken_reply   after a pause              fall-back       model      yes
    bad_generation after a pause              fall-back       -          yes
    rate_limited   when its limit allows      fall-back       -          no, but one request a day
    model_gone     never                      replacement     -          no
    timed_out      a hedge, when one is left  fall-back       model      yes
    too_large      never                      fall-back       -          no
    unloadable     never                      fall-back       -          no: a model file has no windows
    rejected       never                      fall-back       -          no
    unauthorized   never                      fall-back       -          no; nothing else of its key is begun
"""

from mixtura.errors import (
    BrokenReplyError,
    ModelError,
    ModelGoneError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    TooLargeError,
    UnauthorizedError,
    UnloadableError,
    UnreachableError,
)

TRIPS: tuple[type[ModelError], ...] = (UnreachableError, OverloadedError, BrokenReplyError, TimedOutError)
"""Failures that say that a model or its provider is not well."""

UNCOUNTED: tuple[type[ModelError], ...] = (
    OverloadedError,
    RateLimitedError,
    ModelGoneError,
    TooLargeError,
    RejectedError,
    UnauthorizedError,
    UnloadableError,
)
"""Refusals: the provider counts no tokens for them. (498 and 5xx are not billed; headers correct what is counted.)"""
