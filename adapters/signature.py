"""Whose model this is: an Ed25519 signature over the manifest, which names every other file by its SHA-256.

Made with openssl, kept beside the manifest:

    openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out key.pub
    openssl pkeyutl -sign -rawin -inkey key.pem -in manifest.json -out manifest.sig
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from adapters.errors import ConfigError, ModelError
from adapters.runtime import MANIFEST

SIGNATURE = "manifest.sig"


def check_signature(folder: Path, key_file: Path) -> None:
    """Refuse a model folder that the owner of a key did not sign.

    Args:
        folder: holds manifest.json and manifest.sig.
        key_file: Ed25519 public key, PEM.

    Raises:
        ConfigError: the key can't be read, or is of another kind.
        ModelError: the signature is missing, or not the key's over this manifest.
    """
    key = public_key(key_file)
    try:
        key.verify((folder / SIGNATURE).read_bytes(), (folder / MANIFEST).read_bytes())
    except OSError as error:
        raise ModelError(
            f"{folder / SIGNATURE}: can't be read ({error.strerror}), but models_key_file asks for it"
        ) from None
    except InvalidSignature:
        raise ModelError(f"{folder / SIGNATURE}: is not the signature of {key_file} over {MANIFEST}") from None


def public_key(path: Path) -> Ed25519PublicKey:
    """Return the Ed25519 public key of a PEM file.

    Raises:
        ConfigError: it can't be read, or is of another kind.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no public key ({error})") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: expected an Ed25519 key")
    return key


def private_key(path: Path) -> Ed25519PrivateKey:
    """Return the Ed25519 private key of a PEM file that has no password.

    Raises:
        ConfigError: it can't be read, or is of another kind.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: no private key without a password ({error})") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: expected an Ed25519 key")
    return key
