"""A site's side of the fleet: which releases it is to have, and their files, signed, whole and never an older state."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tuf.api.exceptions import DownloadError, LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from adapters.errors import ConfigError, InputError
from adapters.runtime import MANIFEST
from adapters.signature import SIGNATURE
from monitor.fleet.chosen import Release
from monitor.fleet.names import FOLDER, Kind
from monitor.fleet.releases import ASSIGNMENTS, class_target, model_target

MOST_METADATA_BYTES = 2_000_000


class AssignedKind(BaseModel):
    """Which site is to have which release of a kind, and had before."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sites: dict[str, Release | None]
    former: dict[str, Release | None]


class Assigned(BaseModel):
    """What the centre has assigned."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal[1]
    classes: AssignedKind
    model: AssignedKind


class Manifest(BaseModel):
    """What is needed of a model's manifest here: which files there are; the model's loader reads it in earnest."""

    files: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")], object]


class Updates:
    """What a centre offers a site."""

    def __init__(self, url: str, root_file: Path, state_dir: Path) -> None:
        """Look at nothing yet.

        Args:
            url: where the centre serves its folder of releases.
            root_file: `1.root.json` of that folder: whom this site trusts.
            state_dir: keeps what was seen, so that nothing older is believed afterwards.

        Raises:
            ConfigError: the root file can't be read.
        """
        self._url, self._folder = url.rstrip("/"), state_dir / FOLDER
        try:
            self._root = root_file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{root_file}: can't be read ({error.strerror})") from None

    def offered(self, site: str) -> Offered:
        """Return what a site is to have.

        Raises:
            InputError: the centre can't be reached, or what it serves is not signed, altered, expired, or older than
                what was seen before.
        """
        with _told(self._url, self._folder):
            for name in ("metadata", "targets"):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
            updater = Updater(
                str(self._folder / "metadata"),
                f"{self._url}/metadata/",
                str(self._folder / "targets"),
                f"{self._url}/targets/",
                config=UpdaterConfig(targets_max_length=MOST_METADATA_BYTES, app_user_agent="wildlane"),
                bootstrap=self._root,
            )
            updater.refresh()
        return Offered(updater, site, self._url, self._folder)


class Offered:
    """What a centre has assigned to one site; files are fetched when they are asked for.

    Attributes:
        releases: of each kind; None where the site is to have none.
    """

    def __init__(self, updater: Updater, site: str, url: str, folder: Path) -> None:
        """Read the assignments; `Updates.offered` makes one."""
        self._updater, self._url, self._folder = updater, url, folder
        with _told(url, folder):
            told = Assigned.model_validate_json(self._fetch(ASSIGNMENTS).read_bytes())
        self.releases: Mapping[Kind, str | None] = {
            "classes": told.classes.sites.get(site),
            "model": told.model.sites.get(site),
        }

    def classes(self, release: str) -> Path:
        """Return the class-set file of a release.

        Raises:
            InputError: see `Updates.offered`.
        """
        with _told(self._url, self._folder):
            return self._fetch(class_target(release))

    def model(self, release: str, folder: Path, *, like: Path) -> None:
        """Fetch the files of a release's model into a folder; a fetch that was cut off goes on with the next file.

        Args:
            release: its name.
            folder: to hold them.
            like: a model's folder: what is the same there need not come over the network.

        Raises:
            InputError: see `Updates.offered`.
        """
        with _told(self._url, self._folder):
            folder.mkdir(parents=True, exist_ok=True)
            manifest = self._fetch(model_target(release, MANIFEST), folder / MANIFEST)
            for name in Manifest.model_validate_json(manifest.read_bytes()).files:
                self._fetch(model_target(release, name), folder / name, like=like / name)
            if self._updater.get_targetinfo(signature := model_target(release, SIGNATURE)) is not None:
                self._fetch(signature, folder / SIGNATURE)

    def _fetch(self, target: str, path: Path | None = None, like: Path | None = None) -> Path:
        found = self._updater.get_targetinfo(target)
        if found is None:
            raise InputError(f"{self._url}: names no {target}")
        where = None if path is None else str(path)
        if kept := self._updater.find_cached_target(found, where):
            return Path(kept)
        if path is not None and like is not None and _is(like, found):
            return Path(shutil.copy(like, path))
        return Path(self._updater.download_target(found, where))


def _is(path: Path, described: TargetFile) -> bool:
    """Tell whether a file is the one that is described."""
    try:
        described.verify_length_and_hashes(path.read_bytes())
    except (OSError, LengthOrHashMismatchError):
        return False
    return True


@contextmanager
def _told(url: str, folder: Path) -> Iterator[None]:
    """Say what goes wrong with a centre in one line.

    Raises:
        InputError: something did.
    """
    try:
        yield
    except DownloadError as error:
        raise InputError(f"{url}: can't be reached ({error.__cause__ or error})") from None
    except RepositoryError as error:
        raise InputError(f"{url}: is not believed ({error or type(error).__name__})") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InputError(f"{url}: {error.title}: {first['msg']}") from None
    except OSError as error:
        raise InputError(f"{folder}: can't be used ({error})") from None
