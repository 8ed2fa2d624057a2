"""Keys: no two ids share one, none breaks out of its place, slots are as the cluster needs them."""

import binascii
import re

from hypothesis import given
from hypothesis import strategies as st
from tests.harness import ROOT

from recollect_server.scope import Scope
from recollect_server.stores.valkey.keys import (
    PREFIX,
    digest,
    entry_key,
    register_key,
    register_tag,
    registers_key,
    session_keys,
    window_key,
)

ids = st.text(alphabet=st.sampled_from("ab{}:\"'\n\0\\ é😀|*")) | st.text()


def slot(key: str) -> int:
    """The cluster's slot of a key, by its specification."""
    tag = re.search(r"\{(.+?)\}", key)
    return binascii.crc_hqx((tag[1] if tag else key).encode(), 0) % 16384


@given(ids, ids, ids, ids, ids, ids)
def test_different_sessions_have_different_keys(
    tenant: str, user: str, session: str, tenant2: str, user2: str, session2: str
) -> None:
    first = window_key(Scope(tenant, user), session)
    second = window_key(Scope(tenant2, user2), session2)
    assert (first == second) == ((tenant, user, session) == (tenant2, user2, session2))


@given(ids, st.integers(0, 30), st.integers(0, 30))
def test_moving_the_border_between_two_ids_changes_the_digest(text: str, i: int, j: int) -> None:
    same = text[:i] == text[:j]
    assert (digest(text[:i], text[i:]) == digest(text[:j], text[j:])) == same


@given(st.lists(ids), st.lists(ids))
def test_a_digest_is_equal_only_for_equal_parts(left: list[str], right: list[str]) -> None:
    assert (digest(*left) == digest(*right)) == (left == right)


@given(ids, ids, ids)
def test_no_id_reaches_a_key_as_it_is(tenant: str, user: str, name: str) -> None:
    assert re.fullmatch(r"rc2:\{[0-9a-f]{64}\}:window", window_key(Scope(tenant, user), name))
    assert re.fullmatch(r"rc2:entry:[0-9a-f]{32}", entry_key(tenant, name))
    register = register_key(register_tag(tenant, user, 0), "r")
    assert re.fullmatch(r"rc2:\{[0-9a-f]{32}\}:entries:r", register)


def test_entries_of_one_tenant_spread_over_the_whole_cluster() -> None:
    thirds = [0, 0, 0]
    for number in range(6000):
        thirds[slot(entry_key("default", f"{number:064x}")) * 3 // 16384] += 1
    assert min(thirds) > 1800


def test_a_session_has_the_slot_of_its_tag() -> None:
    key = window_key(Scope("default", "ada"), "s1")
    assert slot(key) == slot(f"another{key[key.index('{') : key.index('}') + 1]}key")


def test_the_layout_is_the_one_that_running_servers_know() -> None:
    window = window_key(Scope("default", "ada"), "s1")
    user = "4c3da5fb19f88bcc982d2040e17ccc1a"  # pragma: allowlist secret
    assert window == f"rc2:{{{user}448d7655f8a45f3f7f61d7182cd53f7d}}:window"
    assert session_keys(Scope("default", "ada")) == f"rc2:{{{user}*"
    assert entry_key("default", "0" * 64) == "rc2:entry:85ed523f41c54026a594002d2df13509"
    tag = register_tag("default", "ada", 0)
    assert register_key(tag, "r") == "rc2:{cf6daf08b14aa6bb6242f5c659d06399}:entries:r"
    assert registers_key(tag) == "rc2:registers:cf"


def test_documents_name_the_keys_by_their_beginning():
    """Whoever restores a backup deletes by it, and whoever writes access rules allows by it."""
    texts = {file.name: file.read_text() for file in (ROOT / "docs").glob("*.md")}
    named = {name: set(re.findall(r"\brc\d+:", text)) for name, text in texts.items()}
    assert {name for name, found in named.items() if found} >= {"backup.md", "deployment.md"}
    assert set().union(*named.values()) == {PREFIX}
