"""Opens what the settings name: the database, Valkey, the embedder and the chat provider."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Protocol

from recollect_server.activity import Activity
from recollect_server.admin.buckets import OwnBuckets, SharedBuckets
from recollect_server.admin.limits import AllLimits
from recollect_server.admin.limits_file import LimitsFile, LimitsFileError
from recollect_server.admin.quotas import Quotas
from recollect_server.chat.extractor import ModelExtractor
from recollect_server.chat.judge import ModelJudge
from recollect_server.chat.ports import ChatModel
from recollect_server.chat.summarizer import ModelSummarizer
from recollect_server.chat.turn import ChatDefaults
from recollect_server.config import Durability, Settings
from recollect_server.errors import Unavailable
from recollect_server.memory.due import DuePolicy
from recollect_server.memory.ports import Embedder, FactExtractor, Summarizer
from recollect_server.memory.prompt import ModelParameters
from recollect_server.memory.reconciliation import Judge
from recollect_server.models.anthropic import SMALL_MODEL, AnthropicModel
from recollect_server.models.api import ApiModel
from recollect_server.models.guarded import GuardedModel
from recollect_server.models.local import CACHED_TEXTS
from recollect_server.models.minilm import MiniLmEmbedder
from recollect_server.models.offline import ExtractiveSummarizer, OfflineModel, VerbatimExtractor
from recollect_server.models.openai import (
    BASE_URL,
    EMBEDDING_MODEL,
    SMALL_CHAT_MODEL,
    OpenAiEmbedder,
    OpenAiModel,
)
from recollect_server.stores.audit_key import AuditKey, AuditKeyError
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.embedding_queue import SqlEmbeddingQueue
from recollect_server.stores.sql.migrate import SchemaError, migrate, needs_migration
from recollect_server.stores.sql.sqlite import SqliteDatabase
from recollect_server.stores.sql.stored_counts import SqlStoredCounts
from recollect_server.stores.valkey.breaker import Circuit, ImpatientClient
from recollect_server.stores.valkey.buckets import ValkeyBuckets
from recollect_server.stores.valkey.connect import Client, connect
from recollect_server.stores.valkey.embedded import EmbeddedStartError, EmbeddedValkey

SYNCHRONOUS = {Durability.FULL: "FULL", Durability.RELAXED: "NORMAL"}
SYNCHRONOUS_COMMIT = {Durability.FULL: "on", Durability.RELAXED: "off"}

PROVIDERS = {"anthropic": "Anthropic", "openai": "OpenAI"}
OFFLINE_NOTICE = (
    "No ANTHROPIC_API_KEY or OPENAI_API_KEY is set: chat is offline and answers by quoting what it "
    "recalls."
)


class StartError(Exception):
    """The server cannot start; the message says why and what to do."""


def utc_now() -> datetime:
    """Return the present as an aware UTC datetime."""
    return datetime.now(UTC)


def due_policy(settings: Settings) -> DuePolicy:
    """Return when sessions have background work."""
    return DuePolicy(
        summary_recent=settings.summary_recent,
        summary_tokens=settings.summary_tokens,
        extract_every=settings.extract_every,
        episode_idle=timedelta(seconds=settings.episode_idle_seconds),
    )


async def open_database(stack: AsyncExitStack, settings: Settings) -> Database:
    """Open the database; a SQLite file is made or migrated, PostgreSQL must be up to date."""
    location = settings.database_location
    try:
        if settings.uses_postgres:
            if await asyncio.to_thread(needs_migration, location):
                raise StartError(
                    "the database has no schema of this version: run `recollect migrate` first"
                )
        else:
            await asyncio.to_thread(migrate, location)
    except OSError as error:
        # Its URL may hold a password.
        where = "PostgreSQL" if settings.uses_postgres else location
        raise StartError(f"cannot open the database {where}: {error.strerror}") from error
    except SchemaError as error:
        raise StartError(str(error)) from error
    database: Database
    if settings.uses_postgres:
        # Importing the driver takes 0.1 s, and it is an extra.
        from recollect_server.stores.sql.postgres import PostgresDatabase

        database = PostgresDatabase(str(location), SYNCHRONOUS_COMMIT[settings.durability])
    else:
        database = SqliteDatabase(settings.sqlite_path, SYNCHRONOUS[settings.durability])
    stack.push_async_callback(database.close)
    return database


def open_audit_key(settings: Settings) -> AuditKey:
    """Return the key that signs audit chains: the one that is set, or the data directory's.

    Raises:
        StartError: what is set, or lies there, is no such key.
        OSError: there is none and none can be made.
    """
    given = settings.audit_key.get_secret_value()
    try:
        return AuditKey.from_pem(given) if given else AuditKey.open(settings.data_dir)
    except AuditKeyError as error:
        raise StartError(str(error)) from error


async def open_valkey(stack: AsyncExitStack, settings: Settings) -> tuple[str, str]:
    """Return the URLs for state and for answers, of a server of our own if none is named."""
    state_url = settings.state_url.get_secret_value()
    cache_url = settings.cache_url.get_secret_value() or state_url
    if not state_url or not cache_url:
        embedded = EmbeddedValkey(settings.data_dir, max_memory=settings.valkey_bytes)
        try:
            await embedded.start()
        except OSError as error:
            raise StartError(
                f"cannot use the data folder {settings.data_dir}: {error.strerror}"
            ) from error
        except EmbeddedStartError as error:
            raise StartError(str(error)) from error
        stack.push_async_callback(embedded.stop)
        state_url, cache_url = state_url or embedded.url, cache_url or embedded.url
    return state_url, cache_url


def connect_valkey(stack: AsyncExitStack, url: str, timeout: float = 1.0) -> Client:
    """Return a client; it connects when it is first used.

    Args:
        timeout: seconds the server may be silent.

    Raises:
        StartError: there is no such server's address.
    """
    try:
        client = connect(url, command_timeout=timeout)
    except ValueError as error:
        raise StartError(str(error)) from error
    stack.push_async_callback(client.close)
    return client


def open_limits(settings: Settings) -> tuple[LimitsFile | None, AllLimits]:
    """Return the file of limits, None if none is set, and what it holds."""
    if settings.limits_file is None:
        return None, AllLimits()
    file = LimitsFile(settings.limits_file)
    try:
        return file, file.read()
    except LimitsFileError as error:
        raise StartError(str(error)) from error


def open_activity(settings: Settings) -> Activity:
    """Return what knows whether calls keep this process busy, and those it shares a file with."""
    try:
        return Activity(settings.activity_file)
    except OSError as error:
        text = f"cannot use the activity file {settings.activity_file}: {error.strerror}"
        raise StartError(text) from error


def open_quotas(
    stack: AsyncExitStack,
    settings: Settings,
    limits: AllLimits,
    database: Database,
    state_url: str,
) -> Quotas:
    """Return what enforces the limits; they are counted where the windows are kept."""
    circuit = Circuit()
    stack.push_async_callback(circuit.close)
    client = connect_valkey(stack, state_url, settings.cache_timeout)
    shared = ValkeyBuckets(ImpatientClient(client, circuit))
    return Quotas(
        SharedBuckets(shared, OwnBuckets(time.monotonic)),
        SqlStoredCounts(database),
        limits,
    )


class OpenEmbedder(Embedder, Protocol):
    """An embedder that holds on to something."""

    async def close(self) -> None:
        """Let go of it."""


async def open_embedder(
    stack: AsyncExitStack, settings: Settings, *, background: bool = False
) -> Embedder:
    """Open the embedder of queries, or with `background` that of what is stored.

    They are apart so that what is stored never keeps a query waiting.
    """
    embedder = await asyncio.to_thread(_make_embedder, settings, background)
    stack.push_async_callback(embedder.close)
    return embedder


def _make_embedder(settings: Settings, background: bool) -> OpenEmbedder:
    kind, model = settings.embedder_choice
    threads, cached = settings.embedding_threads, 0 if background else CACHED_TEXTS
    if kind == "sentence-transformers":
        # Importing torch takes seconds, and it is an extra.
        from recollect_server.models.sentence_transformers import (
            ModelNotLoaded,
            SentenceTransformersEmbedder,
        )

        try:
            return SentenceTransformersEmbedder(model, threads, cached, background=background)
        except ModelNotLoaded as error:
            raise StartError(str(error)) from error
    if kind == "openai":
        try:
            return OpenAiEmbedder(
                settings.openai_key(),
                model=model or EMBEDDING_MODEL,
                dimensions=settings.embedding_dimensions,
                base_url=settings.openai_base_url or BASE_URL,
                background=background,
            )
        except (OSError, ValueError) as error:
            raise StartError(f"embedder {settings.embedder}: {error}") from error
    return MiniLmEmbedder(threads, cached, background=background)


async def open_queue(database: Database, embedder: Embedder) -> SqlEmbeddingQueue:
    """Return the queue of texts to embed, by this embedder's model from now on."""
    queue = SqlEmbeddingQueue(database, utc_now)
    try:
        await queue.use_model(embedder.model)
    except Unavailable as error:
        raise StartError(error.message) from error
    return queue


def open_chat_model(
    stack: AsyncExitStack, settings: Settings, watch: Callable[[ChatModel], ChatModel]
) -> tuple[ChatModel, str]:
    """Return the provider and a sentence about it.

    Args:
        watch: what a provider that is called over a network is put into.
    """
    provider = provider_of(settings)
    if provider == "offline":
        return OfflineModel(), OFFLINE_NOTICE if not settings.chat_provider else "Chat is offline."
    model = watch(_make_chat_model(settings, provider, settings.chat_model))
    fallback = None
    if settings.chat_fallback:
        other, named, name = settings.chat_fallback.rpartition(":")
        at = model if not named else watch(_make_chat_model(settings, other, name))
        fallback = (at, name)
    guarded = GuardedModel(model, fallback)
    stack.push_async_callback(guarded.close)
    return guarded, f"Chat by {PROVIDERS[provider]}, {guarded.default_model}."


def provider_of(settings: Settings) -> str:
    """Return `anthropic`, `openai` or `offline`."""
    if settings.chat_provider:
        return settings.chat_provider
    if settings.anthropic_key():
        return "anthropic"
    return "openai" if settings.openai_key() else "offline"


def _make_chat_model(settings: Settings, provider: str, name: str) -> ChatModel:
    """Return a provider's models, opened at the first call. Raises `StartError`."""
    known: dict[str, tuple[type[ApiModel], str, str]] = {
        "anthropic": (AnthropicModel, settings.anthropic_key(), settings.anthropic_base_url),
        "openai": (OpenAiModel, settings.openai_key(), settings.openai_base_url),
    }
    if provider not in known:
        raise StartError(f"no provider is called {provider!r}: anthropic and openai are")
    kind, key, base_url = known[provider]
    if not key:
        raise StartError(f"chat by {provider} needs {provider.upper()}_API_KEY")
    return kind(key, default_model=name, base_url=base_url or None, timeout=settings.model_timeout)


def small_model_of(model: ChatModel, settings: Settings) -> str:
    """Return the name of the small model for background work."""
    own = SMALL_CHAT_MODEL if model.name == "openai" else SMALL_MODEL
    return settings.small_model or own


def chat_defaults(settings: Settings) -> dict[str, ChatDefaults]:
    """Return what turns start from, by tenant."""
    return {
        tenant: ChatDefaults(
            model=its.chat.model,
            system=its.chat.system,
            parameters=ModelParameters(
                its.chat.temperature, its.chat.max_tokens, tuple(its.chat.stop)
            ),
        )
        for tenant, its in settings.tenants.items()
    }


def summarizer_of(model: ChatModel, settings: Settings) -> Summarizer:
    """Return who summarises: the provider's small model, or without a provider quoting."""
    if isinstance(model, OfflineModel):
        return ExtractiveSummarizer()
    return ModelSummarizer(model, small_model_of(model, settings))


def extractor_of(model: ChatModel, settings: Settings) -> FactExtractor:
    """Return who finds facts: the provider's small model, or without a provider quoting."""
    if isinstance(model, OfflineModel):
        return VerbatimExtractor()
    return ModelExtractor(model, small_model_of(model, settings))


def judge_of(model: ChatModel, settings: Settings) -> Judge | None:
    """Return who compares facts: the provider's small model, or None for rules alone."""
    if isinstance(model, OfflineModel):
        return None
    return ModelJudge(model, small_model_of(model, settings))
