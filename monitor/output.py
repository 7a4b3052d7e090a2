"""What a verb prints: answers on standard output, everything for people on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

# what a line of the log is about, given as `extra`; `event` is the id of the CloudEvent that consumers got
ABOUT = ("camera", "zone", "situation", "event")


def log_to_stderr(style: str) -> None:
    """Send the log to standard error, as text or one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("iotcore").setLevel(logging.WARNING)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        line |= {name: vars(record)[name] for name in ABOUT if name in vars(record)}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def print_line(text: str) -> None:
    """Print a line of the answer, in one piece."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_answers(answers: Sequence[dict[str, Any]], *, inputs: int) -> None:
    """Print the JSON of one object for one input, an array for several."""
    print_line(json.dumps(answers[0] if inputs == 1 else answers))


def say(text: str) -> None:
    """Print a line for the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def progress_of(name: str) -> Iterator[Callable[[float], None]]:
    """Show the video time reached on a terminal; nothing where standard error is a file."""
    if not sys.stderr.isatty():
        yield lambda seconds: None
        return
    try:
        yield lambda seconds: print(f"\r{name}: {seconds:6.1f} s", end="", file=sys.stderr, flush=True)
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
