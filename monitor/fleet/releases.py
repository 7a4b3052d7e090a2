"""The centre's folder of releases: files, and signed metadata that say which site is to have which.

A repository of The Update Framework, to be served by any web server over HTTPS. Two keys: the root key, which stays in
a safe and says whose the other is, and the release key, which signs what changes.

References:
    https://theupdateframework.github.io/specification/latest/ (keys, roles, protection from rollback and freeze)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import StorageError
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from adapters.errors import ConfigError, InputError
from adapters.files import write_whole
from adapters.signature import private_key

ROOT_DAYS, RELEASE_DAYS = 3650, 90  # for which signatures hold; `renew` signs anew
ASSIGNMENTS = "sites.json"  # target that says which site is to have which release
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
Assignments = Mapping[str, str | None]  # site -> release; None: as it was before any


def target_of(release: str) -> str:
    """Return the target path of a release's class-set file."""
    return f"classes/{release}.classes"


class Releases:
    """A folder of releases, opened with the release key."""

    def __init__(self, folder: Path, key: Path) -> None:
        """Open it.

        Raises:
            ConfigError: the key can't be used.
            InputError: it is no such folder.
        """
        self._folder, self._signer = folder, CryptoSigner(private_key(key))
        try:
            self._timestamp = Metadata[Timestamp].from_file(str(folder / "metadata/timestamp.json"))
            versions = {"snapshot": self._timestamp.signed.snapshot_meta.version}
            self._snapshot = Metadata[Snapshot].from_file(str(self._path("snapshot", versions["snapshot"])))
            self._targets = Metadata[Targets].from_file(
                str(self._path("targets", self._snapshot.signed.meta["targets.json"].version))
            )
        except (RepositoryError, StorageError, KeyError) as error:
            raise InputError(f"{folder}: no folder of releases ({error}); `wildlane fleet create` makes one") from None

    @classmethod
    def create(cls, folder: Path, root_key: Path, key: Path) -> Releases:
        """Make a new folder without a release. `metadata/1.root.json` in it is what a site is given to trust.

        Raises:
            ConfigError: the folder holds releases already, or a key can't be used.
        """
        if (folder / "metadata").exists():
            raise ConfigError(f"{folder}: holds releases already")
        signers = {"root": CryptoSigner(private_key(root_key))}
        signers |= dict.fromkeys(("targets", "snapshot", "timestamp"), CryptoSigner(private_key(key)))
        root = Root(version=1, expires=_in_days(ROOT_DAYS), consistent_snapshot=True)
        for role, signer in signers.items():
            root.add_key(signer.public_key, role)
        (folder / "metadata").mkdir(parents=True)
        (folder / "targets").mkdir(exist_ok=True)
        _write(folder / "metadata/1.root.json", Metadata(root), signers["root"])
        for name, signed in (("1.targets", Targets(1)), ("1.snapshot", Snapshot(1)), ("timestamp", Timestamp(1))):
            signed.expires = _in_days(RELEASE_DAYS)
            _write(folder / f"metadata/{name}.json", Metadata[Any](signed), signers["targets"])
        releases = cls(folder, key)
        releases.assign({})
        return releases

    @property
    def names(self) -> list[str]:
        """The releases, in the order of their names."""
        found = [path for path in self._targets.signed.targets if path != ASSIGNMENTS]
        return sorted(Path(path).stem for path in found)

    @property
    def assignments(self) -> dict[str, str | None]:
        """Which site is to have which release."""
        return dict(self._told()["sites"])

    @property
    def former(self) -> dict[str, str | None]:
        """Which release each site was to have before that."""
        return dict(self._told()["former"])

    def _told(self) -> dict[str, dict[str, str | None]]:
        if ASSIGNMENTS not in self._targets.signed.targets:
            return {"sites": {}, "former": {}}
        wanted = self._targets.signed.targets[ASSIGNMENTS].hashes["sha256"]
        told: dict[str, dict[str, str | None]] = json.loads(
            (self._folder / f"targets/{wanted}.{ASSIGNMENTS}").read_bytes()
        )
        return told

    def add(self, release: str, file: Path) -> None:
        """Add a class-set file as a release that no site has yet.

        Raises:
            ConfigError: the name can't be one, or is taken by another file: a release never changes.
            InputError: the file can't be read.
        """
        if NAME.fullmatch(release) is None:
            raise ConfigError(f"'{release}' is no name of a release; expected a-z, 0-9, '.' and '-', 64 at most")
        if release in self.names:
            raise ConfigError(f"there is a release {release} already; a release never changes: give it another name")
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InputError(f"{file}: can't be read ({error.strerror})") from None
        self._put(target_of(release), content)
        self._publish()

    def assign(self, changed: Assignments) -> None:
        """Say which release sites are to have; those that are not named keep theirs.

        Raises:
            ConfigError: there is no such release.
        """
        known = {None, *self.names}
        if lost := [release for release in changed.values() if release not in known]:
            raise ConfigError(f"there is no release '{lost[0]}'; there are: {', '.join(self.names) or 'none'}")
        sites, former = self.assignments, self.former
        for site, release in changed.items():
            if site not in sites or sites[site] != release:
                sites[site], former[site] = release, sites.get(site)
        told = {"format": 1, "sites": sites, "former": former}
        self._put(ASSIGNMENTS, json.dumps(told, indent=1, sort_keys=True).encode())
        self._publish()

    def renew(self) -> None:
        """Sign anew, so that the signatures hold for another `RELEASE_DAYS`."""
        self._publish()

    def _put(self, target: str, content: bytes) -> None:
        described = TargetFile.from_data(target, content, ["sha256"])
        path = self._folder / "targets" / Path(target).parent / f"{described.hashes['sha256']}.{Path(target).name}"
        path.parent.mkdir(exist_ok=True)
        _serve(path, content)
        self._targets.signed.targets[target] = described

    def _publish(self) -> None:
        """Write the next version of all metadata; what names the others comes last."""
        for metadata in (self._targets, self._snapshot, self._timestamp):
            metadata.signed.version += 1
            metadata.signed.expires = _in_days(RELEASE_DAYS)
        self._snapshot.signed.meta["targets.json"] = MetaFile(self._targets.signed.version)
        self._timestamp.signed.snapshot_meta = MetaFile(self._snapshot.signed.version)
        _write(self._path("targets", self._targets.signed.version), self._targets, self._signer)
        _write(self._path("snapshot", self._snapshot.signed.version), self._snapshot, self._signer)
        _write(self._folder / "metadata/timestamp.json", self._timestamp, self._signer)

    def _path(self, role: str, version: int) -> Path:
        return self._folder / f"metadata/{version}.{role}.json"


def _in_days(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def _write(path: Path, metadata: Metadata[Any], signer: CryptoSigner) -> None:
    metadata.sign(signer)
    _serve(path, metadata.to_bytes())


def _serve(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a web server may be reading it.

    Raises:
        InputError: it can't be written.
    """
    try:
        write_whole(path, content, mode=0o644)
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror})") from None
