"""What consumers say to the site: receipts, and requests for a range of events again."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pydantic import ValidationError

from adapters.errors import ConfigError
from monitor.alerts.journal import Journal
from monitor.alerts.schema import Acknowledgement, ReplayCommand, Reply

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A message of a consumer; `topic` is below the site's root."""

    topic: str
    payload: bytes
    reply_to: str
    correlation: bytes


class ConsumerDesk:
    """Hears consumers. Whatever they send, it is parsed strictly, and nothing of it stops the publisher."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def hear(self, message: Heard) -> str | None:
        """Deal with a message and return the answer to a command, None where it was none."""
        kind, _, name = message.topic.partition("/")
        if kind == "ack":
            self._take_receipt(name, message.payload)
            return None
        accepted, detail = self._replay(message.payload) if name == "replay" else (False, f"no command '{name}'")
        log.info("command %s: %s", name, detail)
        return Reply(command=name, accepted=accepted, detail=detail).model_dump_json(by_alias=True)

    def _take_receipt(self, consumer: str, payload: bytes) -> None:
        try:
            receipt = Acknowledgement.model_validate_json(payload)
        except ValidationError as error:
            log.warning("receipt of consumer %s: not understood (%s)", consumer, _first(error))
            return
        if receipt.journal == self._journal.id:  # one of an older journal says nothing of this one
            self._journal.consumer_has(consumer, receipt.upto)

    def _replay(self, payload: bytes) -> tuple[bool, str]:
        try:
            asked = ReplayCommand.model_validate_json(payload)
        except ValidationError as error:
            return False, f"not understood: {_first(error)}"
        if asked.journal != self._journal.id:
            return False, f"journal {asked.journal} is not here, this is {self._journal.id}"
        try:
            count = self._journal.replay(asked.first, asked.last)
        except ConfigError as error:
            return False, str(error)
        return True, f"{count} events of {asked.first} to {asked.last} go out again"


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
