"""What is shipped to run it elsewhere is whole: images, compose file, meters' alerts and pages, fleet, certificates."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import promql_parser
import pytest
import yaml
from compose_spec import ComposeSpecification

from monitor.cameras.health import Health
from monitor.config import load_config
from monitor.metrics import Metrics
from tests.conftest import ROOT, wildlane

DEPLOY = ROOT / "deploy"
CONTAINERS, RULES = DEPLOY / "containers", DEPLOY / "prometheus/rules.yml"
KUBERNETES = "1.32"
PINNED = re.compile(r"(:v?\d+\.\d+(\.\d+)?[\w.-]*|:r\d+\.\d+\.\d+)$")


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("name", ["Dockerfile", "jetson.Dockerfile"])
def test_an_image_is_linted_pinned_and_runs_as_nobody_of_importance(name: str) -> None:
    file = CONTAINERS / name
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run(
        [hadolint, "--failure-threshold", "info", file], capture_output=True, text=True, check=False
    )
    text = file.read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages

    assert linted.returncode == 0, linted.stdout
    assert all(PINNED.search(base) for base in bases), bases
    assert len(stages) >= 2
    assert "\nUSER 10001\n" in text
    assert "\nHEALTHCHECK " in text
    copied = {source for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE) for source in line.split()}
    assert all((ROOT / source).exists() for source in copied - {"wheel[s]"}), copied


@pytest.mark.parametrize(
    ("name", "shown"),
    [("compose.yaml", ["8883:8883", "127.0.0.1:3000:3000"]), ("centre.yaml", ["8883:8883", "8443:8443", "8444:8444"])],
)
def test_a_compose_file_keeps_to_its_specification_and_every_service_is_locked_up(name: str, shown: list[str]) -> None:
    keeps_to_the_specification(name)
    services = read(CONTAINERS / name)["services"]
    for service_name, service in services.items():
        assert service["read_only"] is True, service_name
        assert service["cap_drop"] == ["ALL"], service_name
        assert service["security_opt"] == ["no-new-privileges:true"], service_name
        assert "build" in service or PINNED.search(service["image"]), service_name
    mounts = [volume.split(":")[0] for service in services.values() for volume in service["volumes"]]
    made = {"./certs", "./releases"}  # by the commands at the head of the file
    assert all((CONTAINERS / mount).exists() for mount in mounts if mount.startswith(".") and mount not in made)
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == shown  # TLS, or loopback; all else stays inside


def test_the_compose_file_of_a_graphics_card_keeps_to_its_specification() -> None:
    keeps_to_the_specification("compose.cuda.yaml")


def keeps_to_the_specification(name: str) -> None:
    known = {key: value for key, value in read(CONTAINERS / name).items() if not key.startswith("x-")}
    ComposeSpecification.model_validate(known, extra="forbid")


def meters() -> set[str]:
    """The names that a running site gives."""
    metrics = Metrics()
    metrics.site({"road": Health("ok", None, 0.0)}, 0, 0, gpu_lost=False)
    families = list(metrics.registry.collect())
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + suffix for family in families for suffix in suffixes[family.type]} | {"up"}


def read_by(expression: str) -> set[str]:
    """The names of the meters that an expression reads."""
    found: set[str] = set()

    def note(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)

    promql_parser.walk(promql_parser.parse(expression), note)
    return found


def expressions() -> dict[str, str]:
    """What the alerts and the page ask for, by their names."""
    rules = [rule for group in read(RULES)["groups"] for rule in group["rules"]]
    page = json.loads((DEPLOY / "grafana/dashboards/wildlane.json").read_text())
    shown = {panel["title"]: target["expr"] for panel in page["panels"] for target in panel["targets"]}
    return {rule["alert"]: rule["expr"] for rule in rules} | shown


@pytest.mark.parametrize(("name", "text"), expressions().items(), ids=expressions())
def test_alerts_and_pages_read_meters_that_there_are(name: str, text: str) -> None:
    asked_for = read_by(text.replace("$site", "km41"))

    assert asked_for
    assert asked_for <= meters()


def test_every_alert_names_a_remedy_that_the_runbook_has() -> None:
    headings = set(re.findall(r"^### (.+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE))
    rules = [rule for group in read(RULES)["groups"] for rule in group["rules"]]

    assert {rule["annotations"]["remedy"] for rule in rules} <= headings


@pytest.mark.parametrize("path", [CONTAINERS / "site.toml", DEPLOY / "kubernetes/sites/km41/config.toml"])
def test_a_shipped_site_is_a_valid_configuration_with_a_port_for_the_probes(path: Path) -> None:
    config = load_config(path)

    assert config.metrics.port == 9464
    assert config.broker.tls_crl_file


@pytest.mark.parametrize("path", [CONTAINERS / "centre.toml", DEPLOY / "kubernetes/centre/config.toml"])
def test_a_shipped_centre_is_a_valid_configuration_and_its_page_is_for_https(path: Path) -> None:
    config = load_config(path)

    assert (config.console.port, config.console.https) == (8090, True)
    assert config.broker.tls_crl_file


def test_the_fleets_objects_keep_to_kubernetes_own_schema() -> None:
    for room in ("base", "centre"):
        for name in read(DEPLOY / "kubernetes" / room / "kustomization.yaml")["resources"]:
            for shipped in yaml.safe_load_all((DEPLOY / "kubernetes" / room / name).read_text()):
                kubernetes_validate.validate(shipped, KUBERNETES, strict=True)
                if "template" in shipped["spec"]:
                    is_locked_up(shipped["spec"]["template"]["spec"])


def is_locked_up(pod: dict) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_clusters_pods_keep_to_kubernetes_own_schema_and_its_journal_has_two_nodes() -> None:
    folder = DEPLOY / "kubernetes/cluster"
    claim, ray = yaml.safe_load_all((folder / "raycluster.yaml").read_text())
    policy, config = read(folder / "networkpolicy.yaml"), load_config(folder / "config.toml")
    groups = {group["groupName"]: group for group in ray["spec"]["workerGroupSpecs"]}
    for shipped in (claim, policy):
        kubernetes_validate.validate(shipped, KUBERNETES, strict=True)
    for group in (ray["spec"]["headGroupSpec"], *groups.values()):  # KubeRay's own schema is in no package
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": group["template"]}
        kubernetes_validate.validate(template, KUBERNETES, strict=True)
        is_locked_up(group["template"]["spec"])

    assert (ray["apiVersion"], ray["kind"], set(groups)) == ("ray.io/v1", "RayCluster", {"journals", "gpus"})
    assert groups["journals"]["replicas"] == groups["journals"]["minReplicas"] == 2
    assert groups["journals"]["rayStartParams"]["labels"] == "journal=yes"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    generated = {secret["name"] for secret in kustomization["secretGenerator"]}
    named = set(re.findall(r"(?:secretName|secretKeyRef: {name): ([\w-]+)", (folder / "raycluster.yaml").read_text()))
    assert named == generated
    assert kustomization["generatorOptions"]["disableNameSuffixHash"], "a RayCluster's names are not rewritten"
    assert config.cluster.journal_nodes == {"journal": "yes"}


def test_a_fleets_site_is_probed_and_gets_what_its_folder_makes() -> None:
    pod = read(DEPLOY / "kubernetes/base/statefulset.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {"/livez"}
    site = read(DEPLOY / "kubernetes/sites/km41/kustomization.yaml")
    made = {generated["name"] for generated in site["secretGenerator"]}
    assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == made


def test_certificates_come_from_one_command_and_a_name_that_is_a_wildcard_does_not(tmp_path: Path) -> None:
    certify = DEPLOY / "mosquitto/certify.sh"
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    for arguments in (["broker", "127.0.0.1"], ["km41"], ["gone"], ["revoke", "gone"]):
        subprocess.run([certify, tmp_path, *arguments], check=True, capture_output=True)

    def verified(name: str) -> bool:
        check = ["openssl", "verify", "-crl_check", "-CAfile", "ca.crt", "-CRLfile", "ca.crl", f"{name}.crt"]
        return subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert [verified(name) for name in ("broker", "km41", "gone")] == [True, True, False]
    for name in ("#", "+", "km41/state", "KM41", ""):
        assert subprocess.run([certify, tmp_path, name], capture_output=True, check=False).returncode != 0
    assert (tmp_path / "km41.key").stat().st_mode & 0o077 == 0


def test_what_runs_there_is_listed_by_name_and_version(tmp_path: Path) -> None:
    out = tmp_path / "sbom.json"
    subprocess.run([sys.executable, ROOT / "tools/sbom.py", out], check=True, capture_output=True, cwd=ROOT)
    listed = json.loads(out.read_text())
    names = {component["name"] for component in listed["components"]}

    assert (listed["bomFormat"], listed["metadata"]["component"]["name"]) == ("CycloneDX", "wildlane")
    assert {"numpy", "opencv-python", "paho-mqtt", "starlette"} <= names
    assert not names & {"pytest", "torch", "ruff"}  # what only builds and tests it is not there
    models = [one for one in listed["components"] if one["type"] == "machine-learning-model"]
    assert {"encode.onnx", "match.onnx"} <= {model["name"] for model in models}
    assert wildlane("--version").stdout.strip() == f"wildlane {listed['metadata']['component']['version']}"
