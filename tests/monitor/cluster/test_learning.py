"""The learning side on a real Ray cluster of two nodes: the same work, the same results, whoever dies."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapters.encoder import Encoder
from adapters.errors import InputError
from adapters.runtime import MODELS
from adapters.training import robust, together
from adapters.training.attention import HeadStatistics
from adapters.training.bank import Bank, Source, build
from adapters.training.checkpoint import CHECKPOINT
from adapters.training.meta_train import HeadRecipe, train_head
from adapters.workers import Here, Say
from monitor.bench import read_proc
from monitor.cluster import learning
from monitor.cluster.learning import LostError, RayWorkers, workers_of
from tests.adapters.training.conftest import class_folders_of_site, small_data, statistics, write_class  # noqa: F401
from tests.conftest import WILDLANE, wait_until
from tests.monitor.cluster.simulated import SimulatedCluster, simulated, tree

BACKBONE = robust.Recipe(steps=4, round_steps=3, classes_a_batch=2, pictures_a_class=2, checkpoint_every=1, threads=1)
HEAD = HeadRecipe(steps=8, validate_every=2, validation_episodes=6, threads=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimulatedCluster]:
    with simulated(2) as made:
        yield made


@pytest.fixture(scope="module")
def workers(cluster: SimulatedCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayWorkers]:
    with workers_of(cluster.address, tmp_path_factory.mktemp("ray")) as made:
        yield made


def silent(line: str) -> None:
    pass


def same(a: Path, b: Path) -> bool:
    left, right = load_file(a), load_file(b)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def evaluated(images: Path, out: Path, *more: str) -> list[dict[str, object]]:
    command = [*WILDLANE, "evaluate", "--images", images.name, "--ways", "2", "--shots", "1,2", "--episodes", "30"]
    done = subprocess.run(
        [*command, "--json", "--out", str(out), *more], capture_output=True, text=True, check=True, cwd=images.parent
    )
    return list(json.loads(done.stdout)["rows"])


def in_shards(folder: Path, out: Path) -> Path:
    """Pack class folders into two tar files: the first pictures of each class, and the others."""
    out.mkdir()
    with tarfile.open(out / "0.tar", "w") as first, tarfile.open(out / "1.tar", "w") as second:
        for pictures in (sorted(path.iterdir()) for path in sorted(folder.iterdir())):
            for number, picture in enumerate(pictures):
                (first if number < len(pictures) // 2 else second).add(picture, f"./{picture.relative_to(folder)}")
    return out


@pytest.mark.timeout(300)
def test_an_evaluation_on_a_cluster_from_shards_gives_the_rows_of_one_process_from_folders(
    cluster: SimulatedCluster,
    class_folders_of_site: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    shards = in_shards(class_folders_of_site, tmp_path / "shards")
    alone = evaluated(class_folders_of_site, tmp_path / "alone")

    spread = evaluated(shards, tmp_path / "spread", "--cluster", cluster.address)

    assert spread == alone


def test_features_are_those_of_one_process_and_a_killed_worker_is_replaced(
    workers: RayWorkers,
    cluster: SimulatedCluster,
    small_data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    source, encode = Source(data=small_data, role="tune"), Encoder(MODELS, device="cpu", threads=1)
    alone = build(source, tmp_path / "alone", encode, 1, Here(), silent)
    killed: list[int] = []
    killing = threading.Thread(target=kill_one, args=(cluster, b"ray::MapWorker", killed), daemon=True)
    killing.start()

    spread = build(source, tmp_path / "spread", encode, 1, workers, silent)

    killing.join()
    assert killed
    assert spread.classes == alone.classes
    assert np.array_equal(spread.domains, alone.domains)
    assert np.allclose(spread.glob, alone.glob, atol=1e-4)
    assert np.allclose(spread.tok.astype(np.float32), alone.tok.astype(np.float32), atol=1e-2)


def practise(banks: tuple[Path, Path], start: HeadStatistics, out: Path, say: Say) -> None:
    train, tune = (Bank.load(folder) for folder in banks)
    train_head((train, tune), out, HEAD, start, torch.full((1280,), 0.4), say=say)


@pytest.mark.timeout(300)
def test_a_head_learns_on_all_nodes_and_goes_on_after_a_kill(
    workers: RayWorkers,
    cluster: SimulatedCluster,
    small_data: Path,  # noqa: F811
    statistics: HeadStatistics,  # noqa: F811
    tmp_path: Path,
) -> None:
    encode = Encoder(MODELS, device="cpu")
    banks = (tmp_path / "train", tmp_path / "tune")
    for folder in banks:
        build(Source(data=small_data, role=folder.name), folder, encode, 1, Here(), silent)  # type: ignore[arg-type]
    lines: list[str] = []

    whole, killed = (partial(practise, banks, statistics, tmp_path / name) for name in ("whole", "killed"))
    workers.train(whole, tmp_path / "whole" / CHECKPOINT, silent)
    workers.train(dying_once(killed, "step 4/8", tmp_path / "died"), tmp_path / "killed" / CHECKPOINT, lines.append)

    assert same(tmp_path / "whole" / "head.safetensors", tmp_path / "killed" / "head.safetensors")
    assert any("was lost" in line for line in lines)
    assert steps_of(tmp_path / "killed")[-1] == 8


@pytest.mark.timeout(300)
def test_a_backbone_learns_on_all_nodes(
    workers: RayWorkers,
    small_data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    learn = partial(robust.train, small_data, tmp_path / "whole", BACKBONE, None)
    workers.train(learn, tmp_path / "whole" / CHECKPOINT, silent)

    assert steps_of(tmp_path / "whole") == [1, 2, 3, 4]
    assert (tmp_path / "whole" / robust.WEIGHTS).exists()


def test_a_node_that_does_not_share_the_runs_folder_is_named(tmp_path: Path) -> None:
    for there in (None, "of another run"):
        if there is not None:
            (tmp_path / "shared").write_text(there)
        with pytest.raises(InputError, match=f"{tmp_path}: is another folder on {platform.node()}"):
            learning._learn({"folder": tmp_path, "mark": "of this run"})


def fill_the_disk(say: Say) -> None:
    """One of them can't write; the others wait for it."""
    if together.rank() == 0:
        raise OSError(errno.ENOSPC, "No space left on device")
    together.add_up(torch.zeros(1))


def test_a_mistake_or_a_full_disk_is_told_at_once_and_not_tried_again(workers: RayWorkers, tmp_path: Path) -> None:
    lines: list[str] = []

    with pytest.raises(OSError, match="No space left"):
        workers.train(fill_the_disk, tmp_path / CHECKPOINT, lines.append)
    assert not lines


def test_a_picture_that_is_none_is_named_as_alone(workers: RayWorkers, tmp_path: Path) -> None:
    write_class(tmp_path / "elk", 1, 2)
    (tmp_path / "elk" / "0.png").write_bytes(b"no picture")

    with pytest.raises(InputError, match=r"elk/0\.png: not a picture"):
        list(workers.map(read_all, [[tmp_path / "elk" / "0.png"]]))


def read_all(paths: list[Path]) -> int:
    from adapters.stills import read_learnable

    return sum(read_learnable(path).size for path in paths)


def steps_of(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]


def dying_once(learn: Callable[[Say], object], when: str, died: Path) -> Callable[[Say], None]:
    """Return a training whose first process is killed, once, when it says what begins so."""

    def learn_and_die(say: Say) -> None:
        def say_and_die(line: str) -> None:
            say(line)
            if line.startswith(when) and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        learn(say_and_die)

    return learn_and_die


def die(item: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_item_that_kills_whoever_works_on_it_is_given_up(workers: RayWorkers) -> None:
    with pytest.raises(LostError, match="a part of the work was begun 3 times and never ended: of it"):
        list(workers.map(die, ["of it"]))


class Losing(RayWorkers):
    """Each training loses a process; some wrote a checkpoint before."""

    def __init__(self, checkpoint: Path, writes: list[bool]) -> None:
        self._checkpoint, self._writes = checkpoint, iter(writes)

    def _train(self, learn: Callable[[Say], object], say: Say) -> None:
        if next(self._writes):
            self._checkpoint.write_bytes(b"")
            os.utime(self._checkpoint, ns=(time.time_ns(), time.time_ns()))  # two writes may share a tick of the disk
        raise LostError("a node is gone")

    def _connect(self) -> None:
        pass


@pytest.mark.parametrize(("writes", "lost"), [([False] * 3, 3), ([False, False, True, False, False], 5)])
def test_a_training_that_loses_processes_and_comes_no_further_is_given_up(
    writes: list[bool], lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "disconnect", lambda: None)
    lines: list[str] = []

    with pytest.raises(LostError, match="lost processes 3 times and came no further"):
        Losing(tmp_path / CHECKPOINT, writes).train(die, tmp_path / CHECKPOINT, lines.append)

    assert lines == ["a process of the training was lost, it goes on from its checkpoint (a node is gone)"] * (lost - 1)


def kill_one(cluster: SimulatedCluster, title: bytes, killed: list[int]) -> None:
    def kill() -> list[int]:
        for pid in processes(cluster, title):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                break
        return killed

    wait_until(kill, seconds=60, what=f"{title!r} works")


def processes(cluster: SimulatedCluster, title: bytes) -> list[int]:
    pids = [pid for node in (*cluster.others, cluster.head) for pid in tree(node.process.pid)]
    return [pid for pid in pids if read_proc(pid, "cmdline").startswith(title)]
