"""config.toml -> strict models. The only module that reads it; only `daemon.py` and `cli.py` see the whole."""

from __future__ import annotations

import datetime
import difflib
import itertools
import re
import sysconfig
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from adapters.errors import ConfigError
from monitor.strict import (
    GroundPoint,
    Identifier,
    Labels,
    Number,
    Point,
    Position,
    Shapes,
    Strict,
)
from monitor.values import FAULT_TIMES_S, STALLED_S, WRONG_RATE_S, Fault

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class DeviceConfig(Strict):
    provider: Literal["auto", "cuda", "tensorrt", "cpu"] = "auto"
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    threads: int = Field(default=2, ge=1, le=64)
    crops_per_round: int = Field(default=32, ge=1, le=1024)


class BrokerConfig(Strict):
    embedded: bool = False
    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=0, le=65_535)
    username: str | None = None
    password_file: str | None = None
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_crl_file: str | None = None
    required_at_start: bool = True

    @model_validator(mode="after")
    def _tls_is_whole(self) -> BrokerConfig:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together: give both or neither")
        if self.tls_ca_file is None and (self.tls_cert_file or self.tls_crl_file):
            raise ValueError("tls_ca_file is missing: without it nothing is encrypted")
        return self

    @model_validator(mode="after")
    def _passwords_are_encrypted(self) -> BrokerConfig:
        if self.password_file is not None and self.tls_ca_file is None and self.host not in LOOPBACK:
            raise ValueError(
                f"the password would go to '{self.host}' in the open: set tls_ca_file, or use a broker on this machine"
            )
        return self

    @model_validator(mode="after")
    def _loopback_only(self) -> BrokerConfig:
        if self.embedded and self.tls_ca_file is not None:
            raise ValueError("the embedded broker speaks no TLS: leave the tls_ keys out, or set embedded = false")
        if self.embedded and self.host not in ("127.0.0.1", "localhost"):
            raise ValueError(
                "the embedded broker listens on loopback only: leave host = '127.0.0.1', or set embedded = false"
            )
        return self


Prefix = Annotated[str, Field(pattern=r"^[^+#\s/]+(/[^+#\s/]+)*$")]


class MetricsConfig(Strict):
    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65_535)


class ConsoleConfig(Strict):
    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65_535)
    https: bool = False
    recordings_dir: str | None = None
    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+$")] | None = None


class FleetConfig(Strict):
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    root_file: str | None = None
    look_s: Annotated[Number, Field(ge=10, le=604_800)] = 3600.0
    proven_s: Annotated[Number, Field(ge=1, le=86_400)] = 60.0

    @model_validator(mode="after")
    def _trust_is_given(self) -> FleetConfig:
        if (self.url is None) != (self.root_file is None):
            raise ValueError("url and root_file belong together: where releases are, and whose are believed")
        return self


class ClusterConfig(Strict):
    journal_nodes: Labels = Field(default_factory=dict)
    classifiers: Literal["gpu", "node"] = "gpu"


class MirrorsConfig(Strict):
    home_assistant: Prefix | None = None
    onvif: Prefix | None = None


ZoneKind = Literal["carriageway", "verge", "crossing", "pavement", "other"]


class ZoneConfig(Strict):
    id: Identifier
    kind: ZoneKind = "carriageway"
    polygon_px: list[Point] = Field(min_length=3)

    @model_validator(mode="after")
    def _encloses_something(self) -> ZoneConfig:
        corners = [*self.polygon_px, self.polygon_px[0]]
        twice_area = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in itertools.pairwise(corners))
        if abs(twice_area) < 2:
            raise ValueError("polygon_px encloses nothing: expected three or more corners that are not on one line")
        return self


class ApproachConfig(Strict):
    """A way by which traffic comes to a zone, and what can warn it."""

    id: Identifier
    inbound_bearing_deg: Number = Field(ge=0, lt=360)
    relevance_m: Number = Field(default=500.0, gt=0, le=20_000)
    signs: list[str] = Field(default_factory=list)
    signal_groups: list[str] = Field(default_factory=list)
    path: list[Position] = Field(default_factory=list, max_length=40)


class RoadConfig(Strict):
    """What traffic control must know of a zone, whichever cameras see it."""

    lanes: list[Annotated[int, Field(ge=-1, le=14)]] = Field(default_factory=list)
    road_bearing_deg: Number | None = Field(default=None, ge=0, lt=360)
    approaches: list[ApproachConfig] = Field(default_factory=list, max_length=7)


class CameraConfig(Strict):
    source: str = Field(min_length=1)
    analysis_rate_hz: Number = Field(default=5.0, ge=0.5, le=30)
    open_timeout_s: Number = Field(default=5.0, gt=0, le=60)
    read_timeout_s: Number = Field(default=5.0, gt=0, le=60)
    hardware_decoding: bool = False
    masks_px: Shapes = Field(default_factory=list)
    crops_per_frame: int = Field(default=10, ge=1, le=64)
    sweep_tiles_per_frame: int = Field(default=2, ge=0, le=16)
    node: Labels = Field(default_factory=dict)
    frozen_s: Number = Field(default=FAULT_TIMES_S["frozen"], gt=0, le=3_600)
    dark_s: Number = Field(default=FAULT_TIMES_S["dark"], gt=0, le=3_600)
    overexposed_s: Number = Field(default=FAULT_TIMES_S["overexposed"], gt=0, le=3_600)
    covered_s: Number = Field(default=FAULT_TIMES_S["covered"], gt=0, le=3_600)
    moved_s: Number = Field(default=FAULT_TIMES_S["moved"], gt=0, le=3_600)
    defocused_s: Number = Field(default=FAULT_TIMES_S["defocused"], gt=0, le=3_600)
    clock_s: Number = Field(default=FAULT_TIMES_S["clock"], gt=0, le=3_600)
    stalled_s: Number = Field(default=STALLED_S, gt=0, le=3_600)
    sparse_s: Number = Field(default=WRONG_RATE_S, ge=5, le=3_600)
    latitude_deg: Number | None = Field(default=None, ge=-90, le=90)
    longitude_deg: Number | None = Field(default=None, ge=-180, le=180)
    view_radius_m: Number = Field(default=50.0, gt=0, le=2_000)
    ground_points: list[GroundPoint] = Field(default_factory=list)
    zones: list[ZoneConfig] = Field(default_factory=list)

    @model_validator(mode="after")
    def _position_and_zones_agree(self) -> CameraConfig:
        if (self.latitude_deg is None) != (self.longitude_deg is None):
            raise ValueError("latitude_deg and longitude_deg belong together: give both or neither")
        names = [zone.id for zone in self.zones]
        if len(names) != len(set(names)):
            raise ValueError(f"zone ids must differ within a camera, got {', '.join(names)}")
        return self

    def fault_times_s(self) -> dict[Fault, float]:
        """Return how long each fault of the picture must last before it is told."""
        return {fault: getattr(self, f"{fault}_s") for fault in FAULT_TIMES_S}


class RuleConfig(Strict):
    """What is done about the animals that no line of the policy table names."""

    action: Literal["ignore", "watch", "warn"] = "warn"
    min_probability: Number = Field(default=0.5, ge=0, le=1)


def _time_span(value: object) -> object:
    parts = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", value) if type(value) is str else None
    if parts is None:
        raise ValueError("expected a part of the day such as '22:00-05:00'")
    begin_h, begin_min, end_h, end_min = map(int, parts.groups())
    begin, end = datetime.time(begin_h, begin_min), datetime.time(end_h, end_min)
    if begin == end:
        raise ValueError("begins when it ends; for the whole day leave `hours` out")
    return begin, end


class LineConfig(Strict):
    """A line of the policy table: where it holds, and what differs there."""

    name: str = Field(min_length=1, max_length=80)
    classes: list[str] = Field(default_factory=list)
    sizes: list[Literal["small", "large", "unknown"]] = Field(default_factory=list)
    zones: list[Identifier] = Field(default_factory=list)
    light: list[Literal["day", "dark", "infra-red"]] = Field(default_factory=list)
    hours: list[Annotated[tuple[datetime.time, datetime.time], BeforeValidator(_time_span)]] = Field(
        default_factory=list
    )
    towards_road: bool = False
    action: Literal["ignore", "watch", "warn"] | None = None
    min_probability: Number | None = Field(default=None, ge=0, le=1)
    confirm_frames: int | None = Field(default=None, ge=1, le=100)
    confirm_s: Number | None = Field(default=None, ge=0, le=60)
    hold_s: Number | None = Field(default=None, gt=0, le=600)

    @model_validator(mode="after")
    def _changes_something(self) -> LineConfig:
        if not self.then():
            raise ValueError(f"line '{self.name}' changes nothing: expected one or more of {', '.join(LINE_CHANGES)}")
        return self

    def then(self) -> dict[str, object]:
        """Return what the line changes."""
        return {key: value for key in LINE_CHANGES if (value := getattr(self, key)) is not None}


LINE_CHANGES = ("action", "min_probability", "confirm_frames", "confirm_s", "hold_s")


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("expected a name of the IANA time zone database, such as 'Europe/Oslo'") from None
    return value


class PolicyConfig(Strict):
    mode: Literal["real", "test", "exercise"] = "real"
    confirm_frames: int = Field(default=4, ge=1, le=100)
    confirm_s: Number = Field(default=0.6, ge=0, le=60)
    standing_s: Number = Field(default=3.0, ge=0, le=600)
    standing_probability: Number = Field(default=0.97, ge=0, le=1)
    min_side_px: Number = Field(default=18.0, ge=0, le=1_000)
    hold_s: Number = Field(default=4.0, gt=0, le=600)
    update_s: Number = Field(default=30.0, ge=1, le=600)
    valid_s: Number = Field(default=60.0, gt=0, le=3_600)
    taught: RuleConfig = RuleConfig()
    unknown_animal: RuleConfig = RuleConfig(min_probability=0.88)
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    lines: list[LineConfig] = Field(default_factory=list)

    @model_validator(mode="after")
    def _alerts_are_renewed_in_time(self) -> PolicyConfig:
        if self.update_s > 0.75 * self.valid_s:
            raise ValueError(
                f"an alert that holds for valid_s = {self.valid_s:g} s, renewed every update_s = {self.update_s:g} s, "
                "runs out in between: expected update_s of at most three quarters of valid_s"
            )
        return self


class Config(Strict):
    """The whole of config.toml."""

    site: Identifier = "wildlane"
    state_dir: str = "./state"
    models_dir: str | None = None
    models_key_file: str | None = None
    log_format: Literal["text", "json"] = "text"
    retention_days: Annotated[Number, Field(ge=1, le=3650)] = 7.0
    device: DeviceConfig = DeviceConfig()
    broker: BrokerConfig = BrokerConfig()
    metrics: MetricsConfig = MetricsConfig()
    console: ConsoleConfig = ConsoleConfig()
    mirrors: MirrorsConfig = MirrorsConfig()
    fleet: FleetConfig = FleetConfig()
    cluster: ClusterConfig = ClusterConfig()
    policy: PolicyConfig = PolicyConfig()
    cameras: dict[Identifier, CameraConfig] = Field(default_factory=dict)
    zones: dict[Identifier, RoadConfig] = Field(default_factory=dict)

    def alone(self, site: str, cameras: dict[str, CameraConfig]) -> Config:
        """Return a copy for a run of its own beside the site's: its broker, its cameras, none of the site's zones."""
        broker = BrokerConfig(embedded=True, port=0)
        parts = {
            "site": site,
            "broker": broker,
            "metrics": MetricsConfig(),
            "console": ConsoleConfig(),
            "cameras": cameras,
            "zones": {},
        }
        return self.model_copy(update=parts)

    @model_validator(mode="after")
    def _every_zone_is_there(self) -> Config:
        seen = {zone.id for camera in self.cameras.values() for zone in camera.zones}
        seen |= {name for name, camera in self.cameras.items() if not camera.zones}
        if lost := sorted(set(self.zones) - seen):
            raise ValueError(f"[zones.{lost[0]}] is seen by no camera; there are: {', '.join(sorted(seen)) or 'none'}")
        for line in self.policy.lines:
            if lost := sorted(set(line.zones) - seen - set(get_args(ZoneKind))):
                raise ValueError(
                    f"line '{line.name}' of [[policy.lines]]: no zone and no kind of zone is called '{lost[0]}'; "
                    f"there are: {', '.join(sorted(seen) + list(get_args(ZoneKind)))}"
                )
        return self


def shipped(name: str) -> Path:
    """Return the path of a file shipped beside the packages (config.toml, demo/...), in a checkout or installed."""
    checkout = Path(__file__).parents[1] / name
    return checkout if checkout.exists() else Path(sysconfig.get_path("data")) / "share/wildlane" / name


def find_config(given: Path | None) -> Path:
    """Return the file to read: the given one, else ./config.toml, else the shipped defaults."""
    if given is not None:
        return given
    return Path("config.toml") if Path("config.toml").exists() else shipped("config.toml")


def load_config(path: Path) -> Config:
    """Return the checked configuration.

    Raises:
        ConfigError: one line that says where, what was expected, and what came.
    """
    return parse_config(read_config(path), path)


def read_config(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigError: it can't be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is no regular file; expected a TOML file, give its path with --config")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be read ({error.strerror}); expected a TOML file, give its path with --config"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not TOML ({error})") from None


def parse_config(text: str, path: Path) -> Config:
    """Return the checked configuration of a text; `path` is where it is from, or is to go.

    Raises:
        ConfigError: see `load_config`.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML ({error})") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply to be a configuration") from None
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_complaint(error)}") from None


def source_of(camera: CameraConfig, config_path: Path) -> str:
    """Return a camera's source; a file is looked up beside the configuration first.

    Raises:
        ConfigError: it names a file that does not exist.
    """
    source = camera.source
    if "://" in source or source.isdecimal() or source.startswith("/dev/"):
        return source
    beside = config_path.resolve().parent / source
    if not beside.is_file():
        raise ConfigError(
            f"{config_path}: camera source '{source}': no such file at {beside}; "
            "expected a file, a device number or a URL such as rtsp://host/stream"
        )
    return str(beside)


def _first_complaint(error: ValidationError) -> str:
    # a misspelt key often leaves another one missing: it is the cause, so it is told first
    first = min(error.errors(include_url=False), key=lambda complaint: complaint["type"] != "extra_forbidden")
    where = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where[-1]}' in {_table(where[:-1])}{_suggestion(where)}"
    got = first.get("input")
    came = "" if isinstance(got, dict) else f", got {got!r}"
    message = first["msg"].removeprefix("Value error, ")
    return f"'{where[-1]}' in {_table(where[:-1])}: {message[0].lower()}{message[1:]}{came}" if where else message


def _table(where: list[str]) -> str:
    return f"[{'.'.join(where)}]" if where else "the top level"


def _suggestion(where: list[str]) -> str:
    known = _keys_at(Config, where[:-1])
    near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.4)
    # a word may be the whole of another's middle: frame_rate -> analysis_rate_hz
    shares = [key for key in known if set(key.split("_")) & set(where[-1].split("_"))]
    best = (near or shares or [""])[0]
    return f"; perhaps you meant '{best}'" if best else f"; expected one of: {', '.join(known)}"


def _keys_at(model: type[BaseModel], where: list[str]) -> list[str]:
    if not where:
        return list(model.model_fields)
    annotation = model.model_fields[where[0]].annotation if where[0] in model.model_fields else None
    inner = _inner_model(annotation)
    if inner is None:
        return []
    is_container = annotation is not inner  # a dict of named tables or a list of tables: one more step is its key
    return _keys_at(inner, where[2:] if is_container else where[1:])


def _inner_model(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401  # annotations are of any kind
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner_model(part))), None)
