"""The Kubernetes manifests: valid, consistent with each other, and with the service's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reward_service.process.supervisor import (
    HEARTBEAT_TIMEOUT_S,
    KILL_GRACE_S,
    MIN_RESTART_INTERVAL_S,
    START_TIMEOUT_S,
)
from reward_service.settings import Settings
from tests.deploy.files import ROOT, in_bytes, load_yaml, peak_bytes

MANIFESTS = sorted(path for path in ROOT.glob("deploy/kubernetes/*.yaml") if path.name != "kustomization.yaml")
PRE_STOP_S = 10
LOADING_S = 120
"""Seconds that the models of the image may take to load."""


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
    assert (
        pod["terminationGracePeriodSeconds"] > PRE_STOP_S + int(settings["GLASSBOX_STOP_TIMEOUT_S"]) + KILL_GRACE_S
    )


def test_a_scraper_without_a_key_reaches_the_metrics_and_nothing_else() -> None:
    template = manifest("deployment")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    settings = {entry["name"]: entry["value"] for entry in container["env"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    rules = manifest("network")["spec"]["ingress"]
    open_to_prometheus = [
        port["port"] for rule in rules if "prometheus" in str(rule["from"]) for port in rule["ports"]
    ]

    assert settings["GLASSBOX_METRICS_PORT"] == str(ports["metrics"])
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])
    assert open_to_prometheus == [ports["metrics"]]


def test_the_supervisor_recovers_a_worker_before_a_probe_restarts_the_container() -> None:
    (container,) = manifest("deployment")["spec"]["template"]["spec"]["containers"]
    patience_s = {
        name: container[name]["periodSeconds"] * container[name]["failureThreshold"]
        for name in ("startupProbe", "livenessProbe")
    }
    hang_found_s = HEARTBEAT_TIMEOUT_S + Settings.model_fields["stop_timeout_s"].default + 1
    next_worker_s = MIN_RESTART_INTERVAL_S + START_TIMEOUT_S

    assert patience_s["livenessProbe"] > hang_found_s + next_worker_s
    assert patience_s["startupProbe"] > START_TIMEOUT_S + next_worker_s + LOADING_S
    assert container["readinessProbe"]["timeoutSeconds"] > Settings.model_fields["ready_timeout_s"].default


def test_the_memory_of_a_pod_fits_the_peak_of_the_default_settings() -> None:
    pod = manifest("deployment")["spec"]["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    scratch = next(volume for volume in pod["volumes"] if volume["name"] == "scratch")
    peak = peak_bytes(in_bytes(scratch["emptyDir"]["sizeLimit"]))

    assert in_bytes(resources["requests"]["memory"]) > peak
    assert in_bytes(resources["limits"]["memory"]) > peak
