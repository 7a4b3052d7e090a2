"""Puts Wildlane into the hands of systemd, asks how it does there, and takes it out again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from adapters.errors import ConfigError, InputError
from monitor.config import load_config, shipped

UNIT = "wildlane.service"
UNITS, SETTINGS = "etc/systemd/system", "etc/wildlane"
SHIPPED_PROGRAM = "/opt/wildlane/bin/wildlane"
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  # the unit's sandbox has none of these
SYSTEMCTL_S = 120.0  # a start loads the model


@dataclass(frozen=True, kw_only=True)
class ServiceState:
    """What systemd says of the unit; `text` are our own words."""

    active: str
    sub: str
    result: str
    restarts: int
    text: str


def install(config: Path | None, root: Path) -> list[str]:
    """Put the unit in place, the configuration where there is none, enable and start; return what was done.

    Args:
        config: to be copied to `/etc/wildlane/config.toml` where none is there yet.
        root: `/`, or where an image is mounted: there nothing is started.

    Raises:
        ConfigError: the configuration is wrong, or the program lies where the sandbox hides it.
        InputError: a file can't be written, or systemd refuses.
    """
    program = Path(sys.executable).with_name("wildlane")
    if root == Path("/") and any(program.is_relative_to(folder) for folder in HIDDEN):
        raise ConfigError(f"{program}: the service can't see this folder; install Wildlane below /opt")
    unit, settings = root / UNITS / UNIT, root / SETTINGS / "config.toml"
    did = []
    try:
        did += _write_settings(config, settings)
        text = shipped(f"deploy/systemd/{UNIT}").read_text()
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.write_text(text if root != Path("/") else text.replace(SHIPPED_PROGRAM, str(program)))
    except OSError as error:
        raise InputError(f"{error.filename}: can't be written ({error.strerror}); are you root?") from None
    did.append(f"wrote {unit}")
    if root != Path("/"):
        _systemctl("--root", str(root), "enable", UNIT)
        return [*did, "enabled; it starts with the image"]
    _systemctl("daemon-reload")
    _systemctl("enable", UNIT)
    _systemctl("restart", UNIT)
    return [*did, "enabled and started"]


def _write_settings(config: Path | None, settings: Path) -> list[str]:
    """Make the folder of the configuration and of the secrets, which root alone reads."""
    credentials = settings.parent / "credentials"
    credentials.mkdir(parents=True, exist_ok=True)
    credentials.chmod(0o700)
    if settings.exists():
        load_config(settings)
        return [f"kept {settings}"]
    if config is None:
        raise ConfigError(f"{settings} is missing; give the site's configuration with --config")
    load_config(config)
    shutil.copyfile(config, settings)
    settings.chmod(0o600)  # sources of cameras may hold passwords; the unit hands it to the service
    return [f"wrote {settings}"]


def status() -> ServiceState:
    """Return what systemd says of the unit.

    Raises:
        InputError: there is no systemd, or no such unit.
    """
    keys = "LoadState,ActiveState,SubState,Result,NRestarts,StatusText"
    lines = _systemctl("show", UNIT, f"--property={keys}").splitlines()
    said = dict(line.split("=", 1) for line in lines)
    if said["LoadState"] != "loaded":
        raise InputError(f"{UNIT} is not installed; `wildlane service install` does it")
    return ServiceState(
        active=said["ActiveState"],
        sub=said["SubState"],
        result=said["Result"],
        restarts=int(said["NRestarts"]),
        text=said["StatusText"],
    )


def uninstall(root: Path) -> list[str]:
    """Stop the service and take its unit away; return what was done and what stays.

    Raises:
        InputError: it is not installed, or systemd refuses.
    """
    unit = root / UNITS / UNIT
    if not unit.exists():
        raise InputError(f"{unit} is not there: nothing to uninstall")
    if root == Path("/"):
        _systemctl("disable", "--now", UNIT)
    else:
        _systemctl("--root", str(root), "disable", UNIT)
    try:
        unit.unlink()
    except OSError as error:
        raise InputError(f"{unit}: can't be removed ({error.strerror}); are you root?") from None
    if root == Path("/"):
        _systemctl("daemon-reload")
    kept = f"/{SETTINGS} and /var/lib/wildlane stay; `wildlane backup` keeps them elsewhere"
    return [f"removed {unit}", kept]


def _systemctl(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # our own words
            ["systemctl", *arguments],  # noqa: S607  # where it lies differs between distributions
            capture_output=True,
            text=True,
            timeout=SYSTEMCTL_S,
            check=False,
        )
    except FileNotFoundError:
        raise InputError("systemctl is missing: this machine has no systemd") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"systemctl {arguments[0]}: no answer within {SYSTEMCTL_S:.0f} s") from None
    if done.returncode != 0:
        raise InputError(f"systemctl {' '.join(arguments)}: {done.stderr.strip().replace(chr(10), ' ')}")
    return done.stdout
