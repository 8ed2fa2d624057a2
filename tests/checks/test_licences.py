"""Which licences may be depended on."""

import importlib.util

import pytest
from tests.harness import ROOT

_spec = importlib.util.spec_from_file_location("licences", ROOT / "scripts" / "licences.py")
licences = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(licences)


@pytest.mark.parametrize(
    ("said", "may"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(GPL-3.0-only OR Apache-2.0) AND ISC", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("AGPL-3.0-only", False),
        ("a licence of our own", False),
        ("", False),
    ],
)
def test_a_licence_is_allowed_only_if_all_that_must_be_kept_is(said, may):
    assert licences.allowed(licences.Package("python", "some", "1.0", said)) is may


def test_the_locks_are_read():
    packages = list(licences.python())
    assert {"grpcio", "protobuf", "psycopg"} <= {package.name for package in packages}
    by_name = {package.name: package for package in packages}
    assert by_name["click"].licence == "BSD-3-Clause"
    assert len(list(licences.npm())) > 50
