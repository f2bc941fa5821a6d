"""Checks compose.yaml, the Kubernetes manifests and the dashboard: `python deploy/validate.py`.

Schemas come from PyPI (deploy/requirements.txt): kubernetes-validate for Kubernetes, cloudcoil-models-keda for KEDA,
kserve for KServe, and compose-spec for compose. test/deploy/manifests.test.ts checks the other kinds.
"""

import functools
import importlib
import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import kubernetes.client
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


@functools.cache
def kserve_models():
    """KServe's generated models, without the server that its package imports and the packages that the server needs."""
    package = types.ModuleType("kserve")
    package.__path__ = list(importlib.util.find_spec("kserve").submodule_search_locations)
    sys.modules["kserve"] = package
    return importlib.import_module("kserve.models")


KSERVE = {"ServingRuntime": "V1alpha1ServingRuntime", "InferenceService": "V1beta1InferenceService"}


def typed(models, kind, value, path):
    """Builds a value by the generated class of its kind, which knows fields and what is required."""
    if match := re.fullmatch(r"list\[(.+)\]", kind):
        return [typed(models, match[1], each, f"{path}[{i}]") for i, each in enumerate(value)]
    # Generated models of two packages refer to each other by name alone. Kinds without a class are plain values.
    kind = getattr(models, kind, None) or getattr(kubernetes.client, kind, None)
    if kind is None or not hasattr(kind, "attribute_map"):
        return value
    fields = {name: field for field, name in kind.attribute_map.items()}
    unknown = value.keys() - fields.keys()
    assert not unknown, f"{path} has no field {', '.join(sorted(unknown))}"
    values = {fields[name]: typed(models, kind.openapi_types[fields[name]], each, f"{path}.{name}") for name, each in value.items()}
    return kind(**values)


def resource_of(resource):
    kind = resource["kind"]
    if kind == "ScaledObject":
        return ScaledObject.model_validate(resource) and None
    if kind in KSERVE:
        return typed(kserve_models(), KSERVE[kind], resource, kind) and None
    try:
        kubernetes_validate.validate(resource, "1.37", strict=True)
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
        check(f"{file.name} {resource['kind']}", lambda: resource_of(resource))
check("grafana/sortie.json", lambda: dashboard(HERE / "grafana" / "sortie.json"))
sys.exit(1 if failures else 0)
