"""What releases are called, and where a site keeps what it knows of them."""

from __future__ import annotations

import re
from typing import Literal

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
Kind = Literal["classes", "model"]  # what a release brings; a site may have one of each
FOLDER = "fleet"  # in the state folder
