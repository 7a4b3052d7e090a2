"""A site's side of the fleet: which release it is to have, and the file of it, signed, whole and never an older one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater, UpdaterConfig

from adapters.errors import ConfigError, InputError
from monitor.fleet.releases import ASSIGNMENTS, NAME, target_of

MOST_METADATA_BYTES = 2_000_000
FOLDER = "fleet"  # in the state folder: what is known of the centre's metadata, and files that were fetched
Release = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]


class Assigned(BaseModel):
    """Which site is to have which release, and had before."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal[1]
    sites: dict[str, Release | None]
    former: dict[str, Release | None]


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

    def assigned(self, site: str) -> tuple[str | None, Path | None]:
        """Return the release that a site is to have, and its file; None and None where it is to have none.

        Raises:
            InputError: the centre can't be reached, or what it serves is not signed, altered, expired, or older than
                what was seen before.
        """
        for name in ("metadata", "targets"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        try:
            updater = Updater(
                str(self._folder / "metadata"),
                f"{self._url}/metadata/",
                str(self._folder / "targets"),
                f"{self._url}/targets/",
                config=UpdaterConfig(targets_max_length=MOST_METADATA_BYTES, app_user_agent="wildlane"),
                bootstrap=self._root,
            )
            updater.refresh()
            told = Assigned.model_validate_json(self._fetch(updater, ASSIGNMENTS).read_bytes())
            release = told.sites.get(site)
            return release, None if release is None else self._fetch(updater, target_of(release))
        except DownloadError as error:
            raise InputError(f"{self._url}: can't be reached ({error})") from None
        except RepositoryError as error:
            raise InputError(f"{self._url}: is not believed ({error or type(error).__name__})") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise InputError(f"{self._url}: {ASSIGNMENTS}: {first['msg']}") from None
        except OSError as error:
            raise InputError(f"{self._folder}: can't be used ({error})") from None

    def _fetch(self, updater: Updater, target: str) -> Path:
        found = updater.get_targetinfo(target)
        if found is None:
            raise InputError(f"{self._url}: names no {target}")
        kept = updater.find_cached_target(found)
        return Path(kept or updater.download_target(found))
