"""URLs of stores: what each form means, what is refused, what never shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect_server.stores.valkey._target import Library, Transport, parse_target
from recollect_server.stores.valkey.connect import connect


@pytest.mark.parametrize(
    ("url", "library", "transport", "address"),
    [
        ("redis://cache", Library.REDIS, Transport.TCP, "redis://cache:6379/0"),
        ("REDIS://cache:1/2", Library.REDIS, Transport.TCP, "REDIS://cache:1/2"),
        ("rediss://cache:7/", Library.REDIS, Transport.TLS, "rediss://cache:7/0"),
        ("unix:///run/r.sock", Library.REDIS, Transport.UNIX, "unix:///run/r.sock"),
        ("valkey://[::1]:6380", Library.VALKEY, Transport.TCP, "valkey://[::1]:6380/0"),
        ("valkeys://cache", Library.VALKEY, Transport.TLS, "valkeys://cache:6379/0"),
        ("valkey+unix:///a%20b", Library.VALKEY, Transport.UNIX, "valkey+unix:///a%20b"),
    ],
)
def test_a_scheme_picks_library_and_transport(
    url: str, library: Library, transport: Transport, address: str
) -> None:
    target = parse_target(url)
    assert (target.library, target.transport, target.address) == (library, transport, address)


def test_credentials_and_database_are_decoded() -> None:
    arguments = parse_target("valkey://ad%40a:p%2Fw%3A@h:1/3").arguments
    assert arguments == {"db": 3, "username": "ad@a", "password": "p/w:", "host": "h", "port": 1}
    arguments = parse_target("unix://:secret@/a%20b?db=4").arguments
    assert arguments == {"db": 4, "password": "secret", "path": "/a b"}


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_a_cluster_is_asked_for_and_its_nodes_are_logged_like_its_address(scheme: str) -> None:
    target = parse_target(f"{scheme}://u:secret@[::1]:7/0?cluster=true")
    assert target.cluster
    assert "cluster" not in target.arguments
    assert target.address == target.label(("::1", 7)) == f"{scheme}://[::1]:7/0"
    assert not parse_target(f"{scheme}://h/3?cluster=false").cluster
    assert not parse_target(f"{scheme}://h").cluster


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_tls_checks_names_unless_certificates_are_not_checked(scheme: str) -> None:
    def arguments(query: str) -> object:
        return parse_target(f"{scheme}://h{query}").arguments["ssl_check_hostname"]

    assert arguments("") is True
    assert arguments("?ssl_cert_reqs=none") is False
    assert arguments("?ssl_check_hostname=false") is False


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must start with redis://, rediss://, unix://, valkey://, valkeys:// or valkey"),
        ("memcached://h", "must start with redis://"),
        ("localhost:6379", "must start with redis://"),
        ("redis://", "host is missing"),
        ("redis://h/nine", "database must be a number"),
        ("redis://h?db=-1", "database must be a number"),
        ("redis://h?decode_responses=true", "option of a redis:// URL must be db or cluster$"),
        ("redis://h?ssl_cert_reqs=none", "option of a redis:// URL must be db or cluster$"),
        ("rediss://h?x=1", "must be db, cluster, ssl_ca_certs, .* or ssl_check_hostname$"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs must be required or none"),
        ("redis://h?cluster=yes", "cluster must be true or false"),
        ("redis://h/1?cluster=true", "a cluster has no database but 0"),
        ("valkeys://h?cluster=true&db=3", "a cluster has no database but 0"),
        ("unix:///s?cluster=true", "option of a unix:// URL must be db$"),
        ("unix://run/r.sock", "path must be absolute"),
        ("valkey+unix://", "path must be absolute"),
        ("valkey://h:port", "cannot be read"),
        ("valkey://[::1", "cannot be read"),
        ("valkey://:p#w@h", "cannot be read"),
    ],
)
def test_a_bad_url_is_refused_with_what_is_allowed(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        connect(url)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4).map("S3cr3t".__add__),
    st.sampled_from(["redis://u:{}@h:1", "valkey+unix://:{}@/s", "rediss://{}@h:x", "{}://h"]),
)
def test_neither_an_error_nor_a_target_shows_a_password(password: str, form: str) -> None:
    try:
        shown = repr(parse_target(form.format(password)))
    except ValueError as error:
        shown = repr(error)
    assert "S3cr3t" not in shown
