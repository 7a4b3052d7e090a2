"""A model folder is loaded only where its owner signed it, once that is asked for; keys and signatures by openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from adapters.errors import ConfigError, ModelError
from adapters.runtime import MANIFEST, MODELS
from adapters.signature import SIGNATURE, check_signature


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_key(folder: Path, name: str, algorithm: str = "ed25519") -> Path:
    openssl("genpkey", "-algorithm", algorithm, "-out", f"{name}.pem", folder=folder)
    openssl("pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub", folder=folder)
    return folder / f"{name}.pub"


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with a signed manifest, and the public key."""
    shutil.copy2(MODELS / MANIFEST, tmp_path / MANIFEST)
    key = make_key(tmp_path, "owner")
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", "owner.pem", "-in", MANIFEST, "-out", SIGNATURE, folder=tmp_path)
    return tmp_path, key


def test_what_the_owner_signed_is_taken(signed: tuple[Path, Path]) -> None:
    check_signature(*signed)


def test_an_altered_manifest_is_refused(signed: tuple[Path, Path]) -> None:
    folder, key = signed
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text() + " ")

    with pytest.raises(ModelError, match="is not the signature of"):
        check_signature(folder, key)


def test_another_key_does_not_do(signed: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not the signature of"):
        check_signature(signed[0], make_key(tmp_path, "stranger"))


def test_a_missing_signature_is_refused(signed: tuple[Path, Path]) -> None:
    (signed[0] / SIGNATURE).unlink()

    with pytest.raises(ModelError, match="models_key_file asks for it"):
        check_signature(*signed)


@pytest.mark.parametrize("content", [b"", b"no key"])
def test_a_file_that_is_no_key_is_a_config_error(signed: tuple[Path, Path], content: bytes) -> None:
    signed[1].write_bytes(content)

    with pytest.raises(ConfigError, match="no public key"):
        check_signature(*signed)


def test_a_key_of_another_kind_is_a_config_error(signed: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected an Ed25519 key"):
        check_signature(signed[0], make_key(tmp_path, "other", "x25519"))
