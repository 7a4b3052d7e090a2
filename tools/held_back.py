"""Lay out the classes that training never saw as folders for `wildlane evaluate`: links, no copies.

    python tools/held_back.py --data ../shared/data --role report --out runs/report

makes runs/report/species and runs/report/mini-imagenet.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from adapters.training.splits import class_folders


def main() -> None:
    parser = argparse.ArgumentParser(description="Link the held-back classes into folders of class folders.")
    parser.add_argument("--data", type=Path, required=True, help="folder with images/")
    parser.add_argument("--role", choices=("tune", "report"), default="report")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for source in ("species", "mini-imagenet"):
        for folder in class_folders(options.data, source, options.role):
            link = options.out / source / folder.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(folder.pictures[0].parent.resolve(), target_is_directory=True)


if __name__ == "__main__":
    main()
