"""Generate the Python stubs and the reflection descriptors from `proto/`.

    python scripts/generate.py            write them
    python scripts/generate.py --check    exit 1 if what is committed differs

The validation rules stay in the descriptors as options, where the server reads them, but the
import of `buf/validate/validate.proto` is taken out before generation: a client needs no copy of
that file, which would clash with any other package that ships it.
"""

import argparse
import filecmp
import importlib.util
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
    stubs = sorted((target / STUBS / "recollect" / "v1").glob("*_pb2*"))
    return [*(path.relative_to(target) for path in stubs), REFLECTION]


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
        committed = (ROOT / STUBS / "recollect" / "v1").glob("*_pb2*")
        stale += [
            path.relative_to(ROOT) for path in committed if path.relative_to(ROOT) not in fresh
        ]
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
