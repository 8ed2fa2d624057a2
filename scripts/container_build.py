"""Run the Dockerfile's steps where there is no container engine, in folders made by debootstrap.

    scripts/container_build.py FOLDER

FOLDER/image is then what the image would hold. It is started as a container would be, read-only and
by its own user, asked for its health and ended. The base image, Python on Debian, is made of
Debian's own Python of the same version. Needs root, for chroot.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
START_SECONDS = 120.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """What one FROM begins: a file system, and what its commands run with."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    probe: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """Where a path of the image lies on this machine."""
        return self.root / (Path(self.workdir) / path).relative_to("/")


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """(name, arguments) of each instruction."""
    text = re.sub(r"(?m)^\s*#.*\n", "", text)
    text = re.sub(r"\\\n", " ", text)
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, arguments = line.partition(" ")
        yield name.upper(), arguments.strip()


def main() -> None:
    """Build into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder.resolve()
    base = _base(folder)
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    arguments: dict[str, str] = {}
    for name, rest in instructions((ROOT / "Dockerfile").read_text()):
        if name == "ARG":
            key, _, value = rest.partition("=")
            arguments[key] = value
        elif name == "FROM":
            alias = rest.partition(" AS ")[2] or "image"
            stage = stages[alias] = Stage(folder / alias)
            shutil.rmtree(stage.root, ignore_errors=True)
            _run("cp", "-a", base, stage.root)
        else:
            assert stage is not None, "the Dockerfile begins with FROM"
            print(f"{stage.root.name}: {name} {rest}", flush=True)
            _do(stage, stages, name, rest, arguments)
    assert stage is not None
    _try(stage)


def _try(image: Stage) -> None:
    """Start the image read-only, wait until its probe says that it serves, and end it."""
    root, (uid, gid) = image.root, image.user.split(":")
    own = f"uid={uid},gid={gid}"
    enter = ["chroot", f"--userspec={image.user}", str(root)]
    script = " && ".join(
        (
            "ip link set lo up",
            f"mount --bind {root} {root}",
            f"mount -o remount,ro,bind {root}",
            f"mount --bind /proc {root}/proc",
            f"mount -t tmpfs -o {own} tmpfs {root / 'tmp'}",
            f"mount -t tmpfs -o {own} tmpfs {image.inside('.')}",
            "exec " + shlex.join([*enter, *image.entrypoint, *image.command]),
        )
    )
    environment = image.env | {"RECOLLECT_INSECURE": "true"}
    server = subprocess.Popen(
        ["unshare", "--mount", "--net", "/bin/sh", "-c", script], env=environment
    )
    try:
        namespaces = ["nsenter", f"--target={server.pid}", "--mount", "--net"]
        deadline = time.monotonic() + START_SECONDS
        while True:
            probe = subprocess.run(
                [*namespaces, *enter, *image.probe], env=environment, check=False
            )
            if probe.returncode == 0:
                break
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the image does not serve")
            time.sleep(0.5)
        status = Path(f"/proc/{server.pid}/status").read_text()
        if f"\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n" not in status:
            raise SystemExit("the image does not run as its user")
    finally:
        server.terminate()
        code = server.wait(60)
    if code != 0:
        raise SystemExit(f"the image ended with {code}")
    print("the image serves, read-only and as its user, and ends as it should")


def _base(folder: Path) -> Path:
    """Make Debian with Python under the names that the official image of Python gives it."""
    base = folder / "base"
    if (base / "usr/local/bin/python").is_symlink():
        return base
    shutil.rmtree(base, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    options = ("--variant=minbase", f"--include={PACKAGES}")
    _run("debootstrap", *options, SUITE, base, MIRROR)
    shutil.copy("/etc/resolv.conf", base / "etc/resolv.conf")
    shutil.copy(CERTIFICATES, base / CERTIFICATES.lstrip("/"))
    for marker in (base / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    (base / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    return base


def _do(
    stage: Stage, stages: dict[str, Stage], name: str, rest: str, arguments: dict[str, str]
) -> None:
    match name:
        case "RUN":
            _chroot(stage, ["/bin/sh", "-c", rest], arguments)
        case "ENV":
            for pair in shlex.split(rest):
                key, _, value = pair.partition("=")
                stage.env[key] = value.replace("$PATH", stage.env["PATH"])
        case "COPY":
            _copy(stage, stages, rest)
        case "WORKDIR":
            stage.workdir = rest
            stage.inside(".").mkdir(parents=True, exist_ok=True)
        case "USER":
            stage.user = rest
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        case "CMD":
            stage.command = json.loads(rest)
        case "HEALTHCHECK":
            stage.probe = json.loads(rest.partition("CMD ")[2])
        case "LABEL" | "EXPOSE" | "VOLUME":
            pass
        case _:
            raise SystemExit(f"the Dockerfile has a step that this script does not know: {name}")


def _copy(stage: Stage, stages: dict[str, Stage], rest: str) -> None:
    origin = ROOT
    if match := re.match(r"--from=(\S+)\s+(.*)", rest):
        origin, rest = stages[match[1]].root, match[2]
    *sources, target = rest.split()
    for source in sources:
        found = origin / source.lstrip("/")
        # A file keeps its name below a folder; of a folder the content is copied.
        to = stage.inside(target)
        if found.is_file() and (target.endswith("/") or to.is_dir()):
            to = to / found.name
        if found.is_file():
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, to)
        else:
            ignore = _ignored if origin == ROOT else None
            shutil.copytree(found, to, symlinks=True, ignore=ignore, dirs_exist_ok=True)


def _ignored(_: str, names: list[str]) -> set[str]:
    """What .dockerignore leaves out inside the folders that it lets in."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    return {name for name in names if any(fnmatch(name, pattern) for pattern in patterns)}


def _chroot(stage: Stage, command: list[str], arguments: dict[str, str]) -> None:
    outside = {"SSL_CERT_FILE": CERTIFICATES, "PIP_CERT": CERTIFICATES, "HOME": "/root"}
    inside = shlex.join(["cd", stage.workdir]) + " && exec " + shlex.join(command)
    _run(
        "chroot",
        f"--userspec={stage.user}",
        stage.root,
        "/bin/sh",
        "-c",
        inside,
        env=outside | arguments | stage.env,
    )


def _run(*command: object, env: dict[str, str] | None = None) -> None:
    subprocess.run([str(part) for part in command], check=True, env=env or dict(os.environ))


if __name__ == "__main__":
    main()
