"""Small files that a power cut must leave whole: the former one, or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write a file whole or not at all; an older one is replaced.

    Args:
        path: the file; for a moment a draft lies beside it.
        content: of it.
        mode: who may read it, such as 0o644; what the process's umask says where None.

    Raises:
        OSError: it can't be written; what was there stays.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            draft.chmod(mode)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
