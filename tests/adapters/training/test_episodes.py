"""What the head practises on: episodes that leak nothing, are sometimes wrong, and go where it hurts."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.training.bank import N_VIEWS, ROAD, Bank
from adapters.training.domains import DOMAINS
from adapters.training.episodes import CLEAN_QUERIES, Episode, Sampler, WeakPoints

CLASSES, PICTURES = 30, 24


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Features that say which picture of which class they are of."""
    count = (CLASSES + 2) * PICTURES
    labels = np.repeat(np.arange(CLASSES + 2), PICTURES)
    glob = np.zeros((count, N_VIEWS, 4), np.float32)
    glob[:, :, 0], glob[:, :, 1] = labels[:, None], np.arange(count)[:, None]
    domains = np.tile([0, 0, 0, 1, 2, 3], (count, 1))
    names = [f"class {n}" for n in range(CLASSES)] + [f"{ROAD}a", f"{ROAD}b"]
    return Bank(
        classes=tuple(names),
        labels=labels,
        domains=domains,
        tok=np.zeros((count, N_VIEWS, 2, 3), np.float16),
        glob=glob,
    )


@pytest.fixture(scope="module")
def episodes(bank: Bank) -> list[Episode]:
    sampler = Sampler(bank, WeakPoints(len(bank.classes)))
    return [sampler.draw(np.random.default_rng((1, number))) for number in range(300)]


def test_ways_and_shots_vary_from_one_up(episodes: list[Episode]) -> None:
    ways = {len(episode.classes) for episode in episodes}
    shots = {int(count) for episode in episodes for count in episode.mask.sum(dim=1)}

    assert {1, 2, 5, 10} < ways
    assert 1 in shots
    assert max(shots) > 10


def test_the_knowledge_base_of_an_episode_lacks_every_class_that_it_asks_about(
    bank: Bank, episodes: list[Episode]
) -> None:
    for episode in episodes:
        asked = set(episode.query_glob[:, 0].int().tolist()) & set(bank.taught)
        assert not asked & set(episode.m_rows.tolist())
        assert not set(episode.classes.tolist()) & set(episode.m_rows.tolist())


def test_no_picture_is_both_taught_and_asked(episodes: list[Episode]) -> None:
    for episode in episodes:
        own = episode.glob[:, :, 0].int() == np.asarray(episode.classes)[:, None]  # else the label is wrong
        taught = episode.glob[:, :, 1][(episode.mask > 0) & own].int().tolist()
        known = episode.target < len(episode.classes)
        assert not set(taught) & set(episode.query_glob[known, 1].int().tolist())


def test_targets_name_the_taught_class_or_none(episodes: list[Episode]) -> None:
    for episode in episodes:
        classes = episode.classes.tolist()
        for shown, target in zip(episode.query_glob[:, 0].int().tolist(), episode.target.tolist(), strict=True):
            assert target == (classes.index(shown) if shown in classes else len(classes))


def test_four_queries_in_ten_show_nothing_that_was_taught(episodes: list[Episode]) -> None:
    unknown = [float((episode.target == len(episode.classes)).float().mean()) for episode in episodes]

    assert 0.3 < np.mean(unknown) < 0.5


def test_a_few_shots_have_the_wrong_label(episodes: list[Episode]) -> None:
    shots = wrong = 0
    for episode in episodes:
        for row, own in enumerate(episode.classes):
            there = episode.mask[row] > 0
            if there.sum() > 6:
                shown = episode.glob[row, there, 0].int()
                shots, wrong = shots + len(shown), wrong + int((shown != int(own)).sum())

    assert 0.02 < wrong / shots < 0.08


def test_queries_come_clean_and_through_bad_cameras(episodes: list[Episode]) -> None:
    clean = np.mean([float((episode.domains == 0).float().mean()) for episode in episodes])

    assert clean == pytest.approx(CLEAN_QUERIES, abs=0.05)


def test_practice_goes_where_classes_and_domains_are_mixed_up(bank: Bank, episodes: list[Episode]) -> None:
    weak, rng = WeakPoints(len(bank.classes)), np.random.default_rng(1)
    episode = next(episode for episode in episodes if len(episode.classes) == 5)
    share = np.zeros((len(episode.target), 5), np.float32)
    share[:, 1] = 1  # all is taken for the second class
    before = weak.by_domain.copy()
    for _ in range(200):
        weak.update(episode, share)

    first, second = (int(number) for number in episode.classes[:2])
    assert weak.confusion[first, second] > 0.9
    assert np.mean([second in weak.neighbours(first, bank.taught, 3, rng) for _ in range(50)]) > 0.5
    assert weak.worst(bank.classes, 4)[0][1] == bank.classes[second]
    missed = np.unique(episode.domains[episode.target < 5])
    assert (weak.by_domain[missed] > before[missed]).all()
    assert len(weak.by_domain) == len(DOMAINS)
