"""The types of config.toml: no unknown keys, no silent conversions, bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")]
Coordinate = Annotated[float, Field(ge=-100_000, le=100_000)]
Labels = dict[str, str]  # of a node of a cluster


class Strict(BaseModel):
    """No unknown keys, no silent conversions, no changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _float(value: object) -> object:
    if type(value) is not int:
        return value
    try:
        return float(value)
    except OverflowError:
        raise ValueError("the number is too large") from None


def _point(value: object) -> object:
    """TOML has no tuples, and writes 5 for 5.0."""
    return tuple(_float(x) for x in value) if isinstance(value, list) else value


# TOML writes 5 for 5.0; everything else must have the type it says
Number = Annotated[float, BeforeValidator(_float)]
Point = Annotated[tuple[Coordinate, Coordinate], BeforeValidator(_point)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Shapes = list[Annotated[list[Point], Field(min_length=3)]]
GroundPoint = Annotated[tuple[Coordinate, Coordinate, Latitude, Longitude], BeforeValidator(_point)]
Position = Annotated[tuple[Latitude, Longitude], BeforeValidator(_point)]
