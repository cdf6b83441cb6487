"""`python -m calibration`: from measured points to factors and the report of how well they predict."""

import argparse
from pathlib import Path

from calibration import assembly, kernels, report, serving
from calibration.rows import read

ROOT = Path(__file__).parents[1]
DATA = ROOT / ".." / "shared" / "data" / "hardware"
KEPT = ROOT / "src" / "mixtura" / "hardware" / "data"


def main() -> None:
    """Read the command line; fit, or hold the kept factors against other rows."""
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__)
    does = parser.add_subparsers(dest="does", required=True)
    fit = does.add_parser("fit", help="fit all factors, write them and the report")
    fit.add_argument("--data", type=Path, default=DATA, help="folder of the measured points")
    fit.add_argument("--report", type=Path, default=ROOT / "docs" / "fit.md")
    check = does.add_parser("check", help="hold the kept factors against serving points, fitted on or not")
    check.add_argument("rows", type=Path, help="a file like gpu_serving_dev.csv.gz")
    given = parser.parse_args()
    if given.does == "check":
        print(report.checked(read(given.rows)))
        return
    found = serving.fitted(read(given.data / "gpu_serving_dev.csv.gz"))
    serving.write(found, KEPT / "gpu.json")
    parts = [report.serving(found), report.kernels(kernels.fit(given.data)), report.assembly(assembly.fit(given.data))]
    given.report.write_text(report.whole(parts), "utf-8")
    print(given.report.read_text("utf-8"))


if __name__ == "__main__":
    main()
