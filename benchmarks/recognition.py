"""What recognising and teaching cost beside bare onnxruntime: python benchmarks/recognition.py FOLDER_OF_CLASS_FOLDERS

Prints, each as a median over rounds in which all are timed in turn: a crop through encode.onnx and then through
match.onnx at 20 and at 100 classes; a crop through a bare session of encode.onnx and through `Encoder`, in every
precision; a class taught from five frames, from labelled crops to the version in force, ten one after the other beside
the starter classes.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes
from adapters.classifier import Classifier, ClassMemory
from adapters.crops import LabelledCrop
from adapters.encoder import VARIANTS, Encoder
from adapters.evaluation.episodes import Pool, read_pool
from adapters.runtime import MODELS, Precision, read_verified
from adapters.stills import read_picture
from adapters.teaching import teach
from monitor.assembly import open_classes

ROUNDS, LESSONS, SHOTS, THREADS = 60, 10, 5, 2
MS = 1e3
SETTLE_S = 0.03  # before each call: the threads of the session before it spin for a while


def medians_s(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each call; they take turns, so that a busy moment hurts all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(SETTLE_S)
            started_s = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started_s)
    return {name: statistics.median(taken[rounds // 10 :]) for name, taken in times.items()}


def bare_session(name: str, *, spins: bool) -> ort.InferenceSession:
    """Return a session with nothing set but its threads, and whether they spin while there is nothing to do."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    return ort.InferenceSession(read_verified(MODELS, name), options, providers=["CPUExecutionProvider"])


def encode_and_match(pool: Pool) -> None:
    crops = [read_picture(pool.pictures[rows[0]]) for rows in pool.of_class][:16]
    for precision in ("fp32", "int8"):
        for count in (1, len(crops)):
            match(precision, pool, crops[:count])
    for count in (1, len(crops)):
        calls: dict[str, Callable[[], object]] = {}
        for precision, name in VARIANTS.items():
            encode = Encoder(MODELS, device="cpu", precision=precision, threads=THREADS)
            image = encode.input_of(crops[:count])
            for spins in (True, False):
                session, how = bare_session(name, spins=spins), "spinning" if spins else "sleeping"
                calls[f"{how} {precision}"] = lambda session=session, image=image: session.run(None, {"image": image})
            calls[precision] = lambda encode=encode, count=count: encode(crops[:count])
        taken = medians_s(calls, ROUNDS)
        print(f"{count} crops at a time, ms a crop:")
        for precision in VARIANTS:
            ours = taken[precision]
            print(f"  encode {precision}: {ours * MS / count:.2f}")
            for how in ("sleeping", "spinning"):
                bare = taken[f"{how} {precision}"]
                print(
                    f"    bare onnxruntime, idle threads {how}: {bare * MS / count:.2f}, ours {ours / bare:.2f} of it"
                )


def match(precision: Precision, pool: Pool, crops: list[NDArray[np.uint8]]) -> None:
    """Time encode.onnx and match.onnx as the product runs them: one after the other, when a frame has come."""
    classifier = Classifier(device="cpu", precision=precision, threads=THREADS)
    memories = {classes: memory_of(classifier, pool, classes) for classes in (20, 100)}
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for classes, memory in memories.items():
            time.sleep(SETTLE_S)
            started_s = time.perf_counter()
            features = classifier.encode(crops)
            encoded_s = time.perf_counter()
            classifier.match(features, memory)
            matched_s = time.perf_counter()
            times["encode"].append(encoded_s - started_s)
            times[f"match, {classes} classes"].append(matched_s - encoded_s)
    taken = {name: statistics.median(spent_s[len(spent_s) // 10 :]) for name, spent_s in times.items()}
    print(f"{precision}, {len(crops)} crops at a time, ms a crop:")
    for name, spent_s in taken.items():
        print(f"  {name}: {spent_s * MS / len(crops):.3f}, {spent_s / taken['encode']:.1%} of encode")


def memory_of(classifier: Classifier, pool: Pool, classes: int) -> ClassMemory:
    """Return a memory of so many classes; what the folder lacks is taught twice, by other pictures."""
    rows = [rows[2 * turn : 2 * turn + 2] for turn in range(5) for rows in pool.of_class][:classes]
    shots = [classifier.encode([read_picture(pool.pictures[row]) for row in pair]) for pair in rows]
    return classifier.adapt({str(number): features for number, features in enumerate(shots)})


def teaching(classifier: Classifier, pool: Pool) -> None:
    with TemporaryDirectory() as folder:
        store = open_classes(classifier, Path(folder))
        seconds = [taught(store, classifier, pool, number) for number in range(LESSONS)]
        store.close()
    print(f"a class from {SHOTS} frames, to the version in force: {statistics.median(seconds):.2f} s")
    print(f"  the first of {LESSONS} {seconds[0]:.2f} s, the last {seconds[-1]:.2f} s")


def taught(store: ClassSetStore, classifier: Classifier, pool: Pool, number: int) -> float:
    """Teach a class of the folder and return the seconds until its version is in force."""
    names = [str(pool.pictures[row]) for row in pool.of_class[number][:SHOTS]]
    crops = [LabelledCrop(read_picture(Path(name))) for name in names]
    attributes = ClassAttributes(name=f"class-{number}", size="large", origin="wild")
    return teach(store, classifier, attributes, names, crops).seconds


def main() -> None:
    classifier = Classifier(device="cpu", threads=THREADS)
    pool = read_pool(Path(sys.argv[1]), np.random.default_rng(1))
    print(f"onnxruntime {ort.__version__}, {THREADS} threads, medians of {ROUNDS} rounds")
    encode_and_match(pool)
    teaching(classifier, pool)


if __name__ == "__main__":
    main()
