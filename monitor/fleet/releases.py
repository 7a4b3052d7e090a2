"""The centre's folder of releases: class sets and models, and signed metadata that say which site is to have which.

A repository of The Update Framework, to be served by any web server over HTTPS. Two keys: the root key, which stays in
a safe and says whose the other is, and the release key, which signs what changes.

References:
    https://theupdateframework.github.io/specification/latest/ (keys, roles, protection from rollback and freeze)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from securesystemslib.exceptions import StorageError
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from adapters.errors import ConfigError, InputError
from adapters.files import write_whole
from adapters.runtime import MANIFEST, verified_files
from adapters.signature import SIGNATURE, private_key
from monitor.fleet.names import NAME, Kind

ROOT_DAYS, RELEASE_DAYS = 3650, 90  # for which signatures hold; `renew` signs anew
ASSIGNMENTS = "sites.json"  # target that says which site is to have which release
Assignments = Mapping[str, str | None]  # site -> release; None: as it was before any


def class_target(release: str) -> str:
    """Return the target path of a release's class-set file."""
    return f"classes/{release}.classes"


def model_target(release: str, file: str) -> str:
    """Return the target path of a file of a release's model."""
    return f"models/{release}/{file}"


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
        releases.assign("classes", {})
        return releases

    @property
    def kinds(self) -> dict[str, Kind]:
        """What each release brings, in the order of their names."""
        found: dict[str, Kind] = {}
        for path in self._targets.signed.targets:
            kind, _, rest = path.partition("/")
            if kind == "classes":
                found[rest.removesuffix(".classes")] = "classes"
            elif kind == "models":
                found[rest.partition("/")[0]] = "model"
        return dict(sorted(found.items()))

    def kind_of(self, release: str) -> Kind:
        """Return what a release brings.

        Raises:
            ConfigError: there is no such release.
        """
        if release not in self.kinds:
            raise ConfigError(f"there is no release '{release}'; there are: {', '.join(self.kinds) or 'none'}")
        return self.kinds[release]

    def assignments(self, kind: Kind) -> dict[str, str | None]:
        """Return which site is to have which release of a kind."""
        return dict(self._told()[kind]["sites"])

    def former(self, kind: Kind) -> dict[str, str | None]:
        """Return which release of a kind each site was to have before that."""
        return dict(self._told()[kind]["former"])

    def _told(self) -> dict[str, dict[str, dict[str, str | None]]]:
        if ASSIGNMENTS not in self._targets.signed.targets:
            return {kind: {"sites": {}, "former": {}} for kind in get_args(Kind)}
        wanted = self._targets.signed.targets[ASSIGNMENTS].hashes["sha256"]
        told: dict[str, dict[str, dict[str, str | None]]] = json.loads(
            (self._folder / f"targets/{wanted}.{ASSIGNMENTS}").read_bytes()
        )
        return told

    def add(self, release: str, brought: Path) -> Kind:
        """Add a release that no site has yet, and return what it brings.

        Args:
            release: its name.
            brought: a class-set file, or a model's folder.

        Raises:
            ConfigError: the name can't be one, or is taken by another: a release never changes.
            InputError: the file can't be read.
            ModelError: the folder's files are not those that its manifest names.
        """
        if NAME.fullmatch(release) is None:
            raise ConfigError(f"'{release}' is no name of a release; expected a-z, 0-9, '.' and '-', 64 at most")
        if release in self.kinds:
            raise ConfigError(f"there is a release {release} already; a release never changes: give it another name")
        try:
            if brought.is_dir():
                self._put_model(release, brought)
            else:
                self._put(class_target(release), brought.read_bytes())
        except OSError as error:
            raise InputError(f"{brought}: can't be read ({error.strerror})") from None
        self._publish()
        return self.kinds[release]

    def _put_model(self, release: str, folder: Path) -> None:
        content = verified_files(folder) | {MANIFEST: (folder / MANIFEST).read_bytes()}
        if (folder / SIGNATURE).exists():
            content[SIGNATURE] = (folder / SIGNATURE).read_bytes()
        for name, data in content.items():
            self._put(model_target(release, name), data)

    def assign(self, kind: Kind, changed: Assignments) -> None:
        """Say which releases of a kind sites are to have; those that are not named keep theirs.

        Raises:
            ConfigError: there is no such release, or it brings something else.
        """
        for release in changed.values():
            if release is not None and self.kind_of(release) != kind:
                raise ConfigError(f"release '{release}' brings no {kind}")
        told = self._told()
        sites, former = told[kind]["sites"], told[kind]["former"]
        for site, release in changed.items():
            if site not in sites or sites[site] != release:
                sites[site], former[site] = release, sites.get(site)
        self._put(ASSIGNMENTS, json.dumps({**told, "format": 1}, indent=1, sort_keys=True).encode())
        self._publish()

    def renew(self) -> None:
        """Sign anew, so that the signatures hold for another `RELEASE_DAYS`."""
        self._publish()

    def _put(self, target: str, content: bytes) -> None:
        described = TargetFile.from_data(target, content, ["sha256"])
        path = self._folder / "targets" / Path(target).parent / f"{described.hashes['sha256']}.{Path(target).name}"
        path.parent.mkdir(parents=True, exist_ok=True)
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
