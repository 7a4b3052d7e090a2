"""The command `wildlane`: its verbs, and what they print. Heavy parts are imported by the verb that needs them."""

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from adapters.errors import ConfigError, InputError, WildlaneError
from monitor import VERSION
from monitor.cli_alerts import alerts_app
from monitor.cli_classes import classes_app
from monitor.cli_cluster import ClusterOption, cost_on_nodes, leave_node, run_on_cluster, with_address
from monitor.cli_fleet import fleet_app
from monitor.cli_learning import evaluate, model_app
from monitor.cli_operate import accept, backup, calibrate, restore, service_app
from monitor.context import DEFAULT_RATE_HZ, ConfigOption, Context, JsonOption, StateOption
from monitor.outlet import outlets
from monitor.output import log_to_stderr, print_answers, print_line, progress_of, say

log = logging.getLogger(__name__)

MOST_CAMERAS, SIMULATED_NODES = 64, 3  # of a benchmark

EXAMPLES = """
Examples:

\b
  wildlane demo                                     see it find animals on the bundled clip
  wildlane run --config config.toml                 watch your cameras
  wildlane replay clip.mp4 --json                   the live path on a recording
  wildlane replay clip.mp4 --truth clip.json        ... judged against the truth
  wildlane classify photo.jpg --box 40,60,120,90    what is in this box?
  wildlane teach --class moose --size large --origin wild a.jpg b.jpg c.jpg
  wildlane classes list                             what was taught, version by version
  wildlane classes export site.classes              ... as a file to carry to another site
  wildlane check-config && wildlane doctor          is everything in place?
"""

app = typer.Typer(
    name="wildlane",
    help="Watch road-intersection cameras for animals and tell traffic control in time.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(classes_app, name="classes")
app.add_typer(model_app, name="model")
app.add_typer(alerts_app, name="alerts")
app.add_typer(service_app, name="service")
app.add_typer(fleet_app, name="fleet")
app.command("leave-node", epilog="Example: wildlane leave-node rack-2 --cluster 10.0.0.1:6379")(leave_node)
app.command(epilog="Example: wildlane evaluate --images photos --condition infrared")(evaluate)
app.command(epilog="Example: wildlane accept --site recordings --out acceptance.html")(accept)
app.command(epilog="Example: wildlane calibrate night.mp4 rain.mp4 rush-hour.mp4")(calibrate)
app.command(epilog="Example: wildlane backup /mnt/usb/site.backup")(backup)
app.command(epilog="Example: wildlane restore /mnt/usb/site.backup")(restore)

ClassesOption = Annotated[str | None, typer.Option("--classes", help="Load only these taught classes: A,B,...")]
BoxOption = Annotated[
    list[str] | None, typer.Option("--box", help="x,y,w,h in pixels; once for each IMAGE, or not at all.")
]


@app.command(epilog="Example: wildlane run --config /etc/wildlane/config.toml")
def run(
    cluster: ClusterOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Watch the configured cameras and publish alerts until SIGTERM or Ctrl-C; SIGHUP reads the configuration again."""
    context = Context(config, state)
    faulthandler.enable()  # where each thread was goes to the log when the watchdog aborts us
    stop = threading.Event()
    _stop_on_signals(stop.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something that could read the configuration again
    with outlets():
        log_to_stderr(context.config.log_format)
        if cluster is not None:
            run_on_cluster(context, cluster, stop)
            return
        from monitor.daemon import Daemon

        daemon = Daemon(
            context.config, context.path, context.state_dir, stop=stop, tell=lambda alert: print_line(alert.json_text())
        )
        signal.signal(signal.SIGHUP, lambda number, frame: daemon.reload())
        daemon.run()


@app.command(epilog="Example: wildlane demo --out out")
def demo(
    config: ConfigOption = None,
    state: StateOption = None,
    out: Annotated[Path, typer.Option(help="Folder for demo.mp4.")] = Path("out"),
) -> None:
    """Play the bundled clip through the live path, print each alert, and draw out/demo.mp4."""
    from monitor.demo import run_demo

    log_to_stderr("text")
    context = Context(config, state)
    video = run_demo(context.config, out, tell=lambda alert: print_line(alert.json_text()), say=say)
    say(f"drawn: {video}")


@app.command(epilog="Example: wildlane replay north.mp4 --truth north.json --report north.html")
def replay(
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Recordings.")],
    truth: Annotated[list[Path] | None, typer.Option(help="Truth file, once for each CLIP.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page that judges it, for people to read.")] = None,
    classes: ClassesOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Run the live path on recordings: every frame due is analysed, in video time."""
    from monitor.replay import recording
    from monitor.replay import replay as replay_clip
    from monitor.report import Album, write_report
    from monitor.truth import read_truth

    if truth and len(truth) != len(clips):
        raise ConfigError(f"--truth comes once for each CLIP: {len(clips)} clips, {len(truth)} truth files")
    expected = [read_truth(path) for path in truth] if truth else [None] * len(clips)
    context = Context(config, state)
    log_to_stderr(context.config.log_format)
    build = context.pipelines(classes)
    albums: list[Album] = []
    problems = []
    for clip, true in zip(clips, expected, strict=True):
        album = Album(true)
        try:
            with progress_of(clip.name) as progress:
                watch = album.watch if report else lambda frame, outcome: None
                source = recording(clip, DEFAULT_RATE_HZ)
                album.replayed = replay_clip(source, build, watch=watch, progress=progress)
            albums.append(album)
        except InputError as problem:
            problems.append(problem)
            say(f"error: {problem}")
    answers = [album.replayed.answer(album.truth) for album in albums if album.replayed]
    if as_json and answers:
        print_answers(answers, inputs=len(clips))
    elif not as_json:
        for answer in answers:
            _print_replayed(answer)
    if report is not None and albums:
        say(f"written: {write_report(report, albums)}")
    if problems:
        raise typer.Exit(problems[0].exit_status)


@app.command(epilog="Example: wildlane bench north.mp4 --cameras 1,2,4,8 --plot bench.png")
def bench(
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Recordings.")],
    cameras: Annotated[str, typer.Option(help="How many cameras watch it live: N, or several as N,M,...")] = "1",
    cluster: Annotated[bool, typer.Option("--cluster", help="And on a Ray cluster of simulated nodes.")] = False,
    nodes: Annotated[int | None, typer.Option(min=1, max=16, help="How many of them; default 3.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a picture of it.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Measure the live path beside bare decoding of the same clip, in one run."""
    from monitor import bench as measuring

    if nodes is not None and not cluster:
        raise ConfigError("--nodes: says how many nodes --cluster is to have; give both")
    measure_cost = cost_on_nodes() if cluster else None
    counts = _counts(cameras)
    context = Context(config, state)
    build = context.pipelines(None)
    encode = context.classifier().encode
    encode.warm_up()
    answers = []
    for clip in clips:
        speeds = measuring.measure_speeds(clip, build, DEFAULT_RATE_HZ, say)
        lives = [measuring.measure_live(clip, context.config, count, say) for count in counts]
        answers.append(measuring.answer(clip, speeds, lives, encode.provider))
        if measure_cost is not None:
            answers[-1]["cluster"] = asdict(
                measure_cost(clip, context.config, counts[-1], nodes or SIMULATED_NODES, say)
            )
        if not as_json:
            _print_bench(answers[-1])
    if as_json:
        print_answers(answers, inputs=len(clips))
    if plot is not None:
        measuring.plot(answers, plot)
        say(f"drawn: {plot}")


def _counts(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= MOST_CAMERAS for part in parts):
        raise ConfigError(f"--cameras: expected numbers from 1 to {MOST_CAMERAS} such as 4 or 1,2,4, got '{text}'")
    return [int(part) for part in parts]


def _print_bench(told: dict[str, Any]) -> None:
    print_line(f"{told['clip']}: {told['pipeline_fps']:.0f} frames/s, {told['ratio']:.2f} x a bare read loop")
    print_line(f"    bare: read {told['read_fps']:.0f}, grab {told['grab_fps']:.0f} frames/s; on {told['provider']}")
    if "cluster" in told:
        cost = told["cluster"]
        where = f"{cost['cameras']} cameras on {cost['nodes']} simulated nodes"
        each = ", ".join(f"{ratio:.2f}" for ratio in cost["ratios"])
        print_line(f"    cluster: {where}, a frame takes {cost['ratio']:.2f} x one process ({each} in each round):")
        print_line(f"        {cost['cluster_ms']:.1f} ms of a core for {cost['alone_ms']:.1f}; Ray itself "
                   f"{cost['ray_per_s']:.2f} of a core, {cost['ratio_with_ray']:.2f} x with that")  # fmt: skip
    stages = ", ".join(f"{name} {value:.2f}" for name, value in told["stage_ms"].items())
    print_line(f"    ms an analysed frame: {stages}; {told['crops_per_s']:.0f} crops/s")
    for live in told["growth"]:
        late, alerts = live["latency_ms"], live["alert_latency_ms"]
        print_line(f"    {live['cameras']} live: capture to decision p50 {late['p50']:.0f}, p95 {late['p95']:.0f} ms")
        if alerts is not None:
            print_line(f"        to a subscriber p50 {alerts['p50']:.0f}, p95 {alerts['p95']:.0f} ms")
        cpu_s, memory_mb = live["cpu_s_per_analysed_frame"], live["memory_mb_per_camera"]
        print_line(f"        {memory_mb} MB a camera, {cpu_s:.3f} CPU s an analysed frame")


@app.command(epilog="Example: wildlane classify a.jpg b.jpg --box 10,20,80,60 --box 0,0,50,50 --json")
def classify(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Stills.")],
    box: BoxOption = None,
    classes: ClassesOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Say what stills show: N(x), the weight of each taught class and of none."""
    from monitor.stills import classify_still, crop_still

    boxes = _boxes(box, images)
    crops = [crop_still(image, region).pixels for image, region in zip(images, boxes, strict=True)]
    context = Context(config, state)
    classifier = context.classifier()
    class_set = context.class_set(classifier, classes)
    answers = [
        classify_still(classifier, class_set, image, region, crop)
        for image, region, crop in zip(images, boxes, crops, strict=True)
    ]
    if as_json:
        print_answers(answers, inputs=len(images))
        return
    for answer in answers:
        found = f"{answer['class']} {answer['probability']:.2f}"
        print_line(f"{answer['image']}: {found} (an animal at all: {answer['p_animal']:.2f})")
        for name, weight in sorted(answer["weights"].items(), key=lambda item: -item[1])[:5]:
            print_line(f"    {weight:5.2f} {name}")


@app.command(epilog="Example: wildlane teach --class moose --size large --origin wild a.jpg b.jpg c.jpg")
def teach(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Stills that show the animal.")],
    name: Annotated[str, typer.Option("--class", help="Name of the class; a known one gets better.")],
    size: Annotated[str, typer.Option(help="small or large: traffic control codes by it.")],
    origin: Annotated[str, typer.Option(help="wild or domestic.")],
    herd: Annotated[bool, typer.Option("--herd", help="Each box shows several together: coded as a herd.")] = False,
    box: BoxOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Teach a new class, or a better one, from a few labelled stills."""
    from adapters.classes import ClassAttributes, check_class_name
    from adapters.golden import GoldenSet
    from adapters.teaching import teach as teach_class
    from monitor.stills import crop_or_refusal

    check_class_name(name)
    if size not in ("small", "large") or origin not in ("wild", "domestic"):
        raise ConfigError(f"--size {size} --origin {origin}: expected --size small or large, --origin wild or domestic")
    boxes = _boxes(box, images)
    crops = [crop_or_refusal(image, region) for image, region in zip(images, boxes, strict=True)]
    context = Context(config, state)
    classifier = context.classifier()
    attributes = ClassAttributes(name=name, size=size, origin=origin, herd=herd)  # type: ignore[arg-type]  # checked above
    with context.store(classifier) as store, closing(GoldenSet(context.state_dir)) as golden:
        paths = [str(image) for image in images]
        lesson = teach_class(store, classifier, attributes, paths, crops, checked_on=golden)
    context.note("taught", f"{name}: {lesson.used} frames, {lesson.version}")
    answer = lesson.answer()
    if as_json:
        print_line(json.dumps(answer))
        return
    used = f"{answer['used']} of {answer['frames']} frames used"
    now = "held back" if lesson.held_back else "live"
    print_line(f"{name}: {used}, {now} as {answer['version']} after {answer['seconds']:.2f} s")
    if lesson.held_back:
        print_line(
            f"    {lesson.held_back}; `wildlane classes rollback {answer['version']}` makes it live all the same"
        )
    for refused in answer["refused"]:
        print_line(f"    refused {refused['image']}: {refused['why']}")
    report = answer["report"]
    if report["leave_one_out"] is not None:
        others = "".join(f", {100 * share:.0f} % as {other}" for other, share in report["confused_with"].items())
        print_line(f"    leave one out: {100 * report['leave_one_out']:.0f} % are found again{others}")
    if report["nearest"]:
        nearest = ", ".join(f"{other} (cosine {cosine:.2f})" for other, cosine in report["nearest"].items())
        print_line(f"    nearest class: {nearest}")
    for wish in report["missing"]:
        print_line(f"    would help: {wish}")


@app.command("check-config")
def check_config(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Read the configuration, check it, and say what it would do."""
    from monitor.assembly import address_of, places_of
    from monitor.config import source_of

    context = Context(config, None)
    address_of(context.config, context.config.broker.port)
    places_of(context.config)
    cameras = {name: source_of(camera, context.path) for name, camera in context.config.cameras.items()}
    if as_json:
        print_line(json.dumps({"config": str(context.path), "ok": True, "cameras": list(cameras)}))
        return
    broker = context.config.broker
    host = "embedded" if broker.embedded else broker.host
    print_line(f"{context.path}: site {context.config.site}, {len(cameras)} cameras, broker {host}:{broker.port}")


@app.command()
def doctor(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Check what Wildlane needs on this machine, and say what to do about what is missing."""
    from monitor.doctor import examine

    findings = examine(Context(config, state))
    if as_json:
        print_line(json.dumps([vars(finding) for finding in findings]))
    else:
        for finding in findings:
            print_line(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what}: {finding.detail}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options of the command itself."""
    if version:
        print_line(f"wildlane {VERSION}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command; every expected error is one line and its exit status."""
    try:
        status = app(with_address(sys.argv[1:]), standalone_mode=False)
    except WildlaneError as error:
        say(f"error: {error}")
        status = error.exit_status
    except (typer.Abort, KeyboardInterrupt):
        status = 130
    except Exception as error:
        status = _usage_status(error)
        if status is None:
            raise
    sys.exit(status if isinstance(status, int) else 0)


def _usage_status(error: Exception) -> int | None:
    """Print a usage error the way click does, and return its exit status; None for any other error."""
    show, status = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is None or status is None:
        return None
    show()
    return int(status)


def _boxes(given: list[str] | None, images: Sequence[Path]) -> list[tuple[float, float, float, float] | None]:
    if not given:
        return [None] * len(images)
    if len(given) != len(images):
        raise ConfigError(f"--box: {len(given)} boxes for {len(images)} images; expected one for each, or none")
    return [_box(text) for text in given]


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--box '{text}': expected x,y,w,h in pixels, such as 40,60,120,90") from None
    if not all(abs(value) < 1e6 for value in (x, y, w, h)):  # also refuses nan and inf
        raise ConfigError(f"--box '{text}': expected numbers below a million")
    if not (w > 0 and h > 0):  # also refuses nan and inf
        raise ConfigError(f"--box '{text}': width and height must be greater than 0")
    return x, y, w, h


def _print_replayed(answer: dict[str, Any]) -> None:
    count = len(answer["situations"])
    analysed = f"{answer['analysed']} analysed in {answer['seconds']:.1f} s"
    print_line(f"{answer['clip']}: {answer['frames']} frames, {analysed}; {count} situations")
    for found in answer["situations"]:
        what = f"{found['class']} {found['probability']:.2f} in {found['zone']}"
        print_line(f"    {found['start_s']:7.1f} to {found['end_s']:7.1f} s  {what}")
    if truth := answer.get("truth"):
        delays = ", ".join(f"{seconds:.1f}" for seconds in truth["time_to_alert_s"]) or "-"
        missed = ", ".join(str(event) for event in truth["missed"]) or "none"
        events = f"found {truth['found']} of {truth['events']} (missed: {missed})"
        print_line(f"    {events}, {len(truth['false'])} false; seconds to alert: {delays}")


def _stop_on_signals(stop: Callable[[], None]) -> None:
    def handle(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second Ctrl-C forces
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
