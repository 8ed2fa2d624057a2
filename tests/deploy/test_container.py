"""The image and the compose file, held against what settings ask for."""

import re
import tomllib

import yaml
from tests.harness import ROOT

from recollect_server.config import VARIABLES

NOT_IN_THE_IMAGE = {"plot", "sentence-transformers"}
"""For figures of benchmarks, and torch with its 5 GB."""


def test_the_image_holds_the_client_of_every_store_and_collector_a_setting_may_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"--extra ([a-z-]+)", (ROOT / "Dockerfile").read_text())
    assert set(named) == set(project["optional-dependencies"]) - NOT_IN_THE_IMAGE


def test_every_variable_of_the_compose_file_is_a_setting():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name in ("recollect", "worker", "migrate"):
        assert set(services[name]["environment"]) <= VARIABLES
