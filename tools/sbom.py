"""Lists what a running Wildlane consists of, as CycloneDX JSON: packages it needs, by version, and its model files.

python tools/sbom.py out/sbom.json
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement

from adapters.runtime import MODELS, SHIPPED, file_hash
from monitor import VERSION

ROOT = Path(__file__).parents[1]


def needed() -> dict[str, Distribution]:
    """Return the packages that the daemon needs, and those that they need, as they are installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, Distribution] = {}
    waiting = list(project["dependencies"])
    while waiting:
        wanted = Requirement(waiting.pop())
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        package = distribution(wanted.name)
        if package.metadata["Name"] not in found:
            found[package.metadata["Name"]] = package
            waiting += package.requires or []
    return found


def component(name: str, package: Distribution) -> Component:
    said = package.metadata.get("License-Expression") or package.metadata.get("License") or ""
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=package.version,
        purl=PackageURL("pypi", name=name.lower(), version=package.version),
        licenses=[DisjunctiveLicense(name=said.splitlines()[0][:100])] if said.strip() else [],
    )


def model(name: str) -> Component:
    digest = HashType(alg=HashAlgorithm.SHA_256, content=file_hash(MODELS, name).removeprefix("sha256:"))
    return Component(type=ComponentType.MACHINE_LEARNING_MODEL, name=name, version=VERSION, hashes=[digest])


def main() -> None:
    bom = Bom()
    bom.metadata.component = Component(type=ComponentType.APPLICATION, name="wildlane", version=VERSION)
    bom.components.update(component(*entry) for entry in needed().items())
    bom.components.update(map(model, SHIPPED))
    bom.register_dependency(bom.metadata.component, bom.components)
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_to_file(str(out), allow_overwrite=True, indent=1)
    print(f"{out}: {len(bom.components)} components")


if __name__ == "__main__":
    main()
