"""`python -m bench.fuzz`: reads mutated replies of the table for some minutes, and prints what should not have come."""

import argparse
import random
import time

from bench.fuzz.check import problems_of
from bench.fuzz.mutate import mutated


def main() -> int:
    """Print each case with a problem. Returns 1 if there is any."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, metavar="N", help="how long")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first case")
    parser.add_argument("--case", type=int, metavar="N", help="one case alone, with what was sent")
    given = parser.parse_args()
    if given.case is not None:
        reply = mutated(random.Random(given.case))
        print(dict(reply.headers), reply.body, *problems_of(given.case), sep="\n")
        return 0
    case, bad, end = given.seed, 0, time.monotonic() + 60 * given.minutes
    while time.monotonic() < end:
        if found := problems_of(case):
            bad += 1
            print(f"case {case}: {'; '.join(found)}"[:1000], flush=True)
        case += 1
    print(f"{case - given.seed:,} replies, {bad} with a problem.")
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
