"""The console's web server, on a thread of its own beside the main loop."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import cv2
import numpy as np
import uvicorn
from starlette.applications import Starlette

from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes, ClassSet
from adapters.classifier import Classifier
from adapters.errors import ConfigError
from adapters.frames import Crop
from adapters.golden import GoldenSet
from adapters.stills import decode_picture
from adapters.teaching import Lesson, Refutation, describe, forget, refute, remove, teach
from monitor import heap
from monitor.alerts.consumers import Order
from monitor.alerts.history import history
from monitor.alerts.schema import SiteHealth
from monitor.camera_file import add_camera, check_camera, draw, remove_camera
from monitor.cameras.trial import FirstPicture, first_picture
from monitor.config import Config
from monitor.console.accounts import Accounts
from monitor.console.app import make_app
from monitor.console.board import Board
from monitor.console.recordings import Recordings
from monitor.console.site import Site, Teach
from monitor.shadow import Shadow

log = logging.getLogger(__name__)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

STOP_S = 3.0


class ConsoleServer:
    """Serves the pages until it is stopped.

    Attributes:
        port: which TCP port; a free one where 0 was asked for.
    """

    def __init__(self, host: str, port: int, app: Starlette) -> None:
        """Listen, and begin to serve.

        Raises:
            ConfigError: the address can't be listened on.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen()  # who comes before the thread is up waits, and is not refused
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"[console] can't listen on {host}:{port} ({error.strerror})") from None
        self.port: int = self._socket.getsockname()[1]
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=10,
            limit_concurrency=100,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(settings)
        # signals are the daemon's
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="console", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(STOP_S)
        self._socket.close()


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What the pages have of the main loop.

    Attributes:
        order: hands it an order.
        snapshot: the picture of a situation.
        try_out: lets it run a version beside the live one; an empty name ends that.
        shadow: the version that runs beside the live one.
        class_set: in force now.
        config: as it is in force now, and where it came from.
        reload: lets it read the configuration again, soon.
        health: of the site, as it was told last.
        consumers: up to which event each consumer has everything.
    """

    order: Callable[[Order], None]
    snapshot: Callable[[str], bytes | None]
    try_out: Callable[[str], None]
    shadow: Callable[[], Shadow | None]
    class_set: Callable[[], ClassSet]
    config: Callable[[], Config]
    config_path: Path
    reload: Callable[[], None]
    health: Callable[[], SiteHealth | None]
    consumers: Callable[[], Mapping[str, int]]


class Console:
    """The pages of a running program, the accounts that may see them, and what they change.

    Attributes:
        board: what the main loop fills.
        url: where the pages are.
    """

    def __init__(self, config: Config, state_dir: Path, classifier: Classifier, hold: Hold) -> None:
        """Serve.

        Args:
            config: of the site.
            state_dir: where accounts and class sets are kept.
            classifier: of the main loop; it may be asked from another thread.
            hold: on the main loop.

        Raises:
            ConfigError: the port can't be had.
            StoreError: the accounts or the class sets can't be opened.
        """
        self._parts, self.board = ExitStack(), Board()
        try:
            accounts = Accounts(state_dir)
            self._parts.callback(accounts.close)
            kept = Kept(state_dir, self._parts)
            site = site_of(config.site, state_dir, self.board, classifier, kept, hold)
            port = config.console.port or 0
            server = ConsoleServer(config.console.host, port, make_app(site, accounts, https=config.console.https))
        except BaseException:
            self._parts.close()
            raise
        self._parts.callback(server.stop)
        self.url = f"http://{config.console.host}:{server.port}"
        log.info("console: %s", self.url)
        if accounts.token_path is not None:
            log.info("console: nobody has an account; the first one needs the token in %s", accounts.token_path)

    def stop(self) -> None:
        """Stop serving, and close what is kept."""
        self._parts.close()


class Kept:
    """What a site was taught and its checked frames, opened by the console for itself; its threads share each handle.

    Attributes:
        store, golden: to change, one at a time; a lesson takes long.
        shown, shown_golden: the same to look at, meanwhile.
        examined: the same to look at closely, which takes long too.
    """

    def __init__(self, state_dir: Path, parts: ExitStack) -> None:
        """Open it; it is closed with the other parts."""
        self.store, self.shown, self.examined = (
            parts.enter_context(closing(ClassSetStore(state_dir))) for _ in range(3)
        )
        self.golden, self.shown_golden = (parts.enter_context(closing(GoldenSet(state_dir))) for _ in range(2))


def site_of(name: str, state_dir: Path, board: Board, classifier: Classifier, kept: Kept, hold: Hold) -> Site:
    """Return a running program as the pages know it."""
    alone, looking = _OneAtATime(heap.give_back), _OneAtATime()
    store, golden, folder = kept.store, kept.golden, hold.config().console.recordings_dir
    return Site(
        name=name,
        board=board,
        known=looking(lambda: list(kept.shown.attributes().values())),
        names=lambda: _names(hold.class_set()),
        call=alone(store.call),
        teach=alone(_teach(store, golden, classifier)),
        refute=alone(_refute(store, golden, classifier)),
        refuted=looking(kept.shown.refuted),
        take_back=alone(store.take_back),
        recordings=Recordings(None if folder is None else hold.config_path.resolve().parent / folder),
        golden=kept.shown_golden,
        check=alone(lambda label, frames: golden.add(label, frames, classifier, taught=store.class_names())),
        uncheck=alone(golden.remove),
        report=_OneAtATime(heap.give_back)(Report(kept.examined, classifier)),
        crop=kept.shown.crop,
        remove=alone(lambda name, crop: remove(store, classifier, name, crop, checked_on=golden)),
        forget=alone(partial(forget, store, golden)),
        versions=looking(kept.shown.versions),
        rollback=alone(store.rollback),
        order=lambda verb, about, by: hold.order(Order(verb=verb, about=about, by=by)),
        history=lambda: history(state_dir),
        snapshot=hold.snapshot,
        try_out=hold.try_out,
        shadow=hold.shadow,
        config=hold.config,
        look=_look(hold),
        add_camera=alone(_then(lambda name, url: add_camera(hold.config_path, name, url), hold.reload)),
        remove_camera=alone(_then(lambda name: remove_camera(hold.config_path, name), hold.reload)),
        draw=alone(_then(partial(draw, hold.config_path), hold.reload)),
        health=hold.health,
        consumers=hold.consumers,
        heat=looking(_heat(kept.shown, classifier)),
    )


def _teach(store: ClassSetStore, golden: GoldenSet, classifier: Classifier) -> Teach:
    def learn(attributes: ClassAttributes, names: Sequence[str], crops: Sequence[Crop], *, live: bool) -> Lesson:
        return teach(store, classifier, attributes, names, crops, checked_on=golden, live=live)

    return learn


def _names(class_set: ClassSet) -> dict[str, str]:
    return {name: one.display_name for name, one in class_set.attributes.items() if one.display_name}


def _refute(
    store: ClassSetStore, golden: GoldenSet, classifier: Classifier
) -> Callable[[str, Sequence[str], Sequence[Crop]], Refutation]:
    def learn(name: str, names: Sequence[str], crops: Sequence[Crop]) -> Refutation:
        return refute(store, classifier, name, names, crops, checked_on=golden)

    return learn


def _look(hold: Hold) -> Callable[[str, str], FirstPicture]:
    def look(name: str, url: str) -> FirstPicture:
        check_camera(name, url, hold.config().cameras)
        return first_picture(name, url)

    return look


def _then(change: Callable[Parameters, None], reload: Callable[[], None]) -> Callable[Parameters, None]:
    def changed(*arguments: Parameters.args, **named: Parameters.kwargs) -> None:
        change(*arguments, **named)
        reload()

    return changed


class Report:
    """What is kept of each class, and how good it is. Worked out once for each version: that takes long.

    The encoder stays the same while the program runs.
    """

    def __init__(self, store: ClassSetStore, classifier: Classifier) -> None:
        self._store, self._classifier = store, classifier
        self._of: int | None = None
        self._told: list[dict[str, Any]] = []

    def __call__(self) -> list[dict[str, Any]]:
        """Return it, of the version that is active now."""
        while (version := self._store.active_version()) != self._of:
            try:
                self._told = describe(self._store, self._classifier)
            except KeyError:
                if version == self._store.active_version():
                    raise
                continue  # a class was forgotten while it was being read
            self._of = version
        return self._told


class _OneAtATime:
    """Two operators at once: the second builds on what the first has done; after each, what follows is done."""

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self._lock, self._after = threading.Lock(), after

    def __call__(self, act: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        def acted(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
            try:
                with self._lock:
                    return act(*arguments, **named)
            finally:
                self._after()

        return acted


def _heat(store: ClassSetStore, classifier: Classifier) -> Callable[[bytes, str], bytes | None]:
    def laid_over(jpeg: bytes, name: str) -> bytes | None:
        if name not in store.class_names():
            return None
        crop = decode_picture(jpeg, "snapshot")
        heat = classifier.heat(classifier.encode([crop]), store.load(classifier, [name]).memory)[name]
        heat = (heat - heat.min()) / max(float(np.ptp(heat)), 1e-6)  # where more than elsewhere: all of it is faint
        grey = np.asarray(cv2.resize(heat, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255, np.uint8)
        _, coded = cv2.imencode(".png", cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO))
        return bytes(coded)

    return laid_over
