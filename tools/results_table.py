"""Turn what `wildlane evaluate` stored into the tables of README.md and docs/recognition.md.

python tools/results_table.py docs/evaluations/*/rows.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        rows = json.loads(path.read_text())
        shots = sorted({row["shots"] for row in rows})
        told = {(row["method"], row["shots"]): row for row in rows}
        print(f"\n{path.parent.name}, {rows[0]['ways']}-way, {max(row['episodes'] for row in rows)} episodes\n")
        columns = [f"{shot}-shot" for shot in shots] + [f"Wildlane to it, {shot}-shot" for shot in shots]
        print(f"| method | {' | '.join(columns)} | AUROC | ECE |")
        print("| --- " * (len(columns) + 3) + "|")
        for method in dict.fromkeys(row["method"] for row in rows):
            mine = [told[method, shot] for shot in shots]
            accuracy = [f"{row['accuracy']:.1f} ± {row['ci95']:.1f}" for row in mine]
            paired = [f"{row['paired_diff']:+.1f} ± {row['paired_ci95']:.1f}" for row in mine]
            known = " / ".join("-" if row["auroc"] is None else f"{row['auroc']:.1f}" for row in mine)
            error = " / ".join("-" if row["ece"] is None else f"{row['ece']:.3f}" for row in mine)
            print(f"| {method} | {' | '.join(accuracy)} | {' | '.join(paired)} | {known} | {error} |")


if __name__ == "__main__":
    main()
