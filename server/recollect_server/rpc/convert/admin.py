"""Conversions of AdminService."""

from recollect.v1 import admin_pb2 as pb
from recollect_server.admin.model import ApiKey
from recollect_server.rpc.convert.common import from_time


def from_api_key(key: ApiKey) -> pb.ApiKey:
    """Return the protobuf message."""
    return pb.ApiKey(
        key_id=key.key_id,
        name=key.name,
        user_id=key.user_id,
        role=pb.KeyRole.ValueType(key.role),
        create_time=from_time(key.create_time),
        expire_time=from_time(key.expire_time) if key.expire_time is not None else None,
        revoke_time=from_time(key.revoke_time) if key.revoke_time is not None else None,
    )
