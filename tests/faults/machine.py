"""A fresh Debian machine under a systemd of its own: a debootstrap root, booted in a container.

It shares the network with us, so that the real broker and camera of a test are at hand there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT, wait_until

KEPT = ROOT / "out/drills"  # what takes long and stays the same: the base system, the wheels of other people
INCLUDED = "systemd,systemd-sysv,udev,dbus,python3,python3-venv,ca-certificates,procps"
UNIT = "wildlane.service"

# Stops one thread of a process as nothing but a debugger can, and lets it be buried when the process is killed.
STOPPER = """
import ctypes, os, sys
thread, libc = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True)
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
if libc.ptrace(SEIZE, thread, None, None) or libc.ptrace(INTERRUPT, thread, None, None):
    sys.exit(os.strerror(ctypes.get_errno()))
print("stopped", flush=True)
try:
    while os.WIFSTOPPED(os.waitpid(thread, WALL)[1]):
        pass
except ChildProcessError:
    pass
"""


class Machine:
    """A Debian root in which Wildlane is installed as the README says."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._console = folder / "console.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0
        base = KEPT / "debian"
        if not (base / "etc/os-release").exists():
            shutil.rmtree(base, ignore_errors=True)
            _run("debootstrap", "--variant=minbase", f"--include={INCLUDED}", "bookworm", base)
        _run("cp", "-a", "--reflink=auto", base, self.root)

    def install(self) -> None:
        """Build Wildlane's wheel here, and install it there without a network."""
        wheels = KEPT / "wheels"
        _run(sys.executable, "-m", "pip", "wheel", "-q", "--find-links", wheels, "-w", wheels, ROOT)
        shutil.copy(ROOT / "tools/debian_packages.sh", self.root / "root/debian_packages.sh")
        self._chroot("/root/debian_packages.sh", "run")
        self._chroot("python3", "-m", "venv", "/opt/wildlane")
        pip = ("/opt/wildlane/bin/pip", "install", "-q", "--no-index", "--find-links", "/wheels", "wildlane")
        self._chroot(*pip, bind=wheels)

    def boot(self) -> None:
        command = [
            "systemd-nspawn",
            "-q",
            "-D",
            self.root,
            "-b",
            "--register=no",
            "--keep-unit",
            "-M",
            "wildlane-drill",
        ]
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        wait_until(self._find_leader, seconds=20, what="the machine's first process")
        wait_until(lambda: self.tell("systemctl", "is-system-running") in ("running", "degraded"), seconds=60,
                   what="the machine is up")  # fmt: skip

    def _find_leader(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._leader = int(children[0]) if children else 0
        return bool(self._leader)

    def tell(self, *command: str) -> str:
        """Run a command there, and return what it printed, whatever its exit status."""
        entered = ["nsenter", "--target", str(self._leader), "--all", "--", *command]
        return subprocess.run(entered, capture_output=True, text=True, check=False, timeout=120).stdout.strip()

    def unit(self, name: str) -> str:
        """Return a property of the service."""
        return self.tell("systemctl", "show", UNIT, f"--property={name}", "--value")

    def signal(self, name: str) -> None:
        """Send the service's main process a signal."""
        self.tell("systemctl", "kill", "--signal", name, "--kill-who=main", UNIT)

    def processes(self, part: str) -> set[str]:
        """Return the ids, there, of the processes whose command line holds `part`."""
        return set(self.tell("pgrep", "-f", part).split())

    def stop_thread(self, name: str) -> subprocess.Popen[str]:
        """Stop one thread of the service for good; the rest of it runs on."""
        there = self.unit("MainPID")
        outside = next(pid for pid in _pids() if _id_inside(pid) == there and self._is_inside(pid))
        spy = [Path(sys.executable).with_name("py-spy"), "dump", "--pid", outside]
        seen = subprocess.run(spy, capture_output=True, text=True, check=True).stdout
        found = re.search(rf'Thread (\d+) .*"{name}"', seen)
        assert found, seen
        threads = [path.name for path in Path(f"/proc/{outside}/task").iterdir()]
        thread = next(one for one in threads if _id_inside(one) == found[1])  # it is told as the machine numbers it
        stopper = subprocess.Popen(
            [sys.executable, "-c", STOPPER, thread], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert stopper.stdout is not None
        assert stopper.stdout.readline() == "stopped\n"
        return stopper

    def _is_inside(self, pid: str) -> bool:
        return Path(f"/proc/{pid}/ns/pid").readlink() == Path(f"/proc/{self._leader}/ns/pid").readlink()

    def log(self) -> str:
        """Return what the service has said so far."""
        return self.tell("journalctl", "-u", UNIT, "--no-pager", "-o", "cat")

    def close(self) -> None:
        if self._process is None:
            return
        if self._leader:
            self.tell("systemctl", "poweroff", "--force")
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        time.sleep(0.2)

    def _chroot(self, *command: str, bind: Path | None = None) -> None:
        bound = [f"--bind-ro={bind}:/wheels"] if bind else []
        _run("systemd-nspawn", "-q", "-D", self.root, "--register=no", "--keep-unit", *bound, *command)


def _pids() -> list[str]:
    return [path.name for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _id_inside(pid: str) -> str:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
    return next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]


def _run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
