"""Which of the centre's models a site runs: a note in its state folder, which every program of the site begins with.

A model begins with a start of the daemon, and is proven when it has run for a while. One that can't be loaded, or with
which the program ends again and again before that, gives way to the one before it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from adapters.errors import StoreError
from monitor.fleet.names import FOLDER, NAME
from monitor.notes import read_note, write_note

log = logging.getLogger(__name__)

Release = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
NOTE, MODELS = "model.json", "models"
MOST_STARTS = 3  # of the program with a model that is not proven yet; a power cut may be one of them


class Choice(BaseModel):
    """What the note says.

    Attributes:
        release, state, why: of the one that the centre has assigned; `trying` while it is tried beside the one in use.
        in_use: what every program of the site loads; None is the configuration's own.
        before: what ran well before that.
        starts: how often the daemon began with `in_use` since it is not proven.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    release: Release | None = None
    state: Literal["none", "trying", "starting", "live", "held-back", "refused"] = "none"
    why: str = ""
    in_use: Release | None = None
    before: Release | None = None
    starts: int = 0

    @property
    def is_due(self) -> bool:
        """Whether the daemon must start again to load what is assigned."""
        return self.state == "starting" and self.in_use != self.release


class ChosenModel:
    """The note, and the folders of the models."""

    def __init__(self, state_dir: Path) -> None:
        """Read it.

        Raises:
            StoreError: it can't be read.
        """
        self._file, self._models = state_dir / FOLDER / NOTE, state_dir / FOLDER / MODELS
        self.choice = read_note(self._file, Choice)

    @property
    def folder(self) -> Path | None:
        """Where the model in use lies; None where it is the configuration's own."""
        return None if self.choice.in_use is None else self.folder_of(self.choice.in_use)

    def folder_of(self, release: str) -> Path:
        """Return where a release's model lies."""
        return self._models / release

    def folders(self) -> list[Path]:
        """Return where models lie."""
        return sorted(self._models.glob("*"))

    @property
    def is_new(self) -> bool:
        """Whether the model in use is not proven yet."""
        return self.choice.state == "starting" and not self.choice.is_due

    def begin(self) -> None:
        """Note that the daemon starts: with a model that is due, or once more with one that is not proven yet.

        Where that can't be noted nothing begins: a start that is not counted could fail for ever.
        """
        choice = self.choice
        try:
            if choice.is_due:
                proven = choice.before if choice.starts else choice.in_use
                self.note(in_use=choice.release, before=proven, starts=1)
            elif self.is_new and choice.starts < MOST_STARTS:
                self.note(starts=choice.starts + 1)
            elif self.is_new:
                self.give_way(f"{MOST_STARTS} times the program ended before it had run with it for long")
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400  # one line

    def give_way(self, why: str) -> None:
        """Go back to the model before the one in use; where that can't be noted, for this start at least."""
        changed = {"state": "refused", "why": why, "in_use": self.choice.before, "before": None, "starts": 0}
        try:
            self.note(**changed)
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400  # one line
            self.choice = self.choice.model_copy(update=changed)

    def note(self, **changed: object) -> None:
        """Write part of the note anew.

        Raises:
            StoreError: it can't be written; what it said stays.
        """
        choice = Choice.model_validate(self.choice.model_dump() | changed)
        write_note(self._file, choice)
        self.choice = choice
