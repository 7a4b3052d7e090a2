"""Write docs/contracts/: a JSON Schema for each payload and the AsyncAPI 3 document of all topics.

python tools/make_contracts.py
"""

from __future__ import annotations

import json
from pathlib import Path

from monitor.alerts.contracts import TOPICS, asyncapi, json_schema

CONTRACTS = Path(__file__).parents[1] / "docs/contracts"


def documents() -> dict[str, str]:
    """Return file name -> content."""
    found = {f"{name}.schema.json": json_schema(topic.model) for name, topic in TOPICS.items()}
    return {
        name: json.dumps(content, indent=1) + "\n" for name, content in (found | {"asyncapi.json": asyncapi()}).items()
    }


def main() -> None:
    CONTRACTS.mkdir(parents=True, exist_ok=True)
    for name, content in documents().items():
        (CONTRACTS / name).write_text(content)
        print(name)


if __name__ == "__main__":
    main()
