"""`python -m bench.dialects`: asks every server of the table over HTTP and prints what came of it."""

import argparse
import asyncio

from bench.dialects.ask import ask, differences, modes_of
from bench.dialects.table import PARTS, ROWS


async def _asked(only: str) -> int:
    wrong = 0
    for part, rows in PARTS.items():
        chosen = [row for row in rows if only in row.name]
        if chosen:
            print(part)
        for row in chosen:
            for mode in modes_of(row):
                found = differences(row, await ask(row, mode))
                wrong += bool(found)
                print(f"  {row.name:<44} {mode:<7} {'; '.join(found) or 'ok'}", flush=True)
    return wrong


def main() -> int:
    """Print the table. Returns 1 if a reply does not become what it should."""
    parser = argparse.ArgumentParser(prog="python -m bench.dialects", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="only rows whose name holds this word")
    wrong = asyncio.run(_asked(parser.parse_args().only))
    print(
        f"{len(ROWS)} rows, " + ("all as they should be." if not wrong else f"{wrong} replies not as they should be.")
    )
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
