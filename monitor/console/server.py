"""The console's web server, on a thread of its own beside the main loop."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from adapters.errors import ConfigError
from monitor.config import ConsoleConfig
from monitor.console.accounts import Accounts
from monitor.console.app import Site, make_app

log = logging.getLogger(__name__)

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


class Console:
    """The pages of a running program, and the accounts that may see them."""

    def __init__(self, config: ConsoleConfig, port: int, state_dir: Path, site: Site) -> None:
        """Serve.

        Raises:
            ConfigError: the port can't be had.
            StoreError: the accounts can't be opened.
        """
        self._accounts = Accounts(state_dir)
        try:
            self._server = ConsoleServer(config.host, port, make_app(site, self._accounts, https=config.https))
        except ConfigError:
            self._accounts.close()
            raise
        self.url = f"http://{config.host}:{self._server.port}"
        log.info("console: %s", self.url)
        if self._accounts.token_path is not None:
            log.info("console: nobody has an account; the first one needs the token in %s", self._accounts.token_path)

    def stop(self) -> None:
        """Stop serving, and close the accounts."""
        self._server.stop()
        self._accounts.close()
