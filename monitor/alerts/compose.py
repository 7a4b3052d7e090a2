"""A situation version -> the alert that tells of it: places, times, and the road world's own codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from adapters.classes import ClassAttributes
from adapters.classifier import UNKNOWN
from monitor.alerts import schema
from monitor.places import Place, size_of
from monitor.policy import Phase, Situation

CERTAIN, PROBABLE = 0.98, 0.8  # lower bounds of DATEX II's `certain` and `probable`
SEVERITY: dict[schema.Size, schema.Severity] = {"large": "high", "small": "low", "unknown": "medium"}
DATEX2: dict[schema.Size, schema.AnimalPresence] = {"small": "smallAnimalsOnTheRoad", "large": "largeAnimalsOnTheRoad"}
ETSI_R1 = {"small": 3, "large": 4}  # CDD V1.3.1, sub-causes of cause 11
ETSI_R2 = {("wild", "small"): 5, ("wild", "large"): 6, ("domestic", "small"): 8, ("domestic", "large"): 9}
ITIS = {"large": 1291}  # J2540-2; 1290 animal-on-roadway otherwise
ALERT_C = {"large": 1067}  # 922 animals on roadway otherwise


@dataclass(frozen=True, kw_only=True)
class Road:
    """What traffic control must know of a zone, whichever cameras see it."""

    lanes: tuple[int, ...] = ()
    road_bearing_deg: float | None = None
    approaches: tuple[schema.ApproachPart, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SiteFacts:
    """What is the same in every alert of a run."""

    site: str
    mode: schema.Mode
    device: str
    software: str
    encoder: str  # sha256:...
    valid_s: float
    places: Mapping[str, Place]  # by camera
    roads: Mapping[str, Road]  # by zone
    info_version: str  # hash of the site's geometry: which `info` document an alert was made with


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An alert that only lacks what the journal gives when it commits it: number, journal, ETSI sequence number."""

    situation: Situation
    facts: SiteFacts
    class_set: str
    attributes: ClassAttributes | None  # None for an animal of no taught class
    at: Callable[[float], datetime]  # the run's clock -> wall time
    clock: schema.ClockPart
    evidence: schema.EvidencePart | None = None

    def numbered(self, seq: int, journal: str, etsi_sequence: int) -> schema.Alert:
        """Return the alert under a sequence number."""
        situation = self.situation
        phase, animal = situation.phase.value, self._animal()
        return schema.Alert(
            specversion="1.0",
            id=f"{situation.id}.{situation.version}",
            source=f"urn:wildlane:site:{self.facts.site}",
            type=schema.EVENT_TYPES[phase],
            subject=f"zone/{situation.zone.id}",
            time=self.at(situation.decided_s),
            datacontenttype="application/json",
            dataschema=schema.SCHEMA_ID,
            sequence=f"{seq:016d}",
            partitionkey=situation.id,
            data=schema.AlertData(
                seq=seq,
                journal=journal,
                mode="test" if self.situation.rehearsal else self.facts.mode,
                situation=self._situation(),
                where=self._where(),
                animal=animal,
                certainty=self._certainty(),
                severity=self._severity(),
                codes=self._codes(animal, etsi_sequence),
                evidence=self.evidence,
                provenance=self._provenance(),
                recognition=self._recognition(),
                because=situation.because,
                advisory=schema.ADVISORY,
            ),
        )

    def _situation(self) -> schema.SituationPart:
        situation, decided = self.situation, self.at(self.situation.decided_s)
        ended = decided if situation.phase is Phase.END else None
        return schema.SituationPart(
            id=situation.id,
            version=situation.version,
            phase=situation.phase.value,
            first_observed=self.at(situation.first_seen_s),
            observed=self.at(situation.seen_s),
            valid_until=ended or decided + timedelta(seconds=self.facts.valid_s),
            ended=ended,
            end_reason=situation.end_reason,
            supersedes=(),
        )

    def _where(self) -> schema.WherePart:
        newest, zone = self.situation.newest, self.situation.zone
        place, road = self.facts.places.get(newest.camera), self.facts.roads.get(zone.id, Road())
        at = None if place is None else place.locate(newest.box.foot)
        return schema.WherePart(
            site=self.facts.site,
            zone=schema.ZonePart(id=zone.id, kind=zone.kind, lanes=road.lanes),
            point=None if at is None else schema.PointPart(**vars(at)),
            road_bearing_deg=road.road_bearing_deg,
            approaches=road.approaches,
            info_version=self.facts.info_version,
            cameras=self.situation.cameras,
        )

    def _animal(self) -> schema.AnimalPart:
        known, newest = self.attributes, self.situation.newest
        place = self.facts.places.get(newest.camera)
        motion = None if place is None else place.motion(newest.box.foot, newest.velocity_px_s)
        taxon = (
            schema.TaxonPart(scientific_name=known.scientific_name, gbif_id=None)
            if known and known.scientific_name
            else None
        )
        return schema.AnimalPart(
            class_=self.situation.label,
            taxon=taxon,
            size=self._size(),
            origin=known.origin if known else "unknown",
            count=self.situation.count,
            herd=self.situation.count > 2 or (known is not None and known.herd),  # a pair is no herd
            alive=True,
            heading_deg=motion.heading_deg if motion else None,
            speed_mps=motion.speed_mps if motion else None,
        )

    def _certainty(self) -> schema.CertaintyPart:
        best = self.situation.best
        return schema.CertaintyPart(
            probability=best.probability,
            level=self._level(),
            novelty=1.0 if self.situation.label == UNKNOWN else best.weights.get("none", 0.0),
            frames=best.looks,
            confirmed_by=self.situation.confirmed_by,
        )

    def _level(self) -> schema.Certainty:
        probability = self.situation.best.probability
        return "certain" if probability >= CERTAIN else "probable" if probability >= PROBABLE else "riskOf"

    def _severity(self) -> schema.Severity:
        return SEVERITY[self._size()]

    def _size(self) -> schema.Size:
        """Return the size of the taught class; of an unknown animal that which the ground's scale gives it."""
        if self.attributes:
            return self.attributes.size
        newest = self.situation.newest
        return size_of(self.facts.places.get(newest.camera), newest.box)

    def _codes(self, animal: schema.AnimalPart, etsi_sequence: int) -> schema.CodesPart:
        herd_r1 = 2 if animal.herd else ETSI_R1.get(animal.size, 1 if animal.origin == "wild" else 0)
        datex2: schema.AnimalPresence = (
            "herdOfAnimalsOnTheRoad" if animal.herd else DATEX2.get(animal.size, "animalsOnTheRoad")
        )
        r2 = 2 if animal.herd else ETSI_R2.get((animal.origin, animal.size), herd_r1)
        return schema.CodesPart(
            datex2=schema.Datex2Code(animal_presence_type=datex2, probability_of_occurrence=self._level()),
            etsi=schema.EtsiCode(
                cause_code=11,
                sub_cause_code=r2,
                sub_cause_code_r1=herd_r1,
                information_quality=min(7, 1 + int(6 * self.situation.best.probability)),
                station_id=0,
                sequence_number=etsi_sequence,
            ),
            itis=(1292 if animal.herd else ITIS.get(animal.size, 1290),),
            alert_c=(1068 if animal.herd else ALERT_C.get(animal.size, 922),),
            tpeg_tec=schema.TpegCode(cause_code=11, sub_cause_code=herd_r1),
        )

    def _provenance(self) -> schema.ProvenancePart:
        return schema.ProvenancePart(
            device=self.facts.device,
            software=self.facts.software,
            detector=self.facts.encoder,
            class_set=self.class_set,
            captured=self.at(self.situation.seen_s - self.situation.newest.age_s),
            decided=self.at(self.situation.decided_s),
            clock=self.clock,
        )

    def _recognition(self) -> schema.RecognitionPart:
        best = self.situation.best
        return schema.RecognitionPart(
            weights={name: min(1.0, max(0.0, weight)) for name, weight in best.weights.items()},
            p_animal=best.p_animal,
            similarity_m=best.similarity_m,
            frames_fused=best.looks,
        )
