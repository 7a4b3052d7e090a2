"""Crops -> N(x): encode.onnx and match.onnx with a class memory; adapt.onnx makes the class memory."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.encoder import LOOKS, Encoder, Features, Image, unit
from adapters.errors import ModelError
from adapters.knowledge import KnowledgeBase
from adapters.negatives import Negatives
from adapters.rivals import Rivals
from adapters.runtime import ADAPT, KNOWLEDGE, MATCH, MODELS, Device, Graph, Precision, file_hash
from adapters.stills import LEAST_PX

UNKNOWN: Final = "unknown-animal"
NONE: Final = "none"
CANNOT_TELL: Final = "cannot-tell"
RESERVED = frozenset({UNKNOWN, NONE, CANNOT_TELL})

P_ANIMAL = 0.5  # at or above: an animal, taught or not
P_ANIMAL_TAUGHT = 0.2  # a taught class needs less: its own similarity speaks too
MIN_CONTRAST = 3.0  # standard deviation of luma in grey levels; below, there is nothing to see


@dataclass(frozen=True)
class ClassMemory:
    """What adapt.onnx made of a support set: the inputs of match.onnx, one row a class.

    Attributes:
        names: the classes, in the order of the rows.
        arrays: Z, proto, W, b, none, shots, key, as `attention.Adapt` shapes them; float32.
        negatives: what people have said is none of them; None where nothing was said.
        rivals: other animals, that a name must stand out from; None where nothing is taught.
    """

    names: tuple[str, ...]
    arrays: dict[str, NDArray[np.float32]]
    negatives: Negatives | None = None
    rivals: Rivals | None = None

    @classmethod
    def empty(cls, negatives: Negatives | None = None) -> ClassMemory:
        """Return the memory of a site where nothing was taught."""
        return cls((), {}, negatives)


@dataclass(frozen=True)
class Classification:
    """N(x) of one crop.

    Attributes:
        weights: a weight for each taught class and for `none`; they sum to 1.
        p_class: the independent probability of each taught class.
        p_animal: probability that the crop shows an animal at all.
        similarity_m: largest cosine to the knowledge base, taught classes included.
        legible: False where the crop is too small or too flat for any answer.
        leads: by how much the crop is nearer to each taught class than to any other animal of M, as cosines; of a
            camera's crops alone.
    """

    weights: dict[str, float]
    p_class: dict[str, float]
    p_animal: float
    similarity_m: float
    legible: bool
    leads: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """A taught name, `unknown-animal`, `none` or `cannot-tell`."""
        if not self.legible:
            return CANNOT_TELL
        best = max(self.weights, key=self.weights.__getitem__)
        if best != NONE and self.p_animal >= P_ANIMAL_TAUGHT:
            return best
        return UNKNOWN if self.p_animal >= P_ANIMAL else NONE

    @property
    def probability(self) -> float:
        """How sure the label is, 0 to 1."""
        if self.label == CANNOT_TELL:
            return 0.0
        if self.label == UNKNOWN:
            return self.p_animal
        if self.label == NONE:
            return 1 - self.p_animal
        return self.p_class[self.label]


class Classifier:
    """The three graphs of one model folder on one device."""

    def __init__(
        self, folder: Path = MODELS, *, device: Device = "auto", precision: Precision = "auto", threads: int = 2
    ) -> None:
        """Load the graphs.

        Raises:
            ModelError: a file is missing or altered, or the device does not work.
        """
        self.folder, self._threads = folder, threads
        self.encode = Encoder(folder, device=device, precision=precision, threads=threads)
        self._open()

    def _open(self) -> None:
        self._match = Graph(self.folder, MATCH, "cpu", threads=1)  # under a millisecond; a copy to a GPU costs more
        self._adapt = Graph(self.folder, ADAPT, "cpu", threads=self._threads)
        self.knowledge = KnowledgeBase.load(self.folder)
        self.encoder_hash = self.encode.hash

    def __getstate__(self) -> dict[str, object]:
        """Travel to another process as where the graphs lie."""
        state = {"folder": self.folder.absolute(), "encode": self.encode, "_threads": self._threads}
        return state | {"hashes": self._hashes()}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Open the graphs again, on the device that is there.

        Raises:
            ModelError: they are missing, or others than where it came from.
        """
        hashes = state.pop("hashes")
        self.__dict__.update(state)
        self._open()
        if self._hashes() != hashes:
            raise ModelError(f"{self.folder}: holds another model on {platform.node()} than where the work began")

    def _hashes(self) -> list[str]:
        return [file_hash(self.folder, name) for name in (MATCH, ADAPT, KNOWLEDGE)]

    @property
    def provider(self) -> str:
        """Where the encoder runs now."""
        return self.encode.provider

    def adapt(
        self,
        supports: dict[str, Features],
        negatives: Mapping[str, Sequence[Features]] | None = None,
        *,
        more_follow: bool = False,
    ) -> ClassMemory:
        """Return the class memory of a support set; no training of the network.

        Args:
            supports: name -> features of its shots.
            negatives: name -> what is not of that class; under `NONE`, what is no animal at all.
            more_follow: keep the graph's buffers for the next support set. At a site of 40 classes they take half a
                gigabyte, which must not stay; giving them back after each of a lesson's sets would double its time.
        """
        against = None
        if negatives:
            against = Negatives.beside(supports, negatives.get(NONE, ()), negatives, self.knowledge.mu)
        if not supports:
            return ClassMemory.empty(against)
        most = max(len(shots) for shots in supports.values())
        first = next(iter(supports.values()))
        tok = np.zeros((len(supports), most, *first.tok.shape[1:]), np.float32)
        glob = np.zeros((len(supports), most, first.glob.shape[1]), np.float32)
        mask = np.zeros((len(supports), most), np.float32)
        for row, shots in enumerate(supports.values()):
            tok[row, : len(shots)], glob[row, : len(shots)], mask[row, : len(shots)] = shots.tok, shots.glob, 1
        known = self.knowledge
        run = self._adapt.run if more_follow else self._adapt.run_once
        outputs = run(tok=tok, glob=glob, mask=mask, neg=known.negatives, mkey=known.keys, mu=known.mu)
        arrays = dict(zip(("Z", "proto", "W", "b", "none", "shots", "key"), outputs, strict=True))
        return ClassMemory(tuple(supports), arrays, against, Rivals.beside(supports, known.animals, known.mu))

    def classify(self, crops: Sequence[Image], memory: ClassMemory) -> list[Classification]:
        """Return N(x) of stills: each is looked at twice, and the mean of both answers counts.

        A camera's crops are looked at once each: there a track has its many looks.
        """
        if not crops:
            return []
        answers = [mean_of_looks(answer) for answer in self.match(self.encode.looks(crops), memory)]
        return _classifications(answers, memory, [is_legible(crop) for crop in crops])

    def answer(self, crops: Sequence[Image], features: Features, memory: ClassMemory) -> list[Classification]:
        """Return N(x) of a camera's crops, which are encoded already."""
        answers = self.judge(features, memory, [is_legible(crop) for crop in crops])
        if memory.rivals is None:
            return answers
        leads = memory.rivals.lead(unit(features.glob - self.knowledge.mu)).tolist()
        return [
            replace(answer, leads=dict(zip(memory.names, lead, strict=True)))
            for answer, lead in zip(answers, leads, strict=True)
        ]

    def judge(self, features: Features, memory: ClassMemory, legible: Sequence[bool]) -> list[Classification]:
        """Return N(x) of features; `legible` tells whose crop can be judged at all."""
        return _classifications(self.match(features, memory), memory, legible)

    def match(self, features: Features, memory: ClassMemory) -> tuple[NDArray[np.float32], ...]:
        """Return (weights, p_class, p_animal, similarity_m) of encoded crops; see `Match` for shapes."""
        taught = memory if memory.names else self._nothing_taught()
        weights, p_class, p_animal, similarity, _ = self._matched(features, taught)
        if not memory.names:  # the stand-in's weight belongs to none
            weights, p_class = np.ones_like(weights[:, :1]), p_class[:, :0]
        if memory.negatives is not None:
            looks = unit(features.glob - self.knowledge.mu)
            weights, p_class, p_animal = memory.negatives.refute(looks, weights, p_class, p_animal)
        return weights, p_class, p_animal, similarity

    def heat(self, features: Features, memory: ClassMemory) -> dict[str, NDArray[np.float32]]:
        """Return where in one encoded crop each taught class is seen, 0 to 1, (side, side)."""
        if not memory.names:
            return {}
        *_, heat = self._matched(features, memory)
        side = round(heat.shape[2] ** 0.5)
        return {name: heat[0, row].reshape(side, side) for row, name in enumerate(memory.names)}

    def _matched(self, features: Features, memory: ClassMemory) -> Sequence[NDArray[np.float32]]:
        """Return all that match.onnx gives."""
        return self._match.run(
            tok=features.tok, glob=features.glob, **memory.arrays, mkey=self.knowledge.keys, mu=self.knowledge.mu
        )

    def _nothing_taught(self) -> ClassMemory:
        """Return a stand-in class that resembles nothing, since the graph takes at least one row."""
        width, key = len(self.knowledge.mu), self.knowledge.keys.shape[1]
        shapes = {
            "Z": (1, 8, key), "proto": (1, width), "W": (1, width), "b": (1,),
            "none": (8, key), "shots": (1,), "key": (1, key),
        }  # fmt: skip
        return ClassMemory(("",), {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})


def mean_of_looks(answer: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the looks at each still say together, (n, ...), of what each look says, (n * LOOKS, ...)."""
    return answer.reshape(len(answer) // LOOKS, LOOKS, *answer.shape[1:]).mean(axis=1)  # type: ignore[no-any-return]  # numpy's own


def _classifications(
    answers: Sequence[NDArray[np.float32]], memory: ClassMemory, legible: Sequence[bool]
) -> list[Classification]:
    weights, p_class, p_animal, similarity = answers
    columns = (*memory.names, NONE)
    return [
        Classification(
            weights=dict(zip(columns, weights[i].tolist(), strict=True)),
            p_class=dict(zip(memory.names, p_class[i].tolist(), strict=True)),
            p_animal=float(p_animal[i]),
            similarity_m=float(similarity[i]),
            legible=legible[i],
        )
        for i in range(len(weights))
    ]


def is_legible(crop: Image) -> bool:
    """Tell whether a crop holds enough picture for any answer."""
    if min(crop.shape[:2]) < LEAST_PX:
        return False
    _, deviation = cv2.meanStdDev(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY))
    return float(deviation[0, 0]) >= MIN_CONTRAST
