"""`recollect doctor`."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recollect_server.cli.run import load_settings
from recollect_server.cli.serve import serve

if TYPE_CHECKING:
    from recollect_server.diagnosis import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(
    params=[parameter for parameter in serve.params if parameter.name != "ready_file"],
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(config_file: Path | None, as_json: bool, **flags: Any) -> None:
    """Check the settings and everything they name, and say what to do.

    It takes the flags, environment and files of `recollect serve`, and changes nothing but making
    the data directory. The exit code is 1 if anything fails, 2 if the settings are wrong.
    """
    settings = load_settings(config_file, **flags)
    from recollect_server.diagnosis import Level, examine

    found = asyncio.run(examine(settings))
    failed = any(finding.level is Level.FAIL for finding in found)
    if as_json:
        click.echo(json.dumps({"ok": not failed, "findings": [asdict(each) for each in found]}))
    else:
        for finding in found:
            click.echo(_line(finding))
    sys.exit(1 if failed else 0)


def _line(finding: "Finding") -> str:
    level = click.style(f"{finding.level:<4}", fg=COLOURS[finding.level])
    advice = f"\n{'':19}{finding.advice}" if finding.advice else ""
    return f"{level}  {finding.subject:<11}  {finding.text}{advice}"
