"""One scenario judged, in whichever process."""

import signal

from bench.chaos.checks import find_broken
from bench.chaos.matrix import ScenarioVerdict
from bench.chaos.scenarios import ChaosScenario, scenario
from bench.chaos.world import play

# Seconds of real time after which a scenario hangs: virtual time makes the longest take one.
_HANGS = 60


class HangsError(Exception):
    """A scenario did not end in real time."""


def judge(told: ChaosScenario) -> ScenarioVerdict:
    """Play a scenario and say what came of it; a crash or a hang is a broken invariant as well."""
    signal.signal(signal.SIGALRM, _hang)
    signal.alarm(_HANGS)
    try:
        played = play(told)
        return ScenarioVerdict.of(told, sum(ran.error is None for ran in played.runs), find_broken(played))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what this looks for, and the others go on
        return ScenarioVerdict.of(told, 0, [f"crash: {type(error).__name__}: {error}"])
    finally:
        signal.alarm(0)


def _hang(*_: object) -> None:
    raise HangsError(f"it did not end within {_HANGS} s of real time")


def judge_number(one: tuple[int, int]) -> ScenarioVerdict:
    """`judge` for a process that is told a seed and a number."""
    return judge(scenario(*one))
