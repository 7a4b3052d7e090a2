"""`evaluate --cluster` and `model train --cluster`: the work of the learning side on all nodes.

Ray Data spreads what is done item by item, Ray Train the processes that learn together.
"""

from __future__ import annotations

import gc
import logging
import platform
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ray
import ray.data
import ray.train
from ray.exceptions import RayError
from ray.train import TrainingFailedError
from ray.util.queue import Queue

from adapters.errors import ConfigError, InputError, WildlaneError
from adapters.files import write_whole
from adapters.workers import Say
from monitor.cluster.nodes import alive_nodes, connect, disconnect, here

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MOST_LOSSES = 3  # in a row, of a training that came no further, or over one item: that is no bad luck
MARK = "shared"  # a file in the run's folder
SAID_ALL = None  # ends the lines of a training


class LostError(WildlaneError):
    """A process of the work is gone."""


class RayWorkers:
    """The nodes of a Ray cluster, as `adapters.workers.Workers`.

    What dies is begun again elsewhere: an item by Ray, a training from its checkpoint.
    """

    def __init__(self, address: str, folder: Path) -> None:
        """Connect with a cluster; see `workers_of`."""
        self._address, self._folder = address, folder.absolute()
        self._connect()

    def _connect(self) -> None:
        connect(self._address, log_to_driver=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.raise_original_map_exception = True

    def map(
        self, work: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, cpus: int = 1, gpu: bool = False
    ) -> Iterator[tuple[int, ResultT]]:
        """See `Workers`; where nodes have GPUs and these help, a worker has one of them.

        Raises:
            LostError: an item has cost several processes.
        """
        if not items:
            return
        rows = [{"number": number, "item": item} for number, item in enumerate(items)]
        nodes = alive_nodes()
        gpus = sum(node.gpus for node in nodes) if gpu else 0
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,  # type: ignore[arg-type]  # a class, as an actor pool asks for
            fn_constructor_args=(work, _beside_me(_Tries)),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=gpus or None),
            num_cpus=min(cpus, *(node.cpus for node in nodes)),
            num_gpus=1 if gpus else 0,
        )
        with _own_errors():
            for row in done.iter_rows():
                yield row["number"], row["result"]

    def train(self, learn: Callable[[Say], object], checkpoint: Path, say: Say) -> None:
        """See `Workers`; a process on each node.

        Raises:
            LostError: it loses processes again and again, and comes no further.
        """
        gc.collect()  # the processes of a `map` that ended with an error: a cycle keeps them
        in_a_row = 0
        while True:
            before = _written_ns(checkpoint)
            try:
                self._train(learn, say)
            except LostError as error:
                in_a_row = in_a_row + 1 if _written_ns(checkpoint) == before else 1
                if in_a_row == MOST_LOSSES:
                    raise LostError(
                        f"the training lost processes {in_a_row} times and came no further ({error})"
                    ) from None
                say(f"a process of the training was lost, it goes on from its checkpoint ({error})")
                disconnect()  # what a process had that was lost at its beginning, Ray keeps as long as we are there
                self._connect()
            else:
                return

    def _train(self, learn: Callable[[Say], object], say: Say) -> None:
        with _heard(say) as lines, _own_errors():
            config = {"learn": learn, "lines": lines, "folder": self._folder, "mark": self._mark()}
            conductor = _beside_me(_Conductor)
            try:
                ray.get(conductor.train.remote(config, len(alive_nodes())))
            finally:
                ray.kill(conductor)

    def _mark(self) -> str:
        """Leave a word in the run's folder, by which a process knows that it sees the same."""
        mark = uuid.uuid4().hex
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / MARK, mark.encode())
        return mark


def _written_ns(path: Path) -> int:
    """Return when a file was written, 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


class _Worker:
    """An actor of Ray Data, which begins it anew for ever."""

    def __init__(self, work: Callable[[Any], Any], tries: Any) -> None:  # noqa: ANN401  # a handle of `_Tries`
        self._work, self._tries = work, tries

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if ray.get(self._tries.begin.remote(row["number"])) > MOST_LOSSES:
            raise LostError(
                f"a part of the work was begun {MOST_LOSSES} times and never ended: {str(row['item'])[:200]}"
            )
        return {"number": row["number"], "result": self._work(row["item"])}


class _Tries:
    """An actor that counts how often each item was begun."""

    def __init__(self) -> None:
        self._begun = Counter[int]()

    def begin(self, number: int) -> int:
        """Count once more."""
        self._begun[number] += 1
        return self._begun[number]


class _Conductor:
    """An actor that runs Ray Train once: in the driver, it would put a handler of its own in place of Ctrl-C's."""

    def train(self, config: dict[str, Any], processes: int) -> None:
        """Let so many processes learn."""
        from ray.train.torch import TorchConfig, TorchTrainer  # `evaluate` needs no torch

        once = ray.train.FailureConfig(controller_failure_limit=0)  # type: ignore[call-arg]  # we begin anew ourselves
        with _own_errors():
            TorchTrainer(
                _learn,
                train_loop_config=config,
                torch_config=TorchConfig(backend="gloo"),
                scaling_config=ray.train.ScalingConfig(num_workers=processes, placement_strategy="SPREAD"),
                run_config=ray.train.RunConfig(name="ray", storage_path=str(config["folder"]), failure_config=once),
            ).fit()


def _beside_me(kind: type) -> Any:  # noqa: ANN401  # a handle
    return ray.remote(kind).options(num_cpus=0, scheduling_strategy=here()).remote()


def _learn(config: dict[str, Any]) -> None:
    """Run in each process of Ray Train; the first one is heard.

    Raises:
        InputError: the run's folder is not where the driver's is.
    """
    mark: Path = config["folder"] / MARK
    if not mark.exists() or mark.read_text() != config["mark"]:
        raise InputError(f"{mark.parent}: is another folder on {platform.node()}; all nodes must share a run's folder")
    lines: Queue = config["lines"]
    heard = ray.train.get_context().get_world_rank() == 0
    config["learn"](lines.put if heard else lambda line: None)


@contextmanager
def _heard(say: Say) -> Iterator[Queue]:
    """Give a queue whose lines are said in this process."""
    lines = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here()})

    def listen() -> None:
        while (line := lines.get()) is not SAID_ALL:
            say(line)

    listening = threading.Thread(target=listen, name="heard", daemon=True)
    listening.start()
    try:
        yield lines
    finally:
        lines.put(SAID_ALL)
        listening.join()
        lines.shutdown()


@contextmanager
def workers_of(address: str, folder: Path) -> Iterator[RayWorkers]:
    """Connect with a cluster.

    Args:
        address: of its head, `host:port`; `auto` is the cluster that runs here, else one of this machine.
        folder: where Ray notes what it does.

    Raises:
        ConfigError: it can't be reached.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised; it would tell them in 150 lines too
    nodes = RayWorkers(address, folder)
    try:
        if not alive_nodes():
            raise ConfigError(f"--cluster {address}: has no node with a CPU")
        yield nodes
    finally:
        disconnect()


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise what was raised elsewhere as what it is; `LostError` where a process is gone, or its peer is."""
    try:
        yield
    except (RayError, TrainingFailedError) as error:  # Ray wraps it, each part of Ray in its own way
        raised = [one for one in _raised(error) if not _tells_of_a_loss(one)]
        if raised:
            raise raised[0] from None if isinstance(raised[0], WildlaneError) else error
        raise LostError(_line_of(error)) from error


def _line_of(error: BaseException) -> str:
    """Return an error in a line: where an actor could not begin because of one of ours, that one."""
    first = _raised(error)[0]
    lines = [line for one in (first, error) for line in str(one).strip().splitlines()] or [type(first).__name__]
    return next((line for line in lines if line.startswith(f"{WildlaneError.__module__}.")), lines[0])


def _tells_of_a_loss(error: BaseException) -> bool:
    """Tell whether it is Ray's own, or comes from a process whose peer is gone; a full disk or memory is no loss."""
    return isinstance(error, ConnectionError) or type(error).__module__.startswith(("ray.", "torch.distributed"))


def _raised(error: BaseException) -> list[BaseException]:
    """Return what Ray's error wraps, or that itself."""
    named = [getattr(error, name, None) for name in ("cause", "controller_failure", "__cause__")]
    parts = [*getattr(error, "worker_failures", {}).values(), *named]
    within = [getattr(part, "_base_exc", part) for part in parts if part is not None]
    return [deepest for part in within for deepest in _raised(part)] or [error]
