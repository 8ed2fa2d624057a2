"""Which methods words name, and which ids of a call are recorded."""

import pytest

from recollect.v1 import admin_pb2, memory_pb2
from recollect_server.rpc.auditing import audited, resource
from recollect_server.rpc.authorization import ROLE_OF


def test_groups_and_methods_are_named():
    everything = audited(["reads", "writes", "admin", "GetServerInfo", "ListAuditEvents"])
    methods = {f"/{service}/{method}" for service, of in ROLE_OF.items() for method in of}
    assert methods - everything == {"/recollect.v1.AdminService/EraseUser"}
    assert audited(["Recall"]) == {"/recollect.v1.MemoryService/Recall"}
    assert "/recollect.v1.AdminService/ExportUser" in audited(["admin"])
    assert audited([]) == audited(["EraseUser"]) == frozenset()


@pytest.mark.parametrize("word", ["read", "recall", "", "recollect.v1.MemoryService/Recall"])
def test_a_word_that_names_nothing_is_refused(word):
    with pytest.raises(ValueError, match="is neither reads, writes, admin nor a method"):
        audited(["admin", word])


def test_ids_of_a_request_and_of_what_it_made_are_recorded_and_no_text():
    asked = memory_pb2.GetFactRequest(user_id="ada", fact_id="f")
    assert resource(asked, None) == "fact_id=f"
    assert resource(memory_pb2.RecallRequest(user_id="ada", query="tea?"), None) == ""
    made = admin_pb2.CreateApiKeyResponse(
        api_key=admin_pb2.ApiKey(key_id="k", name="ops", user_id="ada"), token="rk_k_secret"
    )
    request = admin_pb2.CreateApiKeyRequest(name="ops", user_id="ada", request_id="r")
    assert resource(request, made) == "key_id=k"
