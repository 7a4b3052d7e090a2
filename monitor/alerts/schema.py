"""What is published, as strict models: unknown fields, wrong ranges and contradictions can't even be made."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, model_validator
from pydantic.alias_generators import to_camel

EVENT_TYPES = {phase: f"org.wildlane.situation.{phase}.v1" for phase in ("start", "update", "end")}
SchemaId = Literal["urn:wildlane:schema:situation:1.0"]
SCHEMA_ID: SchemaId = "urn:wildlane:schema:situation:1.0"
ADVISORY = "Assistance only: not safety-rated; no alert is no proof of a clear road."

Phase = Literal["start", "update", "end"]
EndReason = Literal["left", "timeout", "merged", "false-alarm", "camera-lost", "shutdown", "restart"]
Mode = Literal["real", "test", "exercise"]
Level = Literal["active", "clear", "unknown"]
Status = Literal["online", "degraded", "offline"]
Size = Literal["small", "large", "unknown"]
Certainty = Literal["riskOf", "probable", "certain"]
Severity = Literal["none", "lowest", "low", "medium", "high", "highest", "unknown"]
AnimalPresence = Literal[
    "animalsOnTheRoad",
    "herdOfAnimalsOnTheRoad",
    "largeAnimalsOnTheRoad",
    "smallAnimalsOnTheRoad",
    "wildAnimalsOnTheRoad",
]
Share = Annotated[float, Field(ge=0, le=1)]
Degrees = Annotated[float, Field(ge=0, lt=360)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


def utc_text(moment: datetime) -> str:
    """Return a moment as RFC 3339 in UTC with milliseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


Moment = Annotated[AwareDatetime, PlainSerializer(utc_text, return_type=str, when_used="json")]


class Model(BaseModel):
    """Strict, frozen, camelCase on the wire."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


class SituationPart(Model):
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    version: Annotated[int, Field(ge=1)]
    phase: Phase
    first_observed: Moment
    observed: Moment
    valid_until: Moment
    ended: Moment | None
    end_reason: EndReason | None
    supersedes: tuple[str, ...]

    @model_validator(mode="after")
    def _times_and_phase_agree(self) -> Self:
        if (self.phase == "end") != (self.ended is not None) or (self.ended is None) != (self.end_reason is None):
            raise ValueError("ended and endReason are given at the end, and only then")
        if self.phase == "start" and self.version != 1:
            raise ValueError("a start has version 1")
        if not self.first_observed <= self.observed <= self.valid_until:
            raise ValueError("firstObserved <= observed <= validUntil does not hold")
        return self


class ZonePart(Model):
    id: str
    kind: str
    lanes: tuple[int, ...]


class PointPart(Model):
    lat: Annotated[float, Field(ge=-90, le=90)]
    lon: Annotated[float, Field(ge=-180, le=180)]
    accuracy_m: Annotated[float, Field(gt=0)]
    method: Literal["homography", "configured"]


class ApproachPart(Model):
    id: str
    inbound_bearing_deg: Degrees
    relevance_m: Annotated[float, Field(gt=0)]
    signs: tuple[str, ...]
    signal_groups: tuple[str, ...]


class WherePart(Model):
    site: str
    zone: ZonePart
    point: PointPart | None
    road_bearing_deg: Degrees | None
    approaches: tuple[ApproachPart, ...]
    info_version: Digest
    cameras: Annotated[tuple[str, ...], Field(min_length=1)]


class TaxonPart(Model):
    scientific_name: str
    gbif_id: int | None


class AnimalPart(Model):
    class_: Annotated[str, Field(alias="class", min_length=1)]
    taxon: TaxonPart | None
    size: Literal["small", "large", "unknown"]
    origin: Literal["wild", "domestic", "unknown"]
    count: Annotated[int, Field(ge=1)]
    herd: bool
    alive: bool | None
    heading_deg: Degrees | None
    speed_mps: Annotated[float, Field(ge=0)] | None


class CertaintyPart(Model):
    probability: Share
    level: Certainty
    novelty: Share
    frames: Annotated[int, Field(ge=1)]
    confirmed_by: str | None


class Datex2Code(Model):
    animal_presence_type: AnimalPresence
    probability_of_occurrence: Certainty


class EtsiCode(Model):
    cause_code: Literal[11]
    sub_cause_code: Annotated[int, Field(ge=0, le=9)]
    sub_cause_code_r1: Annotated[int, Field(ge=0, le=4, alias="subCauseCodeR1")]
    information_quality: Annotated[int, Field(ge=0, le=7)]
    station_id: Annotated[int, Field(ge=0, le=2**32 - 1)]
    sequence_number: Annotated[int, Field(ge=0, le=65_535)]


class TpegCode(Model):
    cause_code: Literal[11]
    sub_cause_code: Annotated[int, Field(ge=0, le=4)]


class CodesPart(Model):
    datex2: Datex2Code
    etsi: EtsiCode
    itis: tuple[int, ...]
    alert_c: tuple[int, ...]
    tpeg_tec: TpegCode


class EvidencePart(Model):
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    href: str | None
    redacted: bool
    delete_after: Moment


class ClockPart(Model):
    synced: bool
    source: str
    error_ms: float | None


class ProvenancePart(Model):
    device: str
    software: str
    detector: Digest
    class_set: str
    captured: Moment
    decided: Moment
    clock: ClockPart


class RecognitionPart(Model):
    weights: dict[str, Share]
    p_animal: Share
    similarity_m: Annotated[float, Field(ge=-1.001, le=1.001)]
    frames_fused: Annotated[int, Field(ge=1)]


class AlertData(Model):
    seq: Annotated[int, Field(ge=1)]
    journal: str
    mode: Mode
    situation: SituationPart
    where: WherePart
    animal: AnimalPart
    certainty: CertaintyPart
    severity: Severity
    codes: CodesPart
    evidence: EvidencePart | None
    provenance: ProvenancePart
    recognition: RecognitionPart
    because: Annotated[tuple[str, ...], Field(min_length=1)]
    advisory: str


class Alert(Model):
    """A message about a situation: a CloudEvent 1.0 in structured JSON."""

    model_config = ConfigDict(alias_generator=None)

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str
    time: Moment
    datacontenttype: Literal["application/json"]
    dataschema: SchemaId
    sequence: Annotated[str, Field(pattern=r"^[0-9]{16}$")]
    partitionkey: str
    data: AlertData

    @model_validator(mode="after")
    def _envelope_and_data_agree(self) -> Self:
        situation = self.data.situation
        if self.type != EVENT_TYPES[situation.phase]:
            raise ValueError(f"type {self.type} does not fit phase {situation.phase}")
        if self.id != f"{situation.id}.{situation.version}":
            raise ValueError("id must be situation.id and situation.version")
        if int(self.sequence) != self.data.seq:
            raise ValueError("sequence and data.seq differ")
        return self

    def json_text(self) -> str:
        """Return the alert as compact JSON, as it is stored and published."""
        return self.model_dump_json(by_alias=True)


class ZoneState(Model):
    """The level of a zone, retained: what a sign is driven from."""

    site: str
    zone: str
    level: Level
    situations: tuple[str, ...]
    since: Moment
    time: Moment
    valid_until: Moment
    mode: Mode
    advisory: str


class SiteStatus(Model):
    """Birth, and the will that the broker publishes when the connection is lost."""

    site: str
    status: Status
    since: Moment
    software: str
    journal: str | None
    problem: str | None  # why it is degraded


class CameraHealth(Model):
    state: Literal["ok", "degraded", "blind"]
    reason: (
        Literal[
            "lost", "stalled", "frozen", "dark", "overexposed", "covered", "defocused", "moved", "wrong-rate", "clock"
        ]
        | None
    )
    since: Moment
    analysed_per_s: Annotated[float, Field(ge=0)]


class CertificatePart(Model):
    """How long a file of the encrypted connection to the broker still holds."""

    role: Literal["own", "authority", "revocations"]
    not_after: Moment
    days_left: float


# the newest event reached the broker and nobody else; the GPU failed and the CPU has taken over; more than half of a
# camera's due frames were left out
Warned = Literal["no-subscriber", "gpu-lost", "overloaded"]


class SiteHealth(Model):
    """Published on change and every 30 s."""

    site: str
    time: Moment
    cameras: dict[str, CameraHealth]
    journal: str
    newest: Annotated[int, Field(ge=0)]  # number of the newest event, 0 before the first: what a consumer should have
    unsent: Annotated[int, Field(ge=0)]
    parked: Annotated[int, Field(ge=0)]
    class_set: str
    provider: str
    clock: ClockPart
    certificates: tuple[CertificatePart, ...]
    warnings: tuple[Warned, ...]


class InfoApproach(ApproachPart):
    """An approach with the way by which traffic comes: (latitude, longitude) from the zone outwards."""

    path: tuple[tuple[float, float], ...]


class InfoZone(Model):
    kind: str
    lanes: tuple[int, ...]
    road_bearing_deg: Degrees | None
    approaches: tuple[InfoApproach, ...]
    cameras: tuple[str, ...]


class InfoCamera(Model):
    method: Literal["homography", "configured"] | None
    error_m: Annotated[float, Field(ge=0)] | None
    latitude_deg: float | None
    longitude_deg: float | None


class SiteInfo(Model):
    """Who the site is and what its zones are, retained; alerts pin it by `infoVersion`."""

    site: str
    info_version: Digest
    time: Moment
    software: str
    encoder: Digest
    class_set: str
    classes: tuple[str, ...]
    zones: dict[str, InfoZone]
    cameras: dict[str, InfoCamera]
    advisory: str


MOST = 2**53 - 1  # the largest number that every JSON reader keeps


class Acknowledgement(Model):
    """A consumer's receipt: it has everything of a journal up to a number."""

    journal: str
    upto: Annotated[int, Field(ge=0, le=MOST)]


class ReplayCommand(Model):
    """Ask for a range of events again, both ends included."""

    journal: str
    first: Annotated[int, Field(ge=1, le=MOST)]
    last: Annotated[int, Field(ge=1, le=MOST)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("first <= last does not hold")
        return self


Who = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")]  # a line of the log


class ReleasePart(Model):
    """What became of a release: of classes, or of a model.

    `live` is in force, `starting` is a model that the next start loads, or that has not run for long,
    `held-back` was tried and named checked frames worse, `refused` could not be taken, `none` is a site without one;
    `release` is the one that the centre has assigned, `why` is empty where all is well.
    """

    release: Annotated[str, Field(max_length=64)] | None
    state: Literal["live", "starting", "held-back", "refused", "none"]
    why: str


class SiteRelease(Model):
    """Which of the centre's releases a site has, retained, where it follows a centre."""

    site: str
    time: Moment
    classes: ReleasePart
    model: ReleasePart
    class_set: str  # in force now


class UpdateCommand(Model):
    """Look for a release now; the site's `release` is the answer."""


class PingCommand(Model):
    """Ask whether the site hears; it changes nothing."""


class JudgementCommand(Model):
    """A person's word on an open situation: that it is one, or that it is none."""

    situation: str
    by: Who


class TestAlertCommand(Model):
    """Ask for an alert of mode `test` in a zone, to see whether it reaches its signs."""

    zone: str
    by: Who


class Reply(Model):
    """The answer to a command."""

    command: str
    accepted: bool
    detail: str
