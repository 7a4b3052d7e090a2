"""Meta-training episodes: what the head practises on, and where it is weak.

Ways and shots vary, support and queries come from different domains, labels are sometimes wrong, four queries in ten
show nothing that was taught. Half of the episodes go where the confusion table says that it hurts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from adapters.training.bank import CLEAN_VIEWS, N_VIEWS, Bank
from adapters.training.domains import DOMAINS

MOST_WAYS, MOST_SHOTS, MOST_STRANGERS = 20, 20, 8
MOST_SUPPORT, N_TAUGHT_QUERIES, N_DISTRACTORS = 60, 48, 32  # pictures an episode, so that every step costs the same
CLEAN_SUPPORT, CLEAN_QUERIES = 0.7, 0.3  # share of episodes taught on clean pictures; share of clean queries
WRONG_LABELS = 0.05
WITH_BACKGROUND = 0.5  # of episodes know pictures of the site's background
MINED = 0.5  # of episodes are drawn from the confusion table
MEMORY = 0.98  # of the confusion table, an update


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Features of one task; shapes as in `attention.py`.

    Attributes:
        tok, glob, mask: the support set.
        neg: pooled vectors of the site's background, one row of zeros where there are none.
        query_tok, query_glob: queries.
        target: class of each query, C for *none* (B,).
        domains: of each query (B,).
        m_rows: rows of the knowledge base that the episode may see: never those of its own classes.
        classes: the taught classes, by their number in the bank.
    """

    tok: Tensor
    glob: Tensor
    mask: Tensor
    neg: Tensor
    query_tok: Tensor
    query_glob: Tensor
    target: Tensor
    domains: Tensor
    m_rows: Tensor
    classes: NDArray[np.int64]


class WeakPoints:
    """Which class is taken for which, and in which domain queries are missed: running means of the error.

    The product shows the same table after teaching; here it says what to practise next.
    """

    def __init__(self, n_classes: int) -> None:
        self.confusion = np.full((n_classes, n_classes), 0.05)
        self.by_domain = np.full(len(DOMAINS), 0.2)

    def update(self, episode: Episode, share: NDArray[np.float32]) -> None:
        """Take in how much weight each query (B,) gave to each taught class (B, C)."""
        target, domains = episode.target.numpy(), episode.domains.numpy()
        for row, label in enumerate(target):
            if label < len(episode.classes):
                own, miss = episode.classes[label], 1 - share[row, label]
                others = self.confusion[own, episode.classes]
                self.confusion[own, episode.classes] = MEMORY * others + (1 - MEMORY) * share[row]
                self.by_domain[domains[row]] = 0.995 * self.by_domain[domains[row]] + 0.005 * miss
        np.fill_diagonal(self.confusion, 0)

    def neighbours(self, seed: int, allowed: list[int], count: int, rng: Generator) -> list[int]:
        """Draw classes that are confused with one, itself first."""
        others = np.array([number for number in allowed if number != seed])
        chance = self.confusion[seed, others] + self.confusion[others, seed] + 1e-3
        return [seed, *rng.choice(others, count - 1, replace=False, p=chance / chance.sum()).tolist()]

    def worst(self, names: tuple[str, ...], count: int = 10) -> list[tuple[str, str, float]]:
        """Return the pairs with the largest confusion: (shown, taken for, share)."""
        order = np.argsort(-self.confusion, axis=None)[:count]
        pairs = np.stack(np.unravel_index(order, self.confusion.shape), axis=1)
        return [(names[a], names[b], float(self.confusion[a, b])) for a, b in pairs]


class Sampler:
    """Draws episodes from a bank; an episode depends on the generator and the weak points alone."""

    def __init__(self, bank: Bank, weak_points: WeakPoints) -> None:
        self._bank, self._weak = bank, weak_points
        self._roads = sorted(set(range(len(bank.classes))) - set(bank.taught))

    def draw(self, rng: Generator) -> Episode:
        """Return an episode of varying size."""
        bank, taught = self._bank, self._bank.taught
        ways = round(float(np.exp(rng.uniform(0, np.log(min(MOST_WAYS, len(taught) // 2))))))
        strangers = int(rng.integers(2, min(MOST_STRANGERS, len(taught) - ways - 1) + 1))  # one is left for M
        if rng.random() < MINED:
            order = self._weak.neighbours(int(rng.choice(taught)), taught, ways + strangers, rng)
            order = [int(order[i]) for i in rng.permutation(len(order))]
        else:
            order = rng.choice(taught, ways + strangers, replace=False).tolist()
        classes, unknown = np.array(order[:ways]), order[ways:]
        road = int(rng.choice(self._roads))
        support, mask, asked = self._support(classes, rng)
        queries, target = self._queries(classes, unknown, road, asked, rng)
        views = self._query_views(queries, rng)
        neg = torch.zeros(1, bank.glob.shape[2])
        if rng.random() < WITH_BACKGROUND:
            members = self._bank.members[road]
            scene = rng.choice(members, min(int(rng.integers(4, 25)), len(members)), replace=False)
            neg = torch.from_numpy(bank.glob[scene, 0])
        support, views_taught, mask = self._support_views(support, mask, rng)
        tok, glob = bank.features(support, views_taught)
        query_tok, query_glob = bank.features(queries, views)
        m_rows = [number for number in taught if number not in set(order)]
        return Episode(
            tok=tok,
            glob=glob,
            mask=torch.from_numpy(mask),
            neg=neg,
            query_tok=query_tok,
            query_glob=query_glob,
            target=torch.from_numpy(target),
            domains=torch.from_numpy(bank.domains[queries, views]),
            m_rows=torch.tensor(m_rows),
            classes=classes,
        )

    def _support(
        self, classes: NDArray[np.int64], rng: Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], list[NDArray[np.int64]]]:
        """Return pictures (C, K), their mask, and what is left of each class to ask about."""
        most = min(MOST_SHOTS, max(1, MOST_SUPPORT // len(classes)))
        drawn = [round(float(np.exp(rng.uniform(0, np.log(most + 0.49))))) for _ in classes]
        shots = [min(k, len(self._bank.members[c]) - 2) for k, c in zip(drawn, classes, strict=True)]  # some are asked
        support = np.zeros((len(classes), max(shots)), np.int64)
        mask = np.zeros(support.shape, np.float32)
        left = []
        for row, (number, count) in enumerate(zip(classes, shots, strict=True)):
            members = rng.permutation(self._bank.members[number])
            support[row], mask[row, :count] = members[0], 1
            support[row, :count] = members[:count]
            left.append(members[count:])
            for column in range(count):
                if count > 2 and rng.random() < WRONG_LABELS:
                    support[row, column] = rng.integers(len(self._bank.labels))
        return support, mask, left

    def _queries(
        self, classes: NDArray[np.int64], unknown: list[int], road: int, asked: list[NDArray[np.int64]], rng: Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        each = max(2, N_TAUGHT_QUERIES // len(classes))
        rows = [members[:each] for members in asked]
        target = [np.full(len(members), label) for label, members in enumerate(rows)]
        strange = np.concatenate([self._bank.members[number] for number in unknown])
        rows.append(rng.choice(strange, min(N_DISTRACTORS - 8, len(strange)), replace=False))
        rows.append(rng.choice(self._bank.members[road], 8, replace=False))
        target.append(np.full(len(rows[-2]) + len(rows[-1]), len(classes)))
        return np.concatenate(rows), np.concatenate(target)

    def _support_views(
        self, support: NDArray[np.int64], mask: NDArray[np.float32], rng: Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return pictures, views and mask (C, K'): all clean views of each shot, or any one view of it."""
        if rng.random() >= CLEAN_SUPPORT:
            return support, rng.integers(0, N_VIEWS, support.shape), mask
        views = np.tile(np.arange(CLEAN_VIEWS), support.shape)
        return support.repeat(CLEAN_VIEWS, axis=1), views, mask.repeat(CLEAN_VIEWS, axis=1)

    def _query_views(self, queries: NDArray[np.int64], rng: Generator) -> NDArray[np.int64]:
        """Draw a view of each query; among degraded ones those whose domain is missed more often."""
        weight = self._weak.by_domain[self._bank.domains[queries]].copy()  # (B, V)
        weight[:, :CLEAN_VIEWS] = 0
        share = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
        degraded = (rng.random((len(queries), 1)) > share).sum(axis=1)
        clean = rng.integers(0, CLEAN_VIEWS, len(queries))
        return np.where(rng.random(len(queries)) < CLEAN_QUERIES, clean, np.minimum(degraded, N_VIEWS - 1))
