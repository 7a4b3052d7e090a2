"""Clusters of tests let nobody in who does not know their token, as docs/scale.md says."""

from __future__ import annotations

import os
import secrets

# Before Ray is imported, which reads it then: for nodes, and for whoever talks with them.
os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
