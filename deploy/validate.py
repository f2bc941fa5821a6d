"""Checks compose.yaml, the Kubernetes manifests and the dashboard: `python deploy/validate.py`.

Schemas come from PyPI (deploy/requirements.txt): kubernetes-validate for Kubernetes, cloudcoil-models-keda for KEDA, and
compose-spec for compose. test/deploy/manifests.test.ts checks the other kinds.
"""

import json
import sys
from pathlib import Path

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from compose_spec import ComposeSpecification

HERE = Path(__file__).parent
failures = []


def check(what, validate):
    try:
        print(f"{what}: {validate() or 'valid'}")
    except Exception as error:
        failures.append(what)
        print(f"{what}: {error}")


def kubernetes(resource):
    if resource["kind"] == "ScaledObject":
        return ScaledObject.model_validate(resource) and None
    try:
        kubernetes_validate.validate(resource, "1.34", strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return "left to test/deploy/manifests.test.ts"


def dashboard(path):
    """Finds faults that Grafana does not import or show: duplicate ids, and panels that overlap or exceed 24 columns."""
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels), "a duplicate panel id"
    taken = set()
    for panel in panels:
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert grid["x"] + grid["w"] <= 24 and not cells & taken, f"panel {panel['title']} overlaps another panel, or exceeds 24 columns"
        taken |= cells
        assert panel["type"] == "row" or all(target["expr"] for target in panel["targets"]), panel["title"]


check("compose.yaml", lambda: ComposeSpecification.model_validate(yaml.safe_load((HERE / "compose.yaml").read_text())) and None)
for file in sorted((HERE / "kubernetes").glob("*.yaml")):
    for resource in yaml.safe_load_all(file.read_text()):
        check(f"{file.name} {resource['kind']}", lambda: kubernetes(resource))
check("grafana/sortie.json", lambda: dashboard(HERE / "grafana" / "sortie.json"))
sys.exit(1 if failures else 0)
