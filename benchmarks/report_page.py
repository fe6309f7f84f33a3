"""How long the page of a large study takes, from its tables and, while it is going on, from its journal alone.

Claims checked: of 20,000 trials less than 20 seconds, and less than 5 MB. Each time is of a process of its own, the
imports included; "processor" is its processor time, which a busy machine does not change. The study is whatever is in
the folder; the one of the documentation is

    effnas search space=accel_nasbench evaluator=accel_nasbench evaluator.path=../shared/data/accel_nasbench
        algorithm=random trials=20000 report=false -o outputs/large

    python benchmarks/report_page.py outputs/large [--repeats 3] [--csv FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import find_commit

CODE = "import sys; from effnas import run_report; run_report([sys.argv[1]], output=sys.argv[2])"


def measure(folder: Path, page: Path) -> dict[str, float]:
    """Seconds and bytes of one page, made by a process of its own."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", CODE, str(folder), str(page)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - start, "processor": processor, "bytes": page.stat().st_size}


def main() -> None:
    """Measure both ways in turn, print the table, write each repeat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a search that has ended, with its journal")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    trials = json.loads((given.folder / "summary.json").read_text())["trials"]
    rows = []
    with tempfile.TemporaryDirectory() as place:
        going = Path(place) / "going"
        going.mkdir()
        shutil.copy(given.folder / "study.journal", going)
        ways = {"ended": given.folder, "going on": going}
        for repeat in range(given.repeats):
            for way, folder in ways.items():
                rows.append({"study": way, "repeat": repeat, **measure(folder, Path(place) / "page.html")})
    print(
        f"{trials:,} trials; {platform.machine()}, {os.cpu_count()} cores; {given.repeats} repeats; {find_commit()}\n"
    )
    print("| study | seconds | processor seconds | MB |\n|---|---|---|---|")
    for way in ways:
        cells = []
        for key, unit in (("seconds", 1), ("processor", 1), ("bytes", 1e6)):
            values = [row[key] / unit for row in rows if row["study"] == way]
            cells.append(f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]")
        print(f"| {way} | {' | '.join(cells)} |")
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["commit", "trials", *rows[0]], lineterminator="\n")
            writer.writeheader()
            writer.writerows({"commit": find_commit(), "trials": trials, **row} for row in rows)


if __name__ == "__main__":
    main()
