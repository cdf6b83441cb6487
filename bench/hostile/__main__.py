"""`python -m bench.hostile`: every kind of hostile reply, what it costs, and whether that is within its bounds."""

import argparse

from bench.hostile.bodies import REPLIES
from bench.hostile.measure import Measured, Question, measured, modes_of

_MOST_RATIO, _MOST_OVER, _MOST_LAG = 3.0, 0.5, 0.2
# Python's own leeway: small replies cost arenas of the allocator, not their size.
_LEEWAY = 4 << 20


def within_bounds(row: Measured) -> bool:
    """Return whether a hostile reply cost no more than it may."""
    return (
        row.memory <= _MOST_RATIO * row.size + _LEEWAY
        and row.over <= _MOST_OVER
        and row.lag <= _MOST_LAG
        and row.drafts >= 2
    )


def main() -> int:
    """Print the table. Returns 1 if a reply costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="only kinds whose name holds this word")
    parser.add_argument(
        "--megabytes", type=float, default=8.0, metavar="MB", help="size of the bodies that have an end"
    )
    parser.add_argument("--deadline", type=float, default=3.0, metavar="S", help="seconds that a run has")
    parser.add_argument("--tokens", type=int, default=1024, metavar="N", help="tokens that a request allows")
    parser.add_argument("--anything", action="store_true", help="ask for images, so that replies may be larger")
    given = parser.parse_args()
    size = int(given.megabytes * 1_000_000)
    print(
        f"{'reply':<22} {'asked':<10} {'MB':>6} {'memory':>8} {'x size':>7} {'s':>6} {'over':>6} {'lag ms':>7}  drafts"
    )
    bad = 0
    for name in REPLIES:
        for mode in modes_of(name) if given.only in name else ():
            row = measured(
                Question(
                    name=name,
                    mode=mode,
                    size=size,
                    deadline=given.deadline,
                    max_tokens=given.tokens,
                    anything=given.anything,
                )
            )
            sound = within_bounds(row)
            bad += not sound
            print(
                f"{name:<22} {mode:<10} {row.size / 1e6:6.1f} {row.memory / 1e6:8.1f} {row.memory / row.size:7.2f} "
                f"{row.seconds:6.2f} {row.over:6.2f} {row.lag * 1000:7.0f}  {row.drafts}"
                f"{'' if sound else '  OUT OF BOUNDS'}  {row.said[:90]}",
                flush=True,
            )
    print("Every reply stays within its bounds." if not bad else f"{bad} replies do not.")
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
