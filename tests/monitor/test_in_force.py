"""The class set in force: another version is loaded aside, and taken up whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes, ClassSet
from adapters.classifier import Classifier
from adapters.crops import LabelledCrop
from adapters.errors import StoreError
from adapters.teaching import teach
from monitor.in_force import InForce
from monitor.pipeline import Pipeline
from monitor.policy import Policy
from tests.conftest import wait_until
from tests.monitor.test_alerts import SETTINGS

MOOSE = ClassAttributes(name="moose", size="large", origin="wild")


@pytest.fixture
def in_force(classifier: Classifier, tmp_path: Path) -> Iterator[InForce]:
    opened = InForce(classifier, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def pipeline(classifier: Classifier, in_force: InForce) -> Pipeline:
    return Pipeline(classifier, in_force.class_set(), Policy(SETTINGS, {}), {})


@pytest.fixture
def teach_moose(
    classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> Callable[[], str]:
    """Teach as another program does, and return the version."""

    def taught() -> str:
        store = ClassSetStore(tmp_path)
        lesson = teach(store, classifier, MOOSE, ["a"], [LabelledCrop(demo_animals["caribou"])])
        store.close()
        return lesson.version

    return taught


def test_a_version_taught_meanwhile_is_loaded_aside_and_watching_does_not_wait_for_it(
    in_force: InForce, pipeline: Pipeline, teach_moose: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_load, load = threading.Event(), ClassSetStore.load

    def slow(store: ClassSetStore, *given: Any, **named: Any) -> ClassSet:
        may_load.wait(10)
        return load(store, *given, **named)

    monkeypatch.setattr(ClassSetStore, "load", slow)
    before, version = pipeline.class_set.version, teach_moose()

    in_force.look()
    assert not in_force.take_up(pipeline)
    assert pipeline.class_set.version == before

    may_load.set()
    wait_until(lambda: in_force.take_up(pipeline), seconds=10, what="it is taken up")
    assert pipeline.class_set.version == version
    assert "moose" in pipeline.class_set.attributes
    in_force.look()
    assert not in_force.take_up(pipeline)


def test_a_version_that_can_not_be_loaded_is_said_once_and_the_old_one_stays(
    in_force: InForce,
    pipeline: Pipeline,
    teach_moose: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, version = pipeline.class_set.version, teach_moose()

    def refuse(*given: object, **named: object) -> ClassSet:
        raise StoreError(f"{version} is damaged")

    monkeypatch.setattr(ClassSetStore, "load", refuse)

    def said() -> int:
        in_force.look()
        assert not in_force.take_up(pipeline)
        return caplog.text.count("can't be taken up")

    wait_until(said, seconds=10, what="it is said")
    assert [said() for _ in range(3)] == [1, 1, 1]
    assert pipeline.class_set.version == before


def test_another_version_is_tried_beside_and_the_trial_ends_with_an_empty_name(
    in_force: InForce, pipeline: Pipeline, teach_moose: Callable[[], str]
) -> None:
    version = teach_moose()

    in_force.try_out(pipeline, version)
    wait_until(lambda: in_force.take_up(pipeline) or pipeline.shadow, seconds=10, what="it is tried")
    assert pipeline.shadow is not None
    assert pipeline.shadow.comparison().version == version

    in_force.try_out(pipeline, "")
    in_force.take_up(pipeline)
    assert pipeline.shadow is None
