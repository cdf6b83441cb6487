"""`python -m calibration`: fits factors to measured points and reports how well they predict."""

import argparse
from collections import Counter
from pathlib import Path

from calibration import assembly, kernels, report, serving
from calibration.rows import read

ROOT = Path(__file__).parents[1]
DATA = ROOT / ".." / "shared" / "data" / "hardware"
POINTS = "gpu_serving_dev.csv.gz"
KEPT = ROOT / "src" / "mixtura" / "hardware" / "data"


def main() -> None:
    """Parse the command line; fit all factors, or check the shipped factors on other rows."""
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__)
    does = parser.add_subparsers(dest="does", required=True)
    fit = does.add_parser("fit", help="fit all factors, write them and the report")
    fit.add_argument("--data", type=Path, default=DATA, help="folder of the measured points")
    fit.add_argument("--report", type=Path, default=ROOT / "docs" / "fit.md")
    check = does.add_parser("check", help="compare the shipped factors with serving points, in the fit or not")
    check.add_argument("rows", type=Path, help=f"a file like {POINTS}")
    check.add_argument("--data", type=Path, default=DATA, help="folder of the points for the alternative fits")
    given = parser.parse_args()
    missing = [
        path for path in (given.data / POINTS, *([given.rows] if given.does == "check" else [])) if not path.is_file()
    ]
    if missing:
        parser.exit(3, f"calibration: no measured points in {missing[0]}: give the file, or its folder with --data\n")
    if given.does == "check":
        unknown: Counter[str] = Counter()
        try:
            rows = read(given.rows, unknown)
        except (OSError, EOFError, KeyError, ValueError) as error:
            parser.exit(3, f"calibration: {given.rows} does not have the format of {POINTS}: {error}\n")
        print(report.serving_check(given.rows, rows, read(given.data / POINTS)), end="")
        for name, count in unknown.items():
            print(f"left out, not in the catalogue: {name}, {count} points")
        return
    found = serving.fit_serving(read(given.data / POINTS))
    serving.write(found, KEPT / "gpu.json")
    layers = kernels.run(given.data / "moe_kernel_latency.csv.gz")
    kernels.write(layers, KEPT / "kernels.json")
    parts = [report.serving(found), report.kernels(layers), report.assembly(assembly.fit(given.data, KEPT))]
    given.report.write_text(report.whole(parts), "utf-8")
    print(given.report.read_text("utf-8"), end="")


if __name__ == "__main__":
    main()
