"""`recollect reindex`."""

import time

import click

from recollect_server.cli.client import Server, connect, server_options

POLL_SECONDS = 0.5


@click.command()
@click.option("--to", "url", default="", metavar="URL", help="Default: fill the store in use anew.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until it is done.")
@server_options
def reindex(url: str, wait: bool, server: Server) -> None:
    """Fill a vector store from SQL while recall goes on, then use it. Nothing is embedded again.

    URL is exact:, pgvector:, chroma+http://HOST:PORT, chroma:///PATH, qdrant+http://HOST:PORT,
    qdrant+grpc://HOST:PORT or qdrant:///PATH.
    """
    with connect(server) as client:
        job_id = client.admin.reindex(target=url)
        click.echo(f"job {job_id}")
        said = ""
        while wait:
            job = next((j for j in client.admin.list_jobs() if j.job_id == job_id), None)
            if job is None:
                break
            if job.last_error and job.last_error != said:
                said = job.last_error
                click.echo(f"waiting: {said}", err=True)
            time.sleep(POLL_SECONDS)
        if wait:
            stores = {s.name: s.kind for s in client.admin.get_server_info().stores}
            click.echo(f"done, the index is {stores['index']}")
