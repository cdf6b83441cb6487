"""Plays and checks one scenario, in any process."""

import signal

from bench.chaos.checks import find_broken
from bench.chaos.matrix import ScenarioVerdict
from bench.chaos.scenarios import ChaosScenario, scenario
from bench.chaos.world import play

# Seconds of real time after which a scenario counts as hanging. In virtual time the longest one takes a second.
_HANGS = 60


class HangsError(Exception):
    """A scenario did not end within its limit of real time."""


def judge(case: ChaosScenario) -> ScenarioVerdict:
    """Play a scenario and return its verdict. A crash or a hang counts as a broken invariant."""
    signal.signal(signal.SIGALRM, _hang)
    signal.alarm(_HANGS)
    try:
        played = play(case)
        return ScenarioVerdict.of(case, sum(ran.error is None for ran in played.runs), find_broken(played))
    except Exception as error:  # noqa: BLE001  # any exception is a finding, and the other scenarios go on
        return ScenarioVerdict.of(case, 0, [f"crash: {type(error).__name__}: {error}"])
    finally:
        signal.alarm(0)


def _hang(*_: object) -> None:
    raise HangsError(f"it did not end within {_HANGS} s of real time")


def judge_number(one: tuple[int, int]) -> ScenarioVerdict:
    """Judge the scenario of a (seed, number) pair, which is cheap to send to a worker process."""
    return judge(scenario(*one))
