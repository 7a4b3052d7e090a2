"""Where a labelled crop came from, as far as that is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BoxXywh = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a labelled crop came from; what is not known is None.

    Attributes:
        camera: its name.
        frame: number of the frame in the camera's or the file's stream.
        file: the picture or recording, where there was one.
        box: what was drawn, inside the picture: x, y, w, h in its pixels.
        captured: when, UTC, ISO 8601.
        operator: who labelled it.
    """

    camera: str | None = None
    frame: int | None = None
    file: str | None = None
    box: BoxXywh | None = None
    captured: str | None = None
    operator: str | None = None

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Provenance:
        """Return what `row` made columns of."""
        camera, frame, file, box, captured, operator = row
        corners = None if box is None else tuple(float(value) for value in json.loads(box))
        if corners is not None and len(corners) != 4:
            raise ValueError(f"box {box} has {len(corners)} numbers")
        return cls(camera=camera, frame=frame, file=file, box=corners, captured=captured, operator=operator)

    def row(self) -> tuple[str | int | None, ...]:
        """Return it as the columns `COLUMNS` of a table."""
        box = None if self.box is None else json.dumps(self.box)
        return (self.camera, self.frame, self.file, box, self.captured, self.operator)

    def known(self) -> dict[str, Any]:
        """Return what is known of it, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


COLUMNS = ", ".join(Provenance.__dataclass_fields__)  # of a table, in the order of `row`
UNKNOWN = Provenance()
