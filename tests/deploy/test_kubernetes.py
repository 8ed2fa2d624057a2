"""The Kubernetes deployments: valid by schema, within policy, and settings that exist."""

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.deploy.policies import POLICIES, WORKLOADS, Object
from tests.harness import ROOT

from recollect_server.admin.limits import AllLimits
from recollect_server.cli import COMMANDS
from recollect_server.config import VARIABLES

VERSION = "1.37"
OVERLAYS = ("dev", "production", "external")
SCHEMAS = (
    Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{VERSION}.0-local-strict"
)


def _tool(name: str) -> str:
    found = shutil.which(name, path=f"{ROOT / '.tools/bin'}:{os.environ.get('PATH', '')}")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"`make tools` must install {name} in CI")
        pytest.skip(f"needs {name}: `make tools` with Go")
    return found


def _built(overlay: str) -> str:
    command = [_tool("kustomize"), "build", str(ROOT / "k8s/overlays" / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module", params=OVERLAYS)
def text(request: pytest.FixtureRequest) -> str:
    return _built(request.param)


@pytest.fixture
def objects(text: str) -> list[Object]:
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="module")
def schemas(text: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where kubeconform finds the schemas of the kinds used, each with all it refers to."""
    folder = tmp_path_factory.mktemp("schemas")
    definitions = json.loads((SCHEMAS / "_definitions.json").read_text())["$defs"]
    for found in yaml.safe_load_all(text):
        group, _, version = found["apiVersion"].rpartition("/")
        parts = (found["kind"].lower(), group.partition(".")[0], version)
        name = "-".join(filter(None, parts)) + ".json"
        schema = (SCHEMAS / name).read_text().replace("/api/_definitions.json#", "#")
        (folder / name).write_text(json.dumps(json.loads(schema) | {"$defs": definitions}))
    return f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"


def _conform(text: str, schemas: str) -> subprocess.CompletedProcess[str]:
    command = [_tool("kubeconform"), "-strict", "-summary", "-schema-location", schemas]
    return subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, timeout=60
    )


def test_kubeconform_accepts_every_object(text, objects, schemas):
    done = _conform(text, schemas)
    assert done.returncode == 0, done.stdout
    assert f"Valid: {len(objects)}, Invalid: 0, Errors: 0, Skipped: 0" in done.stdout


def test_kubeconform_is_given_schemas_that_refuse(text, schemas):
    done = _conform(text.replace("runAsNonRoot", "runAsNonroot"), schemas)
    assert done.returncode == 1
    assert "runAsNonroot" in done.stdout


def test_kubernetes_validate_accepts_every_object(objects):
    for found in objects:
        kubernetes_validate.validate(found, VERSION, strict=True)


def test_every_policy_is_kept(objects):
    assert [problem for policy in POLICIES for problem in policy(objects)] == []


def _pod(objects: list[Object], name: str) -> Any:
    found = next(o for o in objects if o["kind"] in WORKLOADS and o["metadata"]["name"] == name)
    return found["spec"]["template"]


def _first(objects: list[Object], name: str) -> Any:
    return _pod(objects, name)["spec"]["containers"][0]


BREAKS: dict[str, Callable[[list[Object]], Any]] = {
    "readOnlyRootFilesystem": lambda o: _first(o, "recollect-server")["securityContext"].pop(
        "readOnlyRootFilesystem"
    ),
    "runAsUser": lambda o: _pod(o, "recollect-migrate")["spec"]["securityContext"].update(
        runAsUser=0
    ),
    "no limits of memory": lambda o: _first(o, "recollect-worker")["resources"]["limits"].pop(
        "memory"
    ),
    "no livenessProbe": lambda o: _first(o, "recollect-postgres").pop("livenessProbe"),
    "another port": lambda o: _first(o, "recollect-server")["livenessProbe"]["grpc"].update(port=1),
    "has no version": lambda o: _first(o, "recollect-server").update(image="recollect:latest"),
    "secrets in the environment": lambda o: _first(o, "recollect-server")["envFrom"].append(
        {"secretRef": {"name": "recollect-secrets"}}
    ),
    "is made by nobody": lambda o: _pod(o, "recollect-server")["spec"]["volumes"][0][
        "secret"
    ].update(secretName="other"),
    "chooses no pod": lambda o: _pod(o, "recollect-server")["metadata"].update(labels={}),
    "no policy for": lambda o: _pod(o, "recollect-chroma")["metadata"].update(labels={}),
    "may lose state": lambda o: _first(o, "recollect-valkey-state").update(args=[]),
}


@pytest.mark.parametrize("problem", BREAKS)
def test_what_breaks_a_policy_is_found(problem):
    objects = copy.deepcopy(list(yaml.safe_load_all(_built("production"))))
    BREAKS[problem](objects)
    found = [text for policy in POLICIES for text in policy(objects)]
    assert any(problem in text for text in found), found


def _settings(objects: list[Object]) -> dict[str, str]:
    (found,) = [
        o["data"]
        for o in objects
        if o["kind"] == "ConfigMap" and o["metadata"]["name"].startswith("recollect-settings")
    ]
    return dict(found)


def test_every_setting_and_command_exists(objects):
    assert set(_settings(objects)) <= VARIABLES
    for secrets in (o for o in objects if o["kind"] == "Secret"):
        if secrets["metadata"]["name"].startswith("recollect-secrets"):
            assert set(secrets["data"]) <= VARIABLES
    for name in ("recollect-server", "recollect-worker", "recollect-migrate"):
        assert _first(objects, name)["args"][0] in COMMANDS


def test_a_pod_is_given_longer_to_end_than_draining_takes(objects):
    pod = _pod(objects, "recollect-server")["spec"]
    wait = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    settings = _settings(objects)
    assert pod["terminationGracePeriodSeconds"] > wait + float(settings["RECOLLECT_GRACE_SECONDS"])


def test_limits_reach_running_pods():
    """By a ConfigMap whose name stays, mounted as a folder: a single file never changes."""
    objects = list(yaml.safe_load_all(_built("production")))
    path = Path(_settings(objects)["RECOLLECT_LIMITS_FILE"])
    (limits,) = (o for o in objects if o["metadata"]["name"] == "recollect-limits")
    AllLimits.parse(limits["data"][path.name])
    (mount,) = (
        m for m in _first(objects, "recollect-server")["volumeMounts"] if m["name"] == "limits"
    )
    assert (mount["mountPath"], mount.get("subPath")) == (str(path.parent), None)
