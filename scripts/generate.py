"""Generate the stubs that are committed and the reflection descriptors from `proto/`.

    python scripts/generate.py            write them
    python scripts/generate.py --check    exit 1 if what is committed differs

Go's stubs need the plugins that `make .tools/bin/.go` installs; without them they are left as they
are, unless CI=true.

The validation rules stay in the descriptors as options, where the server reads them, but the
import of `buf/validate/validate.proto` is taken out before generation: a client needs no copy of
that file, which would clash with any other package that ships it.
"""

import argparse
import filecmp
import importlib.util
import os
import re
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
STUBS = Path("clients/python/src")
REFLECTION = Path("server/recollect_server/rpc/contract.binpb")
RULES = "buf/validate/validate.proto"
GO = Path("clients/go")
GO_STUBS = GO / "recollectv1"
GO_PLUGINS = ("protoc-gen-go", "protoc-gen-go-grpc")
COMMITTED = ((STUBS / "recollect/v1", "*_pb2*"), (GO_STUBS, "*.pb.go"))


def _protoc(*args: str) -> None:
    if protoc.main(["protoc", *args]) != 0:
        sys.exit(f"protoc failed: {' '.join(args)}")


def _well_known_protos() -> str:
    spec = importlib.util.find_spec("grpc_tools")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "_proto")


def _without_rules_import(files: FileDescriptorSet) -> FileDescriptorSet:
    stripped = FileDescriptorSet()
    for file in files.file:
        if file.name == RULES:
            continue
        copy = stripped.file.add()
        copy.CopyFrom(file)
        kept = [name for name in file.dependency if name != RULES]
        if len(kept) != len(file.dependency):
            assert not file.public_dependency
            assert not file.weak_dependency
            del copy.dependency[:]
            copy.dependency.extend(kept)
    return stripped


def _has_go_plugins() -> bool:
    found = all((ROOT / ".tools/bin" / plugin).exists() for plugin in GO_PLUGINS)
    if not found and os.environ.get("CI") == "true":
        sys.exit("the Go plugins are required in CI: `make .tools/bin/.go`")
    return found


def _generate_go(target: Path, descriptors: Path, names: list[str]) -> None:
    """Write Go's stubs. Their import path follows from the module's, not from the contract."""
    found = re.search(r"^module (\S+)$", (ROOT / GO / "go.mod").read_text(), re.MULTILINE)
    assert found is not None
    module = found[1]
    options = [f"module={module}", *(f"M{n}={module}/{GO_STUBS.name}" for n in names)]
    (target / GO).mkdir(parents=True, exist_ok=True)
    for plugin in GO_PLUGINS:
        name = plugin.removeprefix("protoc-gen-")
        _protoc(
            f"--descriptor_set_in={descriptors}",
            f"--plugin={plugin}={ROOT / '.tools/bin' / plugin}",
            f"--{name}_out={target / GO}",
            *(f"--{name}_opt={option}" for option in options),
            *names,
        )


def generate(target: Path) -> list[Path]:
    """Write everything below `target`; return the paths relative to it."""
    names = sorted(str(p.relative_to(PROTO)) for p in (PROTO / "recollect").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole.binpb")
        _protoc(
            f"-I{PROTO}",
            f"-I{PROTO / 'vendor'}",
            f"-I{_well_known_protos()}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={whole}",
            *names,
        )
        files = _without_rules_import(FileDescriptorSet.FromString(whole.read_bytes()))
        stripped = Path(folder, "stripped.binpb")
        stripped.write_bytes(files.SerializeToString(deterministic=True))
        (target / STUBS).mkdir(parents=True, exist_ok=True)
        _protoc(
            f"--descriptor_set_in={stripped}",
            f"--python_out={target / STUBS}",
            f"--grpc_python_out={target / STUBS}",
            f"--mypy_out={target / STUBS}",
            f"--mypy_grpc_out={target / STUBS}",
            *names,
        )
        (target / REFLECTION).parent.mkdir(parents=True, exist_ok=True)
        (target / REFLECTION).write_bytes(stripped.read_bytes())
        if _has_go_plugins():
            _generate_go(target, stripped, names)
    return [*_stubs(target), REFLECTION]


def _stubs(root: Path) -> list[Path]:
    found = (path for folder, kind in COMMITTED for path in (root / folder).glob(kind))
    return sorted(path.relative_to(root) for path in found)


def check() -> int:
    """Return 1 and name the files if what is committed differs from a fresh generation."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = generate(Path(folder))
        stale = [
            path
            for path in fresh
            if not (ROOT / path).exists()
            or not filecmp.cmp(Path(folder, path), ROOT / path, shallow=False)
        ]
        suffixes = {path.suffix for path in fresh}
        stale += [p for p in _stubs(ROOT) if p not in fresh and p.suffix in suffixes]
    for path in stale:
        print(f"{path}: not what proto/ generates; run scripts/generate.py", file=sys.stderr)
    return 1 if stale else 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        return check()
    generate(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
