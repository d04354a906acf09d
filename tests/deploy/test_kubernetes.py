"""The Kubernetes manifests: valid, consistent with each other, and with the service's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reward_service.settings import Settings
from tests.deploy.files import ROOT, load_yaml

MANIFESTS = sorted(path for path in ROOT.glob("deploy/kubernetes/*.yaml") if path.name != "kustomization.yaml")
PRE_STOP_S = 10


def manifest(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = load_yaml(f"deploy/kubernetes/{name}.yaml")
    return loaded


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_fits_the_schema_of_kubernetes(path: Path) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed (extra: dev)"
    )

    validate.validate(manifest(path.stem), desired_version="1.31", strict=True)


def test_the_kustomization_lists_every_manifest_and_their_image() -> None:
    kustomization = manifest("kustomization")
    (container,) = manifest("deployment")["spec"]["template"]["spec"]["containers"]

    assert sorted(kustomization["resources"]) == [path.name for path in MANIFESTS]
    assert [image["name"] for image in kustomization["images"]] == [container["image"]]


def test_the_manifests_select_the_pods_of_the_deployment() -> None:
    deployment = manifest("deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]

    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert manifest("service")["spec"]["selector"] == labels
    assert manifest("disruption")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("network")["spec"]["podSelector"]["matchLabels"] == labels
    assert manifest("autoscaler")["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_kubernetes_does_not_set_variables_with_the_prefix_of_the_settings() -> None:
    """For the Service `glassbox` it would set `GLASSBOX_PORT`, which is also a setting."""
    assert manifest("service")["metadata"]["name"] == "glassbox"
    assert manifest("deployment")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_the_settings_of_the_pod_exist_and_leave_time_to_drain() -> None:
    pod = manifest("deployment")["spec"]["template"]["spec"]
    settings = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    names = {name.removeprefix("GLASSBOX_").lower() for name in settings}

    assert names <= set(Settings.model_fields)
    assert pod["terminationGracePeriodSeconds"] > PRE_STOP_S + int(settings["GLASSBOX_STOP_TIMEOUT_S"])
