"""What every deployment keeps to, as functions from its objects to what is wrong with them."""

from collections.abc import Callable, Iterator
from typing import Any

Object = dict[str, Any]
Policy = Callable[[list[Object]], Iterator[str]]

WORKLOADS = ("Deployment", "StatefulSet", "Job")
GIVEN_SECRETS = {"recollect-secrets", "recollect-tls", "recollect-postgres"}
"""Made by whoever deploys, before it."""


def _of(objects: list[Object], *kinds: str) -> Iterator[Object]:
    return (found for found in objects if found["kind"] in kinds)


def _name(found: Object) -> str:
    return f"{found['kind']} {found['metadata']['name']}"


def _containers(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """(workload, pod spec, container) of each container."""
    for workload in _of(objects, *WORKLOADS):
        pod = workload["spec"]["template"]["spec"]
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            yield f"{_name(workload)} {container['name']}", pod, container


def _chosen(labels: Object, selector: Object) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def _pods(objects: list[Object]) -> list[Object]:
    """The labels of each workload's pods."""
    return [w["spec"]["template"]["metadata"]["labels"] for w in _of(objects, *WORKLOADS)]


def unprivileged(objects: list[Object]) -> Iterator[str]:
    """Containers run as a user, cannot become root, and write to volumes only."""
    for name, pod, container in _containers(objects):
        context = pod.get("securityContext", {}) | container.get("securityContext", {})
        wanted = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for key, value in wanted.items():
            if context.get(key) != value:
                yield f"{name}: {key} is not {value}"
        if not context.get("runAsUser"):
            yield f"{name}: runAsUser is root or not set"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: the service account's token is mounted"


def bounded(objects: list[Object]) -> Iterator[str]:
    """Containers ask for processor and memory, and have limits."""
    for name, _, container in _containers(objects):
        for bound in ("requests", "limits"):
            for resource in ("cpu", "memory"):
                if resource not in container.get("resources", {}).get(bound, {}):
                    yield f"{name}: no {bound} of {resource}"


def probed(objects: list[Object]) -> Iterator[str]:
    """What runs for long has all three probes; a stop may take longer than draining."""
    for workload in _of(objects, "Deployment", "StatefulSet"):
        pod = workload["spec"]["template"]["spec"]
        for container in pod["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe not in container:
                    yield f"{_name(workload)} {container['name']}: no {probe}"
            ports = {port["containerPort"] for port in container.get("ports", ())}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                port = container.get(probe, {}).get("grpc", {}).get("port")
                if port is not None and port not in ports:
                    yield f"{_name(workload)} {container['name']}: {probe} of another port"


def pinned(objects: list[Object]) -> Iterator[str]:
    """Images have a version."""
    for name, _, container in _containers(objects):
        _, _, tag = container["image"].partition(":")
        if tag in ("", "latest"):
            yield f"{name}: {container['image']} has no version"


def secret(objects: list[Object]) -> Iterator[str]:
    """Secrets come as files, and only those that exist or are documented are used."""
    made = {s["metadata"]["name"] for s in _of(objects, "Secret")} | GIVEN_SECRETS
    for name, pod, container in _containers(objects):
        for variable in container.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield f"{name}: {variable['name']} is a secret in the environment"
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                yield f"{name}: secrets in the environment"
        for volume in pod.get("volumes", ()):
            used = volume.get("secret", {}).get("secretName")
            if used is not None and used not in made:
                yield f"{name}: the secret {used} is made by nobody"
    for settings in _of(objects, "ConfigMap"):
        for key, value in settings.get("data", {}).items():
            if "@" in value or (key.endswith(("_KEY", "PASSWORD")) and not value.startswith("/")):
                yield f"{_name(settings)}: {key} looks like a secret"


def aimed(objects: list[Object]) -> Iterator[str]:
    """Services, budgets and policies choose pods that exist; scalers name a workload."""
    pods = _pods(objects)
    for found in _of(objects, "Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = found["spec"]
        if found["kind"] == "Service":
            selector = spec["selector"]
        elif found["kind"] == "PodDisruptionBudget":
            selector = spec["selector"]["matchLabels"]
        else:
            selector = spec["podSelector"]["matchLabels"]
        if not any(_chosen(labels, selector) for labels in pods):
            yield f"{_name(found)}: chooses no pod"
    names = {_name(workload) for workload in _of(objects, *WORKLOADS)}
    for scaler in _of(objects, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if f"{target['kind']} {target['name']}" not in names:
            yield f"{_name(scaler)}: scales nothing"


def isolated(objects: list[Object]) -> Iterator[str]:
    """Each pod is the subject of a policy for what comes in and what goes out."""
    for workload in _of(objects, *WORKLOADS):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        for direction in ("Ingress", "Egress"):
            if not any(
                direction in policy["spec"]["policyTypes"]
                and _chosen(labels, policy["spec"]["podSelector"]["matchLabels"])
                for policy in _of(objects, "NetworkPolicy")
            ):
                yield f"{_name(workload)}: no policy for {direction}"


def lasting(objects: list[Object]) -> Iterator[str]:
    """Stores keep their data on volumes of their own; no state is evicted or only in memory."""
    for store in _of(objects, "StatefulSet"):
        name, spec = _name(store), store["spec"]
        claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
        mounted = {
            mount["name"]
            for container in spec["template"]["spec"]["containers"]
            for mount in container["volumeMounts"]
        }
        if not claims or not claims <= mounted:
            yield f"{name}: no volume of its own"
        args = spec["template"]["spec"]["containers"][0].get("args", [])
        if name.endswith("valkey-state") and not {"noeviction", "--appendonly"} <= set(args):
            yield f"{name}: may lose state"


POLICIES: tuple[Policy, ...] = (
    unprivileged, bounded, probed, pinned, secret, aimed, isolated, lasting,
)  # fmt: skip
