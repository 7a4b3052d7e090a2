"""Who may do what at the console, and who did: accounts, roles, and an audit that only grows.

The only module of the console that knows SQLite. Passwords are kept as Argon2id hashes; there is no default one: the
first account is made with a token that the program writes to a file which its owner alone can read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from adapters.database import closed_if_unusable, transaction
from adapters.errors import ConfigError, StoreError
from monitor.alerts.schema import utc_text

FILE, TOKEN_FILE = "console.sqlite3", "console-token"
LEAST_PASSWORD, MOST_PASSWORD, MOST_NAME, MOST_NOTED = 10, 200, 40, 200  # characters
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE account (name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT NOT NULL, epoch INTEGER NOT NULL,
  created TEXT NOT NULL);
CREATE TABLE audit (id INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
  about TEXT NOT NULL);
CREATE TABLE secret (one INTEGER PRIMARY KEY CHECK (one = 1), value TEXT NOT NULL);
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit only grows'); END;
CREATE TRIGGER audit_is_never_erased BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit only grows'); END
"""
# of the same format: a program that does not know it goes on without
ENDED = "CREATE TABLE IF NOT EXISTS ended (session TEXT PRIMARY KEY, until REAL NOT NULL)"

Role = Literal["viewer", "operator", "admin"]  # each may do all that those before it may
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Account:
    """Somebody who may log in. A session of another epoch is over: the password or the role changed since."""

    name: str
    role: Role
    epoch: int

    def may(self, role: Role) -> bool:
        """Tell whether this account may do what a role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class Entry:
    """A line of the audit."""

    at: str
    who: str
    what: str
    about: str


class Accounts:
    """The accounts of one state folder. Safe to use from several threads."""

    def __init__(self, state_dir: Path, hasher: PasswordHasher | None = None) -> None:
        """Open or make the store; where nobody has an account yet, write the token that makes the first one.

        Raises:
            StoreError: the folder can't be written, or the file is no such store.
        """
        self._token_path, self._hasher, self._lock = (
            state_dir / TOKEN_FILE,
            hasher or PasswordHasher(),
            threading.Lock(),
        )
        # compared with where the name is unknown, so that a guess takes equally long
        self._nobody = self._hasher.hash(secrets.token_hex())
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(state_dir / FILE, isolation_level=None, timeout=10, check_same_thread=False)
            with closed_if_unusable(self._db):
                (state_dir / FILE).chmod(0o600)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._make_tables()
                self._offer_token()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{state_dir / FILE}: can't be opened as the console's accounts ({error})") from None

    def _make_tables(self) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found > SCHEMA_VERSION:
            raise StoreError(f"{FILE}: format {found} is newer than this program's {SCHEMA_VERSION}; update Wildlane")
        if found == 0:
            self._db.executescript(f"BEGIN; {SCHEMA}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            self._db.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (secrets.token_urlsafe(32),))
        self._db.execute(ENDED)

    def _offer_token(self) -> None:
        if self.everybody():
            self._token_path.unlink(missing_ok=True)
        elif not self._token_path.exists():
            with os.fdopen(os.open(self._token_path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24) + "\n")

    @property
    def secret(self) -> str:
        """Return what the sessions' cookies are signed with; it stays the same over a restart."""
        with self._lock:
            return str(self._db.execute("SELECT value FROM secret").fetchone()[0])

    @property
    def token_path(self) -> Path | None:
        """Return where the first-run token lies; None where somebody has an account."""
        return self._token_path if self._token_path.exists() else None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def everybody(self) -> list[Account]:
        """Return all accounts, by name."""
        with self._lock:
            rows = self._db.execute("SELECT name, role, epoch FROM account ORDER BY name").fetchall()
        return [Account(*row) for row in rows]

    def find(self, name: str) -> Account | None:
        """Return an account."""
        with self._lock:
            row = self._db.execute("SELECT name, role, epoch FROM account WHERE name = ?", (name,)).fetchone()
        return None if row is None else Account(*row)

    def begin(self, token: str, name: str, password: str) -> Account:
        """Make the first account, an admin's, with the first-run token; the token is used up.

        Raises:
            ConfigError: the token is wrong or used, or name or password can't be used.
        """
        try:
            expected = self._token_path.read_text().strip()
        except OSError:
            raise ConfigError("there is an account already: ask an administrator for another one") from None
        if not secrets.compare_digest(expected.encode(), token.encode()):
            raise ConfigError(f"the token is not the one in {TOKEN_FILE}")
        account = self.add(name, "admin", password, by=name)
        self._token_path.unlink(missing_ok=True)
        return account

    def add(self, name: str, role: Role, password: str, *, by: str) -> Account:
        """Make an account.

        Raises:
            ConfigError: the name is taken, or name or password can't be used.
        """
        _check_name(name)
        hashed, epoch = self._hashed(password), _new_epoch()
        with self._transaction():
            if self._db.execute("SELECT 1 FROM account WHERE name = ?", (name,)).fetchone():
                raise ConfigError(f"'{name}' has an account already")
            row = (name, role, hashed, epoch, utc_text(datetime.now(UTC)))
            self._db.execute("INSERT INTO account VALUES (?, ?, ?, ?, ?)", row)
            self._note(by, "account made", f"{name}, {role}")
        return Account(name, role, epoch)

    def remove(self, name: str, *, by: str) -> None:
        """Take an account away; its sessions are over at once.

        Raises:
            ConfigError: there is none of that name, or it is the last administrator's.
        """
        with self._transaction():
            self._check_may_go(name)
            self._db.execute("DELETE FROM account WHERE name = ?", (name,))
            self._note(by, "account removed", name)

    def change_role(self, name: str, role: Role, *, by: str) -> None:
        """Give an account another role, in its open sessions at once.

        Raises:
            ConfigError: there is none of that name, or it is the last administrator's.
        """
        with self._transaction():
            if role == "admin":
                self._role_of(name)
            else:
                self._check_may_go(name)
            self._db.execute("UPDATE account SET role = ? WHERE name = ?", (role, name))
            self._note(by, "role changed", f"{name}, {role}")

    def _role_of(self, name: str) -> str:
        """Return the role of an account."""
        found = self._db.execute("SELECT role FROM account WHERE name = ?", (name,)).fetchone()
        if found is None:
            raise ConfigError(f"nobody is called '{name}'")
        return str(found[0])

    def _check_may_go(self, name: str) -> None:
        (admins,) = self._db.execute("SELECT count(*) FROM account WHERE role = 'admin'").fetchone()
        if self._role_of(name) == "admin" and admins == 1:
            raise ConfigError("the last administrator stays: nobody else could make accounts")

    def change_password(self, name: str, password: str, *, by: str) -> None:
        """Set a password; all sessions of the account are over."""
        hashed = self._hashed(password)
        with self._transaction():
            self._db.execute("UPDATE account SET password = ?, epoch = ? WHERE name = ?", (hashed, _new_epoch(), name))
            self._note(by, "password changed", name)

    def end_session(self, session: str, until_s: float, now_s: float) -> None:
        """Remember that a session is over, as long as its cookie could live; what is older is forgotten."""
        with self._transaction():
            self._db.execute("DELETE FROM ended WHERE until < ?", (now_s,))
            self._db.execute("INSERT OR REPLACE INTO ended VALUES (?, ?)", (session, until_s))

    def has_ended(self, session: str) -> bool:
        """Tell whether somebody has logged out of a session."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM ended WHERE session = ?", (session,)).fetchone() is not None

    def log_in(self, name: str, password: str) -> Account | None:
        """Return the account where name and password fit; it takes as long where they don't."""
        with self._lock:
            row = self._db.execute("SELECT name, role, epoch, password FROM account WHERE name = ?", (name,)).fetchone()
        with contextlib.suppress(VerificationError, InvalidHashError):
            self._hasher.verify(self._nobody if row is None else row[3], password[:MOST_PASSWORD])
            return None if row is None else Account(*row[:3])
        return None

    def note(self, who: str, what: str, about: str) -> None:
        """Add a line to the audit."""
        with self._transaction():
            self._note(who, what, about)

    def audit(self, limit: int) -> Sequence[Entry]:
        """Return the newest lines of the audit, newest first."""
        with self._lock:
            rows = self._db.execute("SELECT at, who, what, about FROM audit ORDER BY id DESC LIMIT ?", (limit,))
            return [Entry(*row) for row in rows]

    def _note(self, who: str, what: str, about: str) -> None:
        self._db.execute(
            "INSERT INTO audit (at, who, what, about) VALUES (?, ?, ?, ?)",
            (utc_text(datetime.now(UTC)), legible(who), legible(what), legible(about)),
        )

    def _hashed(self, password: str) -> str:
        if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
            raise ConfigError(f"the password must have {LEAST_PASSWORD} to {MOST_PASSWORD} characters")
        return self._hasher.hash(password)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, transaction(self._db, FILE):
            yield


def legible(text: str) -> str:
    """Return what somebody sent as the audit and the log show it: one line of bounded length, nothing invisible."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: MOST_NOTED + 1])
    return shown if len(shown) <= MOST_NOTED else f"{shown[: MOST_NOTED - 1]}…"


def _new_epoch() -> int:
    """Return one that no session bears, not even of an account that had the name before."""
    return secrets.randbits(62)


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= MOST_NAME or name != name.strip() or not all(c.isalnum() or c in " .-_@" for c in name):
        raise ConfigError(f"name {name!r}: expected 1 to 40 letters, digits, spaces, '.', '-', '_' or '@'")
