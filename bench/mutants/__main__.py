"""`make mutants`: changes the code in 1,500 places, one at a time, and says which of the changes no test notices.

It works in a copy, `mutants/`. A run that was interrupted goes on where it stopped; a change of a function makes its
mutants anew, and a change of the tests has the survivors judged again.
"""

import argparse
import fnmatch
import hashlib
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.mutants.report import listing, read_arguments, survivors_of, table, without_effect
from bench.mutants.verdicts import Mutant, draw_sample, forget_survivors, forget_unreadable, read_mutants

PROJECT = Path(__file__).parent.parent.parent
_TESTS_SEEN = "tests-seen.txt"
# mutmut runs the tests of all mutants it is given unchanged first, once a piece; what is judged is kept one by one.
_PIECE = 500
# A file of few mutants: with it mutmut makes all of them, and finds out which test reaches what.
_FIRST = "mixtura.limits.redis.url.*"


def main() -> int:
    """Parse the options, have the sample judged and print the report. Returns 1 if it could not be judged."""
    parser = argparse.ArgumentParser(prog="python -m bench.mutants", description=__doc__)
    parser.add_argument("--mutants", type=int, default=1_500, metavar="N", help="size of the sample")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="seed of the sample")
    parser.add_argument(
        "--only", action="append", default=[], metavar="GLOB", help="only files below src/mixtura, such as 'limits/*'"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="mutants at a time")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="M", help="stop after about this long")
    parser.add_argument("--report", action="store_true", help="judge nothing, report what has been judged")
    args = parser.parse_args()
    end = time.monotonic() + args.minutes * 60
    # Whoever ends this program ends mutmut with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    forget_unreadable(PROJECT)
    if not args.report:
        _note_tests()
        _mutmut([_FIRST], args.processes, end)

    def sample() -> list[Mutant]:
        wanted = [one for one in read_mutants(PROJECT) if _is_wanted(one, args.only)]
        return draw_sample(wanted, args.mutants, args.seed)

    complete = args.report or _judge(sample, args.processes, end)
    drawn = sample()
    arguments = read_arguments()
    survivors = survivors_of(PROJECT, drawn, arguments)
    print("\n".join([*table(drawn, survivors), *listing(survivors)]))
    for one in without_effect(PROJECT, arguments):
        print(f"\nargued.toml: {one.function} no longer has these lines, delete the entry:\n{one.old}")
    left = sum(one.verdict is None for one in drawn)
    if left:
        print(f"\n{left:,} of {len(drawn):,} are not judged yet: run it again to go on.")
    return int(not complete)


def _is_wanted(mutant: Mutant, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatch.fnmatch(mutant.file, glob) for glob in globs)


def _judge(sample: Callable[[], list[Mutant]], processes: int, end: float) -> bool:
    """Have the sample judged piece by piece; return False if mutmut fails, as it does where a test fails unchanged."""
    before: list[str] = []
    while True:
        drawn = sample()
        waiting = [one.name for one in drawn if one.verdict is None][:_PIECE]
        counts = Counter(one.verdict for one in drawn)
        print(
            f"{len(drawn) - counts[None]:,} of {len(drawn):,} judged, "
            f"{counts['survived'] + counts['no tests']:,} not noticed",
            file=sys.stderr,
            flush=True,
        )
        if not waiting or time.monotonic() >= end:
            return True
        if waiting == before or not _mutmut(waiting, processes, end):
            return time.monotonic() >= end
        before = waiting


def _note_tests() -> None:
    """Forget what survived the tests of an earlier run, and what those tests reached, where they have changed since."""
    digest = hashlib.sha256()
    for path in sorted((PROJECT / "tests").rglob("*.py")):
        digest.update(path.read_bytes())
    copy = PROJECT / "mutants"
    seen = copy / _TESTS_SEEN
    before = seen.read_text("utf-8") if seen.exists() else ""
    if before != digest.hexdigest():
        forget_survivors(PROJECT)
        # mutmut would only look at what new tests reach, not at what changed ones do.
        (copy / "mutmut-stats.json").unlink(missing_ok=True)
        copy.mkdir(exist_ok=True)
        seen.write_text(digest.hexdigest(), "utf-8")


def _mutmut(names: Sequence[str], processes: int, end: float) -> bool:
    """Have mutmut judge the named mutants; return whether it came to its end."""
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(processes), *names]
    log = PROJECT / "mutants" / "mutmut.log"
    log.parent.mkdir(exist_ok=True)
    left = None if end == math.inf else max(1.0, end - time.monotonic())
    # In a group of its own, so that whoever ends it ends the mutant at work as well; what has been judged is kept.
    with log.open("wb") as output:
        running = subprocess.Popen(command, cwd=PROJECT, stdout=output, stderr=output, start_new_session=True)
        try:
            status = running.wait(left)
        except subprocess.TimeoutExpired:
            return False
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGTERM)
                running.wait()
    if status:
        said = log.read_text("utf-8", errors="replace").replace("\r", "\n").splitlines()
        print(*[line for line in said if line.strip()][-20:], sep="\n", file=sys.stderr)
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
