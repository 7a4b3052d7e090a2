"""How a SQLite file is opened and changed: all of it or nothing, and an error says which file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from adapters.errors import StoreError


@contextmanager
def closed_if_unusable(db: sqlite3.Connection) -> Iterator[None]:
    """Close a database that was just opened where what happens inside, its preparation, fails."""
    try:
        yield
    except BaseException:
        db.close()
        raise


@contextmanager
def transaction(db: sqlite3.Connection, name: str) -> Iterator[None]:
    """Commit what happens inside, or none of it.

    Args:
        db: opened with `isolation_level=None`.
        name: of the file, for the error.

    Raises:
        StoreError: SQLite refused something; nothing was changed.
    """
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"{name}: {error}; nothing was changed") from None
        raise
