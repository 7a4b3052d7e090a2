"""Models for many sites: tried beside the one in use, begun by the next start, proven by a minute, or left again."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from adapters.classifier import Classifier
from adapters.errors import ConfigError, ModelError, StoreError
from adapters.golden import GoldenSet, Trial
from adapters.runtime import MODELS, SHIPPED, write_manifest
from monitor.alerts.schema import ReleasePart
from monitor.assembly import first_classifier, follower_of, models_of, open_classes
from monitor.config import Config, load_config
from monitor.fleet.follow import Follower
from monitor.fleet.site_model import SiteModel
from tests.monitor.centre import Centre, PowerCut, altered_model


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model whose encoder is another one by its hash."""
    return altered_model(tmp_path_factory.mktemp("models") / "other", "other")


@pytest.fixture
def config(centre: Centre, tmp_path: Path) -> Config:
    config = tmp_path / "site.toml"
    config.write_text(
        f'site = "km41"\n[device]\nprovider = "cpu"\n[fleet]\nurl = "{centre.url}"\nroot_file = "{centre.root_file}"\n'
    )
    return load_config(config)


def started(config: Config, state: Path, ran_s: float = 0.0) -> tuple[Classifier, Follower]:
    classifier = first_classifier(config, state)
    follower = follower_of(config, classifier, state)
    assert follower is not None
    follower._model._begun_s -= ran_s
    return classifier, follower


def test_one_is_tried_begins_with_the_next_start_and_is_proven_after_a_minute(
    centre: Centre, config: Config, other: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    centre.releases.add("m2", other)
    centre.releases.assign("model", {"km41": "m2"})
    shipped, follower = started(config, state)
    told = follower.look()
    assert (told.model.state, follower.must_start_again) == ("starting", True)
    assert models_of(config, state) == MODELS  # what other programs of the site load meanwhile

    loaded, follower = started(config, state)
    young = follower.look()
    follower._model._begun_s -= 61
    proven = follower.look()

    assert loaded.encoder_hash != shipped.encoder_hash
    assert models_of(config, state) == state / "fleet/models/m2" == loaded.folder
    assert (young.model.state, proven.model.state, follower.must_start_again) == ("starting", "live", False)
    with closing(open_classes(loaded, state)) as store:  # the classes are encoded anew
        assert store.load(loaded).attributes.keys()

    centre.releases.assign("model", {"km41": None})
    assert follower.look().model == ReleasePart(release=None, state="starting", why="")
    back, follower = started(config, state, ran_s=61)
    assert (back.folder, follower.look().model.state) == (MODELS, "none")


def test_what_is_the_same_does_not_come_over_the_network(
    centre: Centre, config: Config, other: Path, tmp_path: Path
) -> None:
    centre.releases.add("m2", other)
    centre.releases.assign("model", {"km41": "m2"})
    same = "pretrained.onnx"
    (served,) = (centre.folder / "targets/models/m2").glob(f"*.{same}")
    served.unlink()

    _, follower = started(config, tmp_path / "state")

    assert follower.look().model.state == "starting"


def test_one_that_names_checked_frames_worse_is_held_back(
    centre: Centre, config: Config, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Trial(5, 5, 1, (("road 1", "none"),))
    monkeypatch.setattr(GoldenSet, "trial_of_model", lambda *given: lost)
    centre.releases.add("m2", other)
    centre.releases.assign("model", {"km41": "m2"})
    _, follower = started(config, tmp_path / "state")

    told = follower.look().model

    assert (told.state, told.why) == ("held-back", lost.told)
    assert not follower.must_start_again


def test_one_that_does_not_load_is_refused(centre: Centre, config: Config, other: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(other, tmp_path / "broken")
    (broken / "match.onnx").write_bytes(b"no graph")
    write_manifest(broken, SHIPPED)
    centre.releases.add("m2", broken)
    centre.releases.assign("model", {"km41": "m2"})
    _, follower = started(config, tmp_path / "state")

    told = follower.look().model

    assert (told.release, told.state) == ("m2", "refused")
    assert "match.onnx" in told.why
    assert not follower.must_start_again


def test_one_with_which_the_program_ends_again_and_again_gives_way(
    centre: Centre, config: Config, other: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    centre.releases.add("m2", other)
    centre.releases.assign("model", {"km41": "m2"})
    started(config, state)[1].look()
    ended = [started(config, state)[0].folder for _ in range(3)]
    after, follower = started(config, state)
    told = follower.look().model

    assert ended == [state / "fleet/models/m2"] * 3
    assert (after.folder, told.release, told.state) == (MODELS, "m2", "refused")
    assert "3 times the program ended" in told.why


def test_a_program_that_ends_while_it_tries_one_does_not_try_it_again(
    centre: Centre, config: Config, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    centre.releases.add("m2", other)
    centre.releases.assign("model", {"km41": "m2"})
    _, follower = started(config, state)

    def dies(*given: object) -> str:
        raise PowerCut

    monkeypatch.setattr(SiteModel, "_objection", dies)
    with pytest.raises(PowerCut):
        follower.look()
    told = started(config, state)[1].look().model

    assert (told.state, told.why) == ("refused", "the program ended while it was tried")


def test_one_whose_file_is_damaged_on_the_disk_gives_way_at_the_start(
    centre: Centre, config: Config, other: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    centre.releases.add("m2", other)
    centre.releases.assign("model", {"km41": "m2"})
    started(config, state)[1].look()
    started(config, state, ran_s=61)[1].look()
    file = state / "fleet/models/m2/match.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"?")

    after, follower = started(config, state)

    assert after.folder == MODELS
    assert follower.look().model.state == "refused"


def test_a_full_disk_begins_nothing_that_could_not_be_counted(
    centre: Centre, config: Config, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    centre.releases.add("m2", other)
    centre.releases.assign("model", {"km41": "m2"})
    started(config, state)[1].look()

    def full(*given: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr("monitor.fleet.chosen.write_note", full)

    assert first_classifier(config, state).folder == MODELS


def test_only_a_whole_model_becomes_a_release(centre: Centre, other: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(other, tmp_path / "broken")
    (broken / "match.onnx").write_bytes(b"cut short")

    with pytest.raises(ModelError, match=r"match\.onnx: SHA-256"):
        centre.releases.add("m2", broken)
    centre.releases.add("m2", other)
    with pytest.raises(ConfigError, match="'m2' brings no classes"):
        centre.releases.assign("classes", {"km41": "m2"})
    assert centre.releases.kinds == {"m2": "model"}
