"""`recollect serve`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog

from recollect_server import config
from recollect_server.cli.loading import loading
from recollect_server.cli.options import options
from recollect_server.cli.run import load_settings, prepare_libraries, run_until_ended

if TYPE_CHECKING:
    from recollect_server import server

log = structlog.get_logger("recollect.cli")

DEFAULT_TARGET = "127.0.0.1:50051"
"""Where the client looks by itself; kept here because importing the client takes time."""

_work_options = options(
    click.option("--small-model", help="For summaries, facts and episodes."),
    click.option("--summary-recent", type=int, help="Messages left alone. Default 6."),
    click.option(
        "--summary-tokens", type=int, help="Without a summary, that make one due. Default 2000."
    ),
    click.option("--extract-every", type=int, help="Messages to find facts in. Default 10."),
    click.option(
        "--episode-idle-seconds",
        type=float,
        help="Of a session that then is one. Default 1800.",
    ),
    click.option("--index-bytes", type=int, help="Memory for indexes. Default 268435456."),
)

_cache_options = options(
    click.option("--cache-entries", type=int, help="Answers of a user. Default 10000."),
    click.option("--cache-bytes", type=int, help="Of them. Default 67108864."),
    click.option(
        "--cache-timeout", type=float, help="Seconds a lookup waits for Valkey. Default 0.04."
    ),
    click.option("--window-bytes", type=int, help="For recent windows. Default 67108864."),
    click.option("--mirror-bytes", type=int, help="For vectors of answers. Default 134217728."),
    click.option("--valkey-bytes", type=int, help="Of the embedded one. Default 268435456."),
)

_embedding_options = options(
    click.option("--openai-base-url", help="Another address of the OpenAI API."),
    click.option("--embedding-dimensions", type=int, help="Of openai's vectors."),
    click.option("--embedding-threads", type=int, help="Default: one for each core."),
    click.option(
        "--embedder",
        metavar="KIND[:MODEL]",
        help="minilm (default), sentence-transformers:NAME or openai[:MODEL].",
    ),
)

_access_options = options(
    click.option("--auth", metavar="KIND,...", help="Of api-key, jwt, mtls. Default none."),
    click.option("--tls-cert", type=click.Path(path_type=Path, exists=True), help="PEM chain."),
    click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="PEM key."),
    click.option(
        "--tls-client-ca",
        type=click.Path(path_type=Path, exists=True),
        help="PEM authorities; every client must show a certificate of theirs.",
    ),
    click.option("--jwt-jwks", metavar="URL|FILE", help="The issuer's key set."),
    click.option("--jwt-issuer", help="Who must have made tokens."),
    click.option("--jwt-audience", help="What tokens must be for."),
    click.option("--jwt-algorithms", metavar="NAME,...", help="Default RS256,ES256,EdDSA."),
    click.option("--jwt-leeway", type=float, help="Seconds. Default 30."),
    click.option("--jwt-tenant-claim", help="Default tenant."),
    click.option("--jwt-user-claim", help="Default sub."),
    click.option("--jwt-role-claim", help="Default role."),
    click.option("--jwt-role-prefix", help="What roles begin with that are meant for it."),
    click.option("--insecure", is_flag=True, default=None, help="Trust the network."),
)

_audit_option = click.option(
    "--audit",
    metavar="WORD,...",
    help="Calls to record: methods, reads, writes, admin. Default admin.",
)

_retention_options = options(
    click.option(
        "--audit-heads",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Append the signed heads of audit chains to this file.",
    ),
    click.option("--audit-days", type=float, help="To keep audit events. Default: for ever."),
)

_activity_option = click.option(
    "--activity-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Shared with others here: background work of one waits for calls of another.",
)

_observability_options = options(
    click.option("--traces-endpoint", metavar="URL", help="OTLP/HTTP collector of traces."),
    click.option("--traces-sample", type=float, help="Share of calls. Default 1."),
    click.option("--metrics-listen", metavar="HOST:PORT", help="Prometheus metrics by HTTP."),
)


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="Address to serve. Default 127.0.0.1:50051.")
@click.option("--health-listen", metavar="HOST:PORT", help="A plain-text address for probes.")
@_observability_options
@click.option("--data-dir", type=click.Path(path_type=Path), help="Default ./recollect-data.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path, exists=True), help="A TOML file."
)
@click.option("--secrets-dir", type=click.Path(path_type=Path), help="Files named like variables.")
@click.option("--database-url", help="postgresql://... Default: a SQLite file in --data-dir.")
@click.option("--state-url", help="Valkey or Redis for windows. Default: an embedded Valkey.")
@click.option("--cache-url", help="Valkey or Redis for answers. Default: as --state-url.")
@click.option(
    "--vector-store",
    type=click.Choice([k.value for k in config.VectorStoreKind]),
    help="What finds candidates by meaning. Default: the one whose URL is set, else exact.",
)
@click.option("--chromadb-url", help="A Chroma server, or a folder for an embedded one.")
@click.option("--qdrant-url", help="A Qdrant server, or a folder for its local mode.")
@click.option(
    "--durability", type=click.Choice([d.value for d in config.Durability]), help="Default full."
)
@_access_options
@_audit_option
@_retention_options
@click.option(
    "--limits-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML limits of tenants and users, read again when it changes.",
)
@_cache_options
@click.option("--allow-global-cache", is_flag=True, default=None, help="Allow scope GLOBAL.")
@click.option("--chat-model", help="Model used when a request names none.")
@click.option("--chat-provider", type=click.Choice(["anthropic", "openai", "offline"]))
@click.option("--chat-fallback", help="[PROVIDER:]MODEL that answers when the first one is down.")
@click.option("--model-timeout", type=float, help="Seconds to begin an answer in. Default 30.")
@click.option("--anthropic-base-url", help="Another address of the Anthropic API.")
@_embedding_options
@_work_options
@click.option("--max-connection-age", type=float, help="Seconds. Default 0, or 300 of workers.")
@click.option("--max-message-bytes", type=int, help="Default 1048576.")
@click.option("--max-request-bytes", type=int, help="Default 4194304.")
@click.option("--grace-seconds", type=float, help="For running calls after SIGTERM. Default 30.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["console", "json"]))
@click.option("--workers", type=int, help="Server processes behind the port. Default 1.")
@click.option("--share-port", is_flag=True, default=None, help="Others may listen on it, too.")
@click.option("--worker/--no-worker", default=None, help="Do background work. Default: yes.")
@_activity_option
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="Write the address into this file once it is served.",
)
def serve(config_file: Path | None, ready_file: Path | None, **flags: Any) -> None:
    """Start the server. Every flag is also RECOLLECT_<NAME> and a key of the TOML file.

    Keys of APIs and of the audit log are variables, or files of --secrets-dir, and never flags;
    [tenants] and [certificates] are tables of the file.
    """
    settings = load_settings(config_file, **flags)
    prepare_libraries()
    if settings.workers > 1:
        _supervise(settings, ready_file)
        return
    with loading():
        from recollect_server import app

    def ready(started: "server.Started") -> None:
        _write(ready_file, started.address)
        _tell(settings, started)

    run_until_ended(settings, lambda: app.serve(settings, ready))


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Default ./recollect-data.")
@click.option("--health-listen", metavar="HOST:PORT", help="A plain-text address for probes.")
@_observability_options
@click.option("--secrets-dir", type=click.Path(path_type=Path), help="Files named like variables.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path, exists=True), help="A TOML file."
)
@click.option("--database-url", help="postgresql://... Default: a SQLite file in --data-dir.")
@click.option("--anthropic-base-url", help="Another address of the Anthropic API.")
@_work_options
@_embedding_options
@_retention_options
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["console", "json"]))
@_activity_option
@click.option(
    "--ready-file", type=click.Path(path_type=Path), help="Make this file once work is under way."
)
def worker(config_file: Path | None, ready_file: Path | None, **flags: Any) -> None:
    """Do a database's background work: vectors, summaries, episodes, what ends in time.

    Servers of the same database do it too, unless started with --no-worker.
    """
    settings = load_settings(config_file, **flags)
    prepare_libraries()
    with loading():
        from recollect_server import app

    def ready() -> None:
        _write(ready_file, "")
        log.info("the worker runs")

    run_until_ended(settings, lambda: app.work(settings, ready))


def _supervise(settings: config.Settings, ready_file: Path | None) -> None:
    with loading():
        from recollect_server.supervisor import supervise

    def ready(address: str) -> None:
        _write(ready_file, address)
        log.info("serving", address=address, processes=settings.workers)

    run_until_ended(settings, lambda: supervise(settings, sys.argv[1:], ready))


def _tell(settings: config.Settings, started: "server.Started") -> None:
    """Say to people what to try, and to whoever reads logs that calls are taken."""
    if settings.log_format == "json" or settings.share_port:
        log.info("serving", address=started.address, chat=started.notice)
    else:
        click.echo(started.notice, err=True)
        click.echo(_invitation(started.address, _program()), err=True)


def _write(ready_file: Path | None, address: str) -> None:
    if ready_file is None:
        return
    temporary = ready_file.with_suffix(".tmp")
    try:
        temporary.write_text(address)
        temporary.replace(ready_file)
    except OSError as error:
        from recollect_server.parts import StartError

        raise StartError(f"cannot write {ready_file}: {error.strerror}") from error


def _invitation(address: str, program: str) -> str:
    target = "" if address == DEFAULT_TARGET else f" --target {address}"
    return (
        f"Recollect serves on {address}. Try:\n"
        f"  {program} remember{target} 'I live in Lisbon'\n"
        f"  {program} recall{target} 'where do I live?'\n"
        f"  {program} chat{target}"
    )


def _program() -> str:
    """Return how this command can be typed here: by its path if it lies below this folder."""
    called = Path(sys.argv[0]).absolute()
    if called.name == "recollect" and called.is_relative_to(Path.cwd()):
        return str(called.relative_to(Path.cwd()))
    return "recollect"
