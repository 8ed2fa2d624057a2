"""Which licences may be depended on."""

import importlib.util

import pytest
from tests.harness import ROOT, toolchain

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


def _pom(repository, name, body):
    folder = repository / "org" / "some" / name / "1.0"
    folder.mkdir(parents=True)
    (folder / f"{name}-1.0.pom").write_text(
        f'<project xmlns="http://maven.apache.org/POM/4.0.0">{body}</project>'
    )
    return folder / f"{name}-1.0.pom"


def _licences(*names):
    inner = "".join(f"<license><name>\n {name} </name></license>" for name in names)
    return f"<licenses>{inner}</licenses>"


def test_a_pom_says_its_licences_or_takes_over_its_parents(tmp_path):
    parent = "<parent><groupId>org.some</groupId><artifactId>{}</artifactId>"
    parent += "<version>1.0</version></parent>"
    _pom(tmp_path, "oldest", _licences("The Apache License, Version 2.0"))
    older = _pom(tmp_path, "older", parent.format("oldest"))
    own = _pom(tmp_path, "own", parent.format("oldest") + _licences("MIT license", "AGPL-3.0-only"))
    child = _pom(tmp_path, "child", parent.format("older"))
    none = _pom(tmp_path, "none", "")
    assert licences.said_by(older, tmp_path) == "Apache-2.0"
    assert licences.said_by(child, tmp_path) == "Apache-2.0"
    assert licences.said_by(own, tmp_path) == "MIT OR AGPL-3.0-only"
    assert licences.said_by(none, tmp_path) == ""


def test_what_maven_resolves_is_read_with_its_versions():
    toolchain("mvn")
    packages = {package.name: package for package in licences.java()}
    assert {"io.grpc:grpc-netty-shaded", "com.google.protobuf:protobuf-java"} <= set(packages)
    # It says nothing itself.
    assert packages["com.google.guava:failureaccess"].licence == "Apache-2.0"
    assert all(package.version and licences.allowed(package) for package in packages.values())
