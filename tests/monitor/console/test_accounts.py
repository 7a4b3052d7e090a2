from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from adapters.errors import ConfigError, StoreError
from monitor.console.accounts import FILE, SCHEMA, SCHEMA_VERSION, Account, Accounts

FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery"


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    opened = Accounts(tmp_path, FAST)
    yield opened
    opened.close()


def begun(accounts: Accounts) -> Account:
    assert accounts.token_path is not None
    return accounts.begin(accounts.token_path.read_text().strip(), "anna", PASSWORD)


def test_the_first_account_needs_the_token_that_only_the_owner_can_read(accounts: Accounts) -> None:
    path = accounts.token_path
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text().strip()
    with pytest.raises(ConfigError, match="the token is not the one"):
        accounts.begin("guess", "eve", PASSWORD)
    assert accounts.everybody() == []

    assert accounts.begin(token, "anna", PASSWORD).role == "admin"
    assert accounts.token_path is None
    with pytest.raises(ConfigError, match="there is an account already"):
        accounts.begin(token, "eve", PASSWORD)


def test_the_token_stays_the_same_over_a_restart_until_it_is_used(accounts: Accounts, tmp_path: Path) -> None:
    token = (tmp_path / "console-token").read_text()
    again = Accounts(tmp_path, FAST)

    assert (tmp_path / "console-token").read_text() == token
    begun(again)
    again.close()
    Accounts(tmp_path, FAST).close()
    assert not (tmp_path / "console-token").exists()


def test_only_the_right_password_logs_in(accounts: Accounts) -> None:
    anna = begun(accounts)

    assert accounts.log_in("anna", PASSWORD) == anna
    for name, password in (
        ("anna", "wrong"),
        ("anna", ""),
        ("eve", PASSWORD),
        ("", ""),
        ("anna", PASSWORD + "x" * 9999),
    ):
        assert accounts.log_in(name, password) is None


def test_passwords_are_kept_as_argon2id_alone(accounts: Accounts, tmp_path: Path) -> None:
    begun(accounts)
    accounts.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert PASSWORD.encode() not in kept
    assert b"$argon2id$" in kept
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "password", "told"),
    [
        ("bob", "short", "10 to 200 characters"),
        ("bob", "x" * 201, "10 to 200 characters"),
        ("", PASSWORD, "expected 1 to 40 letters"),
        ("<b>", PASSWORD, "expected 1 to 40 letters"),
        ("anna", PASSWORD, "has an account already"),
    ],
)
def test_names_and_passwords_that_can_not_be_are_refused(
    accounts: Accounts, name: str, password: str, told: str
) -> None:
    begun(accounts)
    with pytest.raises(ConfigError, match=told):
        accounts.add(name, "viewer", password, by="anna")
    assert [account.name for account in accounts.everybody()] == ["anna"]


def test_roles_contain_each_other() -> None:
    viewer, operator, admin = (Account("x", role, 1) for role in ("viewer", "operator", "admin"))

    assert [one.may("operator") for one in (viewer, operator, admin)] == [False, True, True]
    assert [one.may("admin") for one in (viewer, operator, admin)] == [False, False, True]
    assert all(one.may("viewer") for one in (viewer, operator, admin))


def test_a_new_password_or_a_removal_ends_what_was_begun_with_the_old_one(accounts: Accounts) -> None:
    begun(accounts)
    bob = accounts.add("bob", "operator", PASSWORD, by="anna")
    accounts.change_password("bob", "another one entirely", by="bob")

    assert accounts.log_in("bob", PASSWORD) is None
    found = accounts.find("bob")
    assert found is not None
    assert found.epoch != bob.epoch
    accounts.remove("bob", by="anna")
    assert accounts.find("bob") is None
    with pytest.raises(ConfigError, match="last administrator"):
        accounts.remove("anna", by="anna")


def test_a_session_that_was_ended_stays_so_over_a_restart_until_its_cookie_is_too_old(
    accounts: Accounts, tmp_path: Path
) -> None:
    accounts.end_session("one", until_s=100.0, now_s=50.0)
    again = Accounts(tmp_path, FAST)

    assert (again.has_ended("one"), again.has_ended("another")) == (True, False)
    again.end_session("another", until_s=200.0, now_s=101.0)
    assert (again.has_ended("one"), again.has_ended("another")) == (False, True)
    again.close()


def test_a_file_of_the_program_before_is_taken_over(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as db:
        db.executescript(f"{SCHEMA}; PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("INSERT INTO secret VALUES (1, 'secret')")
        db.execute("INSERT INTO account VALUES ('anna', 'admin', ?, 1, '2026-11-23')", (FAST.hash(PASSWORD),))
    opened = Accounts(tmp_path, FAST)

    assert opened.log_in("anna", PASSWORD) == Account("anna", "admin", 1)
    assert not opened.has_ended("any")
    opened.close()


def test_the_audit_tells_who_did_what_and_can_only_grow(accounts: Accounts, tmp_path: Path) -> None:
    begun(accounts)
    accounts.note("anna", "taught", "moose, 5 frames, cs-3")

    assert [(entry.who, entry.what, entry.about) for entry in accounts.audit(9)] == [
        ("anna", "taught", "moose, 5 frames, cs-3"),
        ("anna", "account made", "anna, admin"),
    ]
    with sqlite3.connect(tmp_path / FILE) as db:
        for change in ("DELETE FROM audit", "UPDATE audit SET who = 'eve'"):
            with pytest.raises(sqlite3.IntegrityError, match="the audit only grows"):
                db.execute(change)


def test_a_file_that_is_no_such_store_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to be read as one" * 100)

    with pytest.raises(StoreError, match="can't be opened as the console's accounts"):
        Accounts(tmp_path, FAST)
