"""Notes: small files of JSON that a power cut leaves whole, and whose damage stops nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from adapters.errors import StoreError
from adapters.files import write_whole

log = logging.getLogger(__name__)

Note = TypeVar("Note", bound=BaseModel)


def read_note(file: Path, kind: type[Note]) -> Note:
    """Return a note; an empty one where there is none, or where it is damaged: then the file is set aside.

    Raises:
        StoreError: it can't be read.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return kind()
    except ValidationError as error:
        log.error("%s: damaged, and set aside (%s)", file, str(error).splitlines()[0])  # noqa: TRY400  # one line
        aside = file.with_suffix(".damaged")
    except OSError as error:
        raise StoreError(f"{file}: can't be read ({error.strerror})") from None
    try:
        file.replace(aside)
    except OSError as error:
        log.warning("%s: stays where it is (%s)", file, error.strerror)
    return kind()


def write_note(file: Path, note: BaseModel) -> None:
    """Write a note.

    Raises:
        StoreError: it can't be written; what it said stays.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, note.model_dump_json(indent=1).encode())
    except OSError as error:
        raise StoreError(f"{file}: can't be written ({error.strerror})") from None
