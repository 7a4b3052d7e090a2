"""Fixtures of several tests of the monitor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.monitor.centre import Centre


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with closing(Centre(tmp_path)) as made:
        yield made
