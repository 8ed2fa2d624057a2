"""Every client does what every scenario says."""

import pytest
from tests.conformance.play import NotServed, Play, Scenario, scenarios
from tests.conformance.runner import LANGUAGES, Runner
from tests.conformance.servers import Servers

CASES = [
    pytest.param(language, scenario, id=f"{language}:{scenario}")
    for language in LANGUAGES
    for scenario in scenarios()
]


@pytest.mark.parametrize(("runner", "scenario"), CASES, indirect=["runner"])
def test_a_client_does_what_a_scenario_says(
    servers: Servers, runner: Runner, scenario: Scenario, record_property, request
):
    record_property("language", request.node.callspec.params["runner"])
    record_property("scenario", str(scenario))
    keys = scenario.server in ("keys", "tls")
    server = servers.get(scenario.server)
    admin_key = servers.admin_key(scenario.server) if keys else ""
    try:
        Play(scenario, runner, server, admin_key).run()
    except NotServed as needed:
        record_property("outcome", "not served")
        pytest.skip(f"the server does not serve yet: {needed}")
