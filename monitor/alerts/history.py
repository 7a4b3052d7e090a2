"""What a journal's file holds, read beside the program that writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from adapters.errors import StoreError
from monitor.alerts.schema import Alert
from monitor.alerts.storage import FILE
from monitor.alerts.verify import Extent


def history(state_dir: Path) -> Iterator[Alert]:
    """Yield every event that a journal still holds, in order, without disturbing a program that writes it.

    Raises:
        StoreError: there is no journal, or it can't be read.
    """
    with _reading(state_dir) as db:
        for (event,) in db.execute("SELECT event FROM outbox ORDER BY seq"):
            yield Alert.model_validate_json(event)


def recorded(state_dir: Path) -> tuple[list[Alert], Extent]:
    """Return every event that a journal still holds, and which numbers it should hold.

    Raises:
        StoreError: there is no journal, or it can't be read.
    """
    with _reading(state_dir) as db:
        db.execute("BEGIN")  # events and numbers of one moment
        journal, _, newest, _, *since_3 = db.execute("SELECT * FROM journal").fetchone()
        after = since_3[0] if since_3 else None  # an older program's has no such column
        events = [Alert.model_validate_json(event) for (event,) in db.execute("SELECT event FROM outbox ORDER BY seq")]
        return events, Extent(journal, after, newest)


@contextmanager
def _reading(state_dir: Path) -> Iterator[sqlite3.Connection]:
    path = state_dir / FILE
    if not path.exists():
        raise StoreError(f"{path}: no journal; name the state folder with --state")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
            yield db
    except (sqlite3.Error, ValueError) as error:
        raise StoreError(f"{path}: can't be read as a journal ({error})") from None
