"""What an evaluation leaves behind: its episodes, its rows, a plot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from adapters.errors import StoreError
from adapters.evaluation.conditions import VIEWS
from adapters.evaluation.episodes import store
from adapters.evaluation.evaluate import Evaluation, Row, Task


def save(evaluation: Evaluation, task: Task, folder: Path) -> Iterator[str]:
    """Write episodes.json, rows.json and, where matplotlib is installed, plot.png; yield a line about each.

    Raises:
        StoreError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "condition": task.condition,
            "views": VIEWS[task.condition],
            "seed": task.seed,
            "encoder": evaluation.encoder,
        }
        store(folder / "episodes.json", evaluation.pool, evaluation.episodes, facts)
        (folder / "rows.json").write_text(json.dumps([row.answer() for row in evaluation.rows], indent=1) + "\n")
    except OSError as error:
        raise StoreError(f"{folder}: can't be written ({error.strerror})") from None
    yield f"{folder}: episodes.json, rows.json"
    try:
        plot(evaluation.rows, folder / "plot.png")
        yield f"{folder / 'plot.png'}"
    except ImportError:
        yield "no plot: matplotlib is not installed; run: pip install matplotlib"


def plot(rows: list[Row], path: Path) -> None:
    """Draw accuracy with its 95 % interval, one panel for each number of shots."""
    from matplotlib.figure import Figure

    shots = sorted({row.shots for row in rows})
    figure = Figure(figsize=(4.2 * len(shots) + 1.2, 3.2), layout="constrained")
    for axes, shot in zip(figure.subplots(1, len(shots), squeeze=False, sharey=True)[0], shots, strict=True):
        chosen = sorted((row for row in rows if row.shots == shot), key=lambda row: row.accuracy)
        for y, row in enumerate(chosen):
            colour = "tab:green" if row.method == "wildlane" else "tab:gray"
            axes.errorbar(row.accuracy, y, xerr=row.ci95, fmt="o", color=colour, capsize=3)
            axes.annotate(
                f"{row.method} {row.accuracy:.1f}",
                (row.accuracy, y),
                (0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        axes.set(title=f"{rows[0].condition}, {rows[0].ways}-way {shot}-shot", xlabel="accuracy, %", yticks=[])
        axes.set_ylim(-0.5, len(chosen))
        axes.margins(x=0.2)
    figure.savefig(path, dpi=120)
