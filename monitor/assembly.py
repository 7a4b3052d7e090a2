"""From the tables of config.toml to the plain values that the parts are built from."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from adapters.class_set import ClassSetStore
from adapters.classes import ClassSet
from adapters.classifier import Classifier
from adapters.errors import ConfigError, DeviceError, ModelError
from adapters.runtime import MODELS
from adapters.signature import check_signature
from monitor import VERSION
from monitor.alerts.compose import Road, SiteFacts
from monitor.alerts.mirrors import Prefixes
from monitor.alerts.schema import ADVISORY, ApproachPart, InfoApproach, InfoCamera, InfoZone, SiteInfo
from monitor.alerts.session import Address, check_readable, read_password
from monitor.alerts.tls import Tls
from monitor.cameras.stream import Source
from monitor.config import CameraConfig, Config, LineConfig, PolicyConfig, RuleConfig, source_of
from monitor.fleet.chosen import ChosenModel
from monitor.pipeline import Budget
from monitor.places import ConfiguredPlace, GroundPlane, Place
from monitor.policy import Settings
from monitor.policy_table import Hours, Line, Rule, Table
from monitor.zones import Zone, whole_view

if TYPE_CHECKING:
    from monitor.fleet.follow import Follower

log = logging.getLogger(__name__)


def settings_of(config: Config) -> Settings:
    """Return the policy table of a configuration."""
    policy = config.policy
    return Settings(
        table=Table(
            taught=_rule_of(policy, policy.taught),
            unknown_animal=_rule_of(policy, policy.unknown_animal),
            lines=tuple(_line_of(line) for line in policy.lines),
        ),
        standing_s=policy.standing_s,
        standing_probability=policy.standing_probability,
        min_side_px=policy.min_side_px,
        update_s=policy.update_s,
    )


def _rule_of(policy: PolicyConfig, rule: RuleConfig) -> Rule:
    return Rule(
        action=rule.action,
        min_probability=rule.min_probability,
        confirm_frames=policy.confirm_frames,
        confirm_s=policy.confirm_s,
        hold_s=policy.hold_s,
    )


def _line_of(line: LineConfig) -> Line:
    return Line(
        name=line.name,
        classes=frozenset(line.classes),
        sizes=frozenset(line.sizes),
        zones=frozenset(line.zones),
        light=frozenset(line.light),
        hours=tuple(Hours(begin=begin, end=end) for begin, end in line.hours),
        towards_road=line.towards_road,
        then=line.then(),
    )


def clock_of(timezone: str) -> Callable[[], time]:
    """Return what tells the time of day on the site's own clock."""
    zone = ZoneInfo(timezone)
    return lambda: datetime.now(zone).time()


def models_of(config: Config, state_dir: Path) -> Path:
    """Return the folder of the graphs: the centre's where it gave one, else the configuration's, else the shipped one.

    Raises:
        ConfigError, ModelError: the configuration asks for a signature, and the folder's is not the key's.
        StoreError: which of the centre's is in use can't be read.
    """
    released = None if config.fleet.url is None else ChosenModel(state_dir).folder
    return _trusted(config, released)


def _trusted(config: Config, released: Path | None) -> Path:
    """Return a release's folder, or the configuration's own, after a look at its signature."""
    models = released or (MODELS if config.models_dir is None else Path(config.models_dir))
    if config.models_key_file is not None:
        check_signature(models, Path(config.models_key_file))
    return models


def classifier_of(config: Config, state_dir: Path) -> Classifier:
    """Load the graphs on the configured device."""
    return _loaded(config, models_of(config, state_dir))


def _loaded(config: Config, models: Path) -> Classifier:
    device = config.device
    return Classifier(models, device=device.provider, precision=device.precision, threads=device.threads)


def first_classifier(config: Config, state_dir: Path) -> Classifier:
    """Load the graphs and warm them up, as the daemon does at its start.

    A model that the centre has assigned begins here; one that does not load gives way to the one before it.

    Raises:
        ConfigError, ModelError, StoreError: see `models_of`.
        DeviceError: the device that is asked for does not work.
    """
    if config.fleet.url is None:
        return _warm(_loaded(config, _trusted(config, None)))
    chosen = ChosenModel(state_dir)
    chosen.begin()
    while True:
        try:
            return _warm(_loaded(config, _trusted(config, chosen.folder)))
        except ModelError as error:
            if chosen.folder is None or (isinstance(error, DeviceError) and not chosen.is_new):
                raise
            log.error("release %s: %s", chosen.choice.in_use, error)  # noqa: TRY400  # one line
            chosen.give_way(str(error))


def _warm(classifier: Classifier) -> Classifier:
    classifier.encode.warm_up()
    return classifier


def open_classes(classifier: Classifier, state_dir: Path, *, in_memory: bool = False) -> ClassSetStore:
    """Return the class store of a state folder: seeded where it is new, rebuilt where the encoder is."""
    store = ClassSetStore(state_dir, in_memory=in_memory)
    try:
        store.seed(classifier.folder, classifier.encoder_hash)
        rebuilt = store.rebuild(classifier)
    except BaseException:
        store.close()
        raise
    if rebuilt.shots:
        log.info("the encoder is new: %d shots were encoded again", rebuilt.shots)
    if rebuilt.lost:
        names = ", ".join(rebuilt.lost)
        log.error("the encoder is new, and pictures of %s are not kept: teach it again, nothing is called so", names)
    return store


def follower_of(config: Config, classifier: Classifier, state_dir: Path) -> Follower | None:
    """Return what takes the centre's releases at this site; None where it follows none.

    Raises:
        ConfigError: the root file can't be read.
        StoreError: what became of earlier releases can't be read.
    """
    fleet = config.fleet
    if fleet.url is None or fleet.root_file is None:
        return None
    from monitor.fleet.follow import Follower  # with all that fetches and verifies
    from monitor.fleet.site_classes import SiteClasses
    from monitor.fleet.site_model import SiteModel
    from monitor.fleet.updates import Updates

    updates = Updates(fleet.url, Path(fleet.root_file), state_dir)
    classes = SiteClasses(classifier, state_dir, lambda: closing(open_classes(classifier, state_dir)))
    model = SiteModel(classifier, state_dir, partial(_tried, config), fleet.proven_s)
    return Follower(config.site, updates, classes, model)


def _tried(config: Config, models: Path) -> Classifier:
    """Load a model beside the one in use, on one core of the CPU."""
    return Classifier(_trusted(config, models), device="cpu", threads=1)


def sources_of(config: Config, config_path: Path) -> list[Source]:
    """Return the cameras' sources; a file is looked up beside the configuration first.

    Raises:
        ConfigError: there is no camera, or a file is missing.
    """
    if not config.cameras:
        raise ConfigError(
            f"{config_path}: no camera is configured; expected at least one table [cameras.NAME] with a `source`"
        )
    return [source_as(name, camera, source_of(camera, config_path)) for name, camera in config.cameras.items()]


def source_as(name: str, camera: CameraConfig, url: str) -> Source:
    """Return a source that is read with a camera's settings."""
    return Source(
        name=name,
        url=url,
        analysis_rate_hz=camera.analysis_rate_hz,
        open_timeout_s=camera.open_timeout_s,
        read_timeout_s=camera.read_timeout_s,
        hardware=camera.hardware_decoding,
        masks_px=tuple(tuple(mask) for mask in camera.masks_px),
        fault_times_s=camera.fault_times_s(),
        stalled_s=camera.stalled_s,
        wrong_rate_s=camera.sparse_s,
    )


def zones_of(config: Config, cameras: Sequence[str]) -> dict[str, tuple[Zone, ...]]:
    """Return the zones of each camera; one without any has one, its whole view."""
    zones = {}
    for name in cameras:
        drawn = config.cameras[name].zones if name in config.cameras else []
        own = tuple(Zone(id=zone.id, kind=zone.kind, polygon_px=tuple(zone.polygon_px)) for zone in drawn)
        zones[name] = own or (whole_view(name),)
    return zones


def budgets_of(config: Config) -> dict[str, Budget]:
    """Return how many crops of each camera are classified for one frame."""
    return {
        name: Budget(crops_per_frame=camera.crops_per_frame, sweep_tiles_per_frame=camera.sweep_tiles_per_frame)
        for name, camera in config.cameras.items()
    }


def places_of(config: Config) -> dict[str, Place]:
    """Return what each camera's pictures say of the ground: by its ground points, else by its position.

    Raises:
        ConfigError: ground points that fix no plane.
    """
    places: dict[str, Place] = {}
    for name, camera in config.cameras.items():
        if camera.ground_points:
            places[name] = GroundPlane(name, camera.ground_points)
        elif camera.latitude_deg is not None and camera.longitude_deg is not None:
            places[name] = ConfiguredPlace(
                lat=camera.latitude_deg, lon=camera.longitude_deg, radius_m=camera.view_radius_m
            )
    return places


def roads_of(config: Config) -> dict[str, Road]:
    """Return what traffic control must know of each zone."""
    return {
        zone: Road(
            lanes=tuple(road.lanes),
            road_bearing_deg=road.road_bearing_deg,
            approaches=tuple(
                ApproachPart(
                    id=approach.id,
                    inbound_bearing_deg=approach.inbound_bearing_deg,
                    relevance_m=approach.relevance_m,
                    signs=tuple(approach.signs),
                    signal_groups=tuple(approach.signal_groups),
                )
                for approach in road.approaches
            ),
        )
        for zone, road in config.zones.items()
    }


def info_version_of(config: Config) -> str:
    """Return the hash of the site's geometry, so that a consumer knows which `info` an alert was made with."""
    geometry = {
        "zones": {name: zone.model_dump() for name, zone in config.zones.items()},
        "cameras": {
            name: camera.model_dump(
                include={"latitude_deg", "longitude_deg", "view_radius_m", "ground_points", "zones"}
            )
            for name, camera in config.cameras.items()
        },
    }
    return f"sha256:{hashlib.sha256(json.dumps(geometry, sort_keys=True).encode()).hexdigest()}"


def facts_of(config: Config, encoder: str) -> SiteFacts:
    """Return what every alert of the site says of it; `encoder` is its hash."""
    return SiteFacts(
        site=config.site,
        mode=config.policy.mode,
        device=platform.node() or "unnamed",
        software=VERSION,
        encoder=encoder,
        valid_s=config.policy.valid_s,
        places=places_of(config),
        roads=roads_of(config),
        info_version=info_version_of(config),
    )


def info_of(config: Config, facts: SiteFacts, class_set: ClassSet) -> SiteInfo:
    """Return what consumers must know of the site; alerts pin it by its version."""
    zones = {}
    seen = zones_of(config, list(config.cameras))
    for zone in {zone.id: zone for drawn in seen.values() for zone in drawn}.values():
        road = facts.roads.get(zone.id, Road())
        paths = {approach.id: approach.path for approach in config.zones[zone.id].approaches} if road.approaches else {}
        zones[zone.id] = InfoZone(
            kind=zone.kind,
            lanes=road.lanes,
            road_bearing_deg=road.road_bearing_deg,
            approaches=tuple(InfoApproach(**dict(part), path=tuple(paths[part.id])) for part in road.approaches),
            cameras=tuple(name for name, drawn in seen.items() if any(other.id == zone.id for other in drawn)),
        )
    return SiteInfo(
        site=facts.site,
        info_version=facts.info_version,
        time=datetime.now(UTC),
        software=facts.software,
        encoder=facts.encoder,
        class_set=class_set.version,
        classes=tuple(class_set.attributes),
        zones=zones,
        cameras={name: _info_camera(camera, facts.places.get(name)) for name, camera in config.cameras.items()},
        advisory=ADVISORY,
    )


def _info_camera(camera: CameraConfig, place: Place | None) -> InfoCamera:
    method: Literal["homography", "configured"] | None = None
    if place is not None:
        method = "homography" if isinstance(place, GroundPlane) else "configured"
    return InfoCamera(
        method=method,
        error_m=place.error_m if isinstance(place, GroundPlane) else None,
        latitude_deg=camera.latitude_deg,
        longitude_deg=camera.longitude_deg,
    )


def mirrors_of(config: Config) -> Prefixes:
    """Return where other systems read the levels."""
    return Prefixes(home_assistant=config.mirrors.home_assistant, onvif=config.mirrors.onvif)


def tls_of(config: Config) -> Tls | None:
    """Return the files of the encrypted connection, None where it is plain.

    Raises:
        ConfigError: one of them can't be read.
    """
    broker = config.broker
    for key in ("tls_ca_file", "tls_cert_file", "tls_key_file", "tls_crl_file"):
        check_readable(key, getattr(broker, key))
    if broker.tls_ca_file is None:
        return None
    return Tls(
        ca_file=broker.tls_ca_file,
        cert_file=broker.tls_cert_file,
        key_file=broker.tls_key_file,
        crl_file=broker.tls_crl_file,
    )


def address_of(config: Config, port: int) -> Address:
    """Return the broker's address and our credentials.

    Raises:
        ConfigError: the file of the password, or one of the certificates', can't be used.
    """
    broker, tls = config.broker, tls_of(config)
    if tls is not None:
        tls.context()  # so that a wrong file is told now, not by the publisher's log
    return Address(
        host=broker.host,
        port=port,
        client_id=f"wildlane-{config.site}",
        username=broker.username,
        password=read_password(broker.password_file),
        tls=tls,
    )
