"""Every method of the contract has a handler, a role and its interceptors."""

import pytest

from recollect.v1 import admin_pb2, cache_pb2, chat_pb2, memory_pb2
from recollect_server.rpc.authentication import Authentication
from recollect_server.rpc.authorization import ROLE_OF
from recollect_server.rpc.interceptors import Undecodable, interceptors
from recollect_server.rpc.registry import decoder, generic_handler, rules, snake_case
from recollect_server.rpc.services.admin import AdminServicer
from recollect_server.rpc.services.cache import CacheServicer
from recollect_server.rpc.services.chat import ChatServicer
from recollect_server.rpc.services.memory import MemoryServicer

SERVICERS = (MemoryServicer, CacheServicer, ChatServicer, AdminServicer)
SERVICES = tuple(
    service
    for module in (memory_pb2, cache_pb2, chat_pb2, admin_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
)


def test_the_authorisation_table_lists_every_method_and_no_other():
    contract = {service.full_name: {m.name for m in service.methods} for service in SERVICES}
    assert {name: set(rules) for name, rules in ROLE_OF.items()} == contract


def test_a_method_without_a_rule_stops_the_start(monkeypatch):
    monkeypatch.delitem(ROLE_OF["recollect.v1.MemoryService"], "Recall")
    with pytest.raises(KeyError, match="Recall"):
        rules(SERVICES)


def test_a_method_that_the_servicer_lacks_stops_the_start(monkeypatch):
    monkeypatch.delattr(MemoryServicer, "recall")
    with pytest.raises(AttributeError, match="recall"):
        generic_handler(MemoryServicer.__new__(MemoryServicer), _chain())


def test_each_service_has_one_servicer_whose_methods_are_all_of_the_contract():
    assert {s.service.full_name for s in SERVICERS} == {s.full_name for s in SERVICES}
    for servicer in SERVICERS:
        public = {name for name in vars(servicer) if not name.startswith("_")} - {"service"}
        assert public == {snake_case(m.name) for m in servicer.service.methods}


def _chain():
    return interceptors(
        authentication=Authentication(None, rules(SERVICES)),
        default_deadline=1,
    )


def test_interceptors_stand_in_their_order():
    chain = _chain()
    assert [type(interceptor).__name__ for interceptor in chain] == [
        "CallId",
        "CallLog",
        "ErrorMapping",
        "Authentication",
        "Decoding",
        "Tenancy",
        "Validation",
        "Erasure",
        "Deadline",
    ]


def test_every_method_gets_a_handler_of_its_kind():
    chain = _chain()
    for servicer in SERVICERS:
        handlers = generic_handler(servicer.__new__(servicer), chain)

        class Details:
            invocation_metadata = ()

            def __init__(self, method):
                self.method = method

        for method in servicer.service.methods:
            handler = handlers.service(Details(f"/{servicer.service.full_name}/{method.name}"))
            assert handler.request_streaming == method.client_streaming
            assert handler.response_streaming == method.server_streaming


def test_a_decoder_never_raises():
    decode = decoder(memory_pb2.GetSessionRequest)
    assert decode(b"\n\x03ada").user_id == "ada"
    assert isinstance(decode(b"\xff\xff\xff"), Undecodable)
    assert isinstance(decode(b"\n\x02\xc3\x28"), Undecodable)
