"""What consumers say to the site: receipts, requests for events again, and a person's word on a situation."""

from __future__ import annotations

import logging
import queue
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from adapters.errors import ConfigError, WildlaneError
from monitor.alerts.journal import Journal
from monitor.alerts.schema import (
    Acknowledgement,
    JudgementCommand,
    PingCommand,
    ReplayCommand,
    Reply,
    TestAlertCommand,
    UpdateCommand,
)

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # of a consumer or a command
MOST_CONSUMERS = 100
MOST_ORDERS = 20  # that the daemon has not carried out yet
Verb = Literal["confirm", "dismiss", "test-alert"]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A message of a consumer; `topic` is below the site's root."""

    topic: str
    payload: bytes
    reply_to: str
    correlation: bytes


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the daemon is asked to do: about a situation, or for `test-alert` a zone; and who asks."""

    verb: Verb
    about: str
    by: str


class ConsumerDesk:
    """Hears consumers. Whatever they send, it is parsed strictly, and nothing of it stops the publisher.

    Attributes:
        zones: in which they may ask for a test.
        look_for_release: called where a centre says that there is one; None where the site follows no centre.
    """

    def __init__(self, journal: Journal, zones: frozenset[str]) -> None:
        self._journal, self.zones = journal, zones
        self.look_for_release: Callable[[], None] | None = None
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._commands: dict[str, Callable[[bytes], str]] = {
            "ping": self._ping,
            "update": self._update,
            "replay": self._replay,
            "confirm": lambda payload: self._judge("confirm", payload),
            "dismiss": lambda payload: self._judge("dismiss", payload),
            "test-alert": self._test_alert,
        }

    def hear(self, message: Heard) -> str | None:
        """Deal with a message and return the answer to a command, None where it was none."""
        kind, _, name = message.topic.partition("/")
        if NAME.fullmatch(name) is None:
            log.warning("a message on a topic that no consumer may have")
            return None
        if kind == "ack":
            self._take_receipt(name, message.payload)
            return None
        accepted = False
        try:
            if name not in self._commands:
                raise ConfigError(f"no command '{name}'")
            detail = self._commands[name](message.payload)
            accepted = True
        except ValidationError as error:
            detail = f"not understood: {_first(error)}"
        except WildlaneError as error:
            detail = str(error)
        log.info("command %s: %s", name, _one_line(detail))
        return Reply(command=name, accepted=accepted, detail=detail).model_dump_json(by_alias=True)

    def orders(self) -> Iterator[Order]:
        """Yield what the daemon has been asked to do since the last call; safe from any thread."""
        while not self._orders.empty():
            yield self._orders.get()

    def _take_receipt(self, consumer: str, payload: bytes) -> None:
        try:
            receipt = Acknowledgement.model_validate_json(payload)
        except ValidationError as error:
            log.warning("receipt of consumer %s: not understood (%s)", consumer, _one_line(_first(error)))
            return
        if receipt.journal != self._journal.id:  # one of an older journal says nothing of this one
            return
        try:
            known = self._journal.consumers()
            if consumer in known or len(known) < MOST_CONSUMERS:
                self._journal.consumer_has(consumer, receipt.upto)
        except WildlaneError as error:
            log.warning("receipt of consumer %s: not kept (%s)", consumer, error)

    def _ping(self, payload: bytes) -> str:
        PingCommand.model_validate_json(payload or b"{}")
        return f"journal {self._journal.id}, newest event {self._journal.newest()}"

    def _update(self, payload: bytes) -> str:
        UpdateCommand.model_validate_json(payload or b"{}")
        if self.look_for_release is None:
            raise ConfigError("this site follows no centre: [fleet] has no url")
        self.look_for_release()
        return "handed on: look for a release"

    def _replay(self, payload: bytes) -> str:
        asked = ReplayCommand.model_validate_json(payload)
        if asked.journal != self._journal.id:
            raise ConfigError(f"journal {asked.journal} is not here, this is {self._journal.id}")
        count = self._journal.replay(asked.first, asked.last)
        return f"{count} events of {asked.first} to {asked.last} go out again"

    def _judge(self, verb: Literal["confirm", "dismiss"], payload: bytes) -> str:
        word = JudgementCommand.model_validate_json(payload)
        if not self._journal.is_open(word.situation):
            raise ConfigError(f"situation {word.situation} is not open")
        self._put(Order(verb=verb, about=word.situation, by=word.by))
        return f"handed on: {verb} {word.situation}"

    def _put(self, order: Order) -> None:
        if self._orders.qsize() >= MOST_ORDERS:
            raise ConfigError("too many commands at once; try again in a moment")
        self._orders.put(order)

    def _test_alert(self, payload: bytes) -> str:
        asked = TestAlertCommand.model_validate_json(payload)
        if asked.zone not in self.zones:
            raise ConfigError(f"no zone '{asked.zone}'; there are: {', '.join(sorted(self.zones)) or 'none'}")
        self._put(Order(verb="test-alert", about=asked.zone, by=asked.by))
        return f"handed on: a test in zone {asked.zone}"


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\r", " ")


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
