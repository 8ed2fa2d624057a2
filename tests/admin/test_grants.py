"""Roles on services, as people write them."""

import pytest

from recollect_server.admin.model import Grants, KeyRole, Service


@pytest.mark.parametrize(
    ("text", "memory", "cache", "admin"),
    [
        ("reader", "READER", "READER", "READER"),
        ("reader cache=writer", "READER", "WRITER", "READER"),
        ("memory=reader", "READER", "NONE", "NONE"),
        ("writer admin=none", "WRITER", "WRITER", "NONE"),
        ("", "NONE", "NONE", "NONE"),
    ],
)
def test_a_word_is_for_all_services_and_one_with_a_name_for_that(text, memory, cache, admin):
    grants = Grants.parse(text)
    assert [grants.on(s).name for s in (Service.MEMORY, Service.CACHE, Service.ADMIN)] == [
        memory,
        cache,
        admin,
    ]
    assert Grants.parse(str(grants)) == grants
    assert bool(grants) is (memory != "NONE")


@pytest.mark.parametrize(
    "text", ["root", "cache", "files=reader", "=reader", "reader writer", "cache=reader cache=none"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"reader, writer, admin|already given"):
        Grants.parse(text)


def test_an_administrator_may_do_everything():
    assert all(Grants(KeyRole.ADMIN).on(service) is KeyRole.ADMIN for service in Service)
