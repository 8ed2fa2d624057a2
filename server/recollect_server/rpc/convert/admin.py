"""Conversions of AdminService."""

from collections.abc import Iterable
from datetime import timedelta

from recollect.v1 import admin_pb2 as pb
from recollect_server.admin.erasure import Erasure
from recollect_server.admin.limits import STORED
from recollect_server.admin.model import ApiKey, Grants, JobRecord, JobState, KeyRole, Service
from recollect_server.admin.quotas import LimitUsage
from recollect_server.memory.audit import AuditEvent
from recollect_server.memory.ports import EmbeddingBacklog
from recollect_server.rpc.convert.common import from_time


def from_api_key(key: ApiKey) -> pb.ApiKey:
    """Return the protobuf message."""
    return pb.ApiKey(
        key_id=key.key_id,
        name=key.name,
        user_id=key.user_id,
        role=pb.KeyRole.ValueType(key.grants.role),
        service_roles=from_service_roles(key.grants),
        create_time=from_time(key.create_time),
        expire_time=from_time(key.expire_time) if key.expire_time is not None else None,
        revoke_time=from_time(key.revoke_time) if key.revoke_time is not None else None,
        last_use_time=from_time(key.last_use_time) if key.last_use_time is not None else None,
    )


def from_service_roles(grants: Grants) -> dict[str, pb.KeyRole.ValueType]:
    """Return the roles on single services, by their names."""
    return {str(name): pb.KeyRole.ValueType(role) for name, role in grants.services}


def to_grants(request: pb.CreateApiKeyRequest) -> Grants:
    """Return what a new key may do."""
    services = {Service(name): KeyRole(role) for name, role in request.service_roles.items()}
    return Grants.of(KeyRole(request.role), services)


def from_job(job: JobRecord) -> pb.Job:
    """Return the protobuf message."""
    return pb.Job(
        job_id=job.job_id,
        kind=job.kind,
        user_id=job.user_id,
        session_id=job.session_id,
        state=pb.JobState.ValueType(job.state),
        attempts=job.attempts,
        run_time=from_time(job.run_time),
        last_error=job.last_error,
        create_time=from_time(job.create_time),
    )


def job_rank(job: JobRecord) -> int:
    """Return where a job's state comes in a list, as `JobStore.list_jobs` takes it."""
    return {JobState.DEAD: 0, JobState.RUNNING: 1, JobState.DUE: 2}[job.state]


def from_event(event: AuditEvent) -> pb.AuditEvent:
    """Return the protobuf message."""
    return pb.AuditEvent(
        event_id=event.event_id,
        time=from_time(event.time),
        key_id=event.caller.key_id,
        method=event.caller.method,
        user_id=event.user_id,
        resource=event.resource,
        outcome=event.outcome,
        call_id=event.caller.call_id,
        chain_hash=event.chain_hash,
    )


def from_erasure(erasure: Erasure) -> pb.EraseUserResponse:
    """Return the protobuf message: the receipt."""
    return pb.EraseUserResponse(
        erasure_id=erasure.erasure_id,
        audit_event_id=erasure.event_id,
        stores=[
            pb.ErasedStore(
                store=name,
                removed=store.removed,
                remaining=store.remaining,
                problem=store.problem,
            )
            for name, store in sorted(erasure.stores.items())
        ],
        complete=erasure.complete,
    )


def from_backlog(backlog: EmbeddingBacklog) -> pb.EmbeddingBacklog:
    """Return the protobuf message."""
    oldest = backlog.oldest_time
    return pb.EmbeddingBacklog(
        waiting=backlog.waiting,
        reembedding=backlog.reembedding,
        oldest_time=from_time(oldest) if oldest is not None else None,
        checking=backlog.checking,
    )


def from_usage(usage: Iterable[LimitUsage]) -> pb.GetUsageResponse:
    """Return the protobuf message."""
    return pb.GetUsageResponse(limits=[_from_limit(each) for each in usage])


def _from_limit(usage: LimitUsage) -> pb.LimitUsage:
    limit = pb.LimitUsage(limit=usage.limit, used=usage.used, maximum=usage.most)
    if usage.limit not in STORED:
        limit.period.FromTimedelta(timedelta(seconds=usage.seconds))
        limit.full_in.FromTimedelta(timedelta(seconds=usage.full_in))
    return limit
