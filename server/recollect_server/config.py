"""Settings, made once at start and passed down: flags, then environment, then a TOML file."""

import os
import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    DirectoryPath,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from recollect_server.access import AccessSettings, is_local, none_if_empty, words

MIB = 1024 * 1024


EMBEDDERS = ("minilm", "sentence-transformers", "openai")

DATABASE_SCHEMES = ("postgresql://", "postgres://", "sqlite:///")


CLIENT_VARIABLES = {f"RECOLLECT_{name}" for name in ("ADDRESS", "API_KEY", "USER_ID", "TLS")}
"""What clients read, the commands that call a server among them."""

_OF_A_SERVICE = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT|_PORT$|_PORT_\d")
"""Variables that Kubernetes sets for each service, whose name may begin with ours."""


class Durability(StrEnum):
    """What an acknowledged write survives: `full` a power cut, `relaxed` a crash of the process."""

    FULL = "full"
    RELAXED = "relaxed"


class VectorStoreKind(StrEnum):
    """What finds candidates by meaning; `exact` is this process's own memory."""

    EXACT = "exact"
    CHROMA = "chroma"
    QDRANT = "qdrant"
    PGVECTOR = "pgvector"


_NO_FOLDER = re.compile(r"[^/]+:\d+/?")
"""HOST:PORT, where a URL's scheme was forgotten: nobody means a folder of such a name."""


def _named(name: str, *usual: str) -> AliasChoices:
    """Accept a setting by its own name, as RECOLLECT_NAME, and by names that others use too."""
    return AliasChoices(name, f"RECOLLECT_{name.upper()}", *usual)


class TenantChatSettings(BaseModel):
    """What a tenant's turns start from; a turn's own options win."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = ""
    system: str = ""
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: tuple[str, ...] = ()


class TenantSettings(BaseModel):
    """Settings of one tenant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chat: TenantChatSettings = TenantChatSettings()


class Settings(AccessSettings):
    """Everything that can be set, with `AccessSettings`. `recollect serve --help` lists the flags.

    Attributes:
        health_listen: HOST:PORT of a plain-text address that serves nothing but health, for probes
            that speak neither TLS nor keys; empty for none.
        metrics_listen: HOST:PORT of a plain-text HTTP address that serves Prometheus metrics at any
            path; empty for none.
        traces_endpoint: the OTLP/HTTP address of a collector, as in http://HOST:4318; empty for no
            traces. They need the extra `otel`.
        traces_sample: the share of calls that are traced of those whose caller says nothing.
        secrets_dir: a folder of files, each named like a setting's environment variable and
            holding its value, such as a mounted Kubernetes Secret. The environment wins.
        database_url: PostgreSQL, or another place for the SQLite file; empty means in `data_dir`.
        data_dir: the SQLite file and the embedded Valkey's socket and log.
        state_url: Valkey or Redis for windows; empty starts an embedded Valkey.
        cache_url: Valkey or Redis for answers; empty means the same as `state_url`.
        vector_store: empty means the one whose URL is set, or what `recollect reindex` chose.
        chromadb_url: http://HOST:PORT of a Chroma server, or the path of a folder for an embedded
            one.
        qdrant_url: http://HOST:PORT of a Qdrant server, grpc://HOST:PORT, or the path of a folder
            for its client's local mode.
        vector_store_api_key: for a server of either.
        anthropic_api_key: switches the Anthropic provider on.
        openai_api_key: switches the OpenAI provider on, if there is no Anthropic key.
        openai_base_url: OpenAI's API or another that speaks it, as in https://HOST/v1; empty
            means OpenAI's.
        chat_provider: anthropic, openai or offline; empty means the first one with a key.
        chat_model: the model of a turn that names none; empty means the provider's.
        chat_fallback: the model that answers when that one's API does not, as in claude-haiku-4-5,
            or of another provider, as in openai:gpt-5-mini.
        model_timeout: seconds in which a model must begin to answer, retries included.
        tenants: what turns of a tenant start from, in the TOML file: [tenants.NAME.chat].
        limits_file: limits of tenants and users, as `admin.limits.AllLimits` are written.
        grace_seconds: how long running calls may go on after SIGTERM.
        audit: the calls that are recorded, as in `admin,writes,Recall`: methods, or groups of them:
            reads, writes and admin; `none` for none.
        audit_days: how long audit events are kept; 0 means for ever.
        audit_key: the Ed25519 key, in PEM, that signs audit chains; empty makes one in `data_dir`.
        audit_heads: a file that the signed heads of audit chains are appended to.
        index_bytes: memory for resident indexes.
        window_bytes: memory for recent windows.
        workers: server processes behind one port; `recollect serve` then keeps them running.
        share_port: let other processes of this user listen on the same port, by SO_REUSEPORT.
        worker: do background work in the server's process; `recollect worker` does it apart.
        activity_file: through which processes of one machine know of each other that calls keep one
            busy, so that background work stands back; `workers` are given one.
        small_model: the model for summaries; empty means the provider's small one.
        summary_recent: messages that a summary leaves alone; twice as many make the next one due.
        summary_tokens: estimated tokens without a summary that make the next one due.
        extract_every: messages after which facts are drawn from a session.
        episode_idle_seconds: a session idle for so long becomes an episode.
        cache_entries: most answers of a user, and of the tenant in scope GLOBAL.
        cache_bytes: most bytes of them, at least 8 MiB.
        cache_timeout: seconds that a lookup waits for Valkey before it misses.
        mirror_bytes: memory for vectors of answers, where Valkey has no search module.
        valkey_bytes: memory for the embedded Valkey.
        embedder: minilm, sentence-transformers:NAME or openai[:MODEL].
        embedding_threads: 0 means one for each core.
        embedding_dimensions: length of openai's vectors; 0 means the model's own.
    """

    model_config = SettingsConfigDict(
        env_prefix="RECOLLECT_", frozen=True, extra="forbid", populate_by_name=True
    )

    health_listen: str = ""
    metrics_listen: str = ""
    traces_endpoint: str = Field(
        "", validation_alias=_named("traces_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    traces_sample: float = Field(1.0, ge=0, le=1)
    secrets_dir: DirectoryPath | None = None
    data_dir: Path = Path("recollect-data")
    database_url: SecretStr = Field(
        SecretStr(""), validation_alias=_named("database_url", "DATABASE_URL")
    )
    state_url: SecretStr = Field(
        SecretStr(""), validation_alias=_named("state_url", "REDIS_URL", "VALKEY_URL")
    )
    cache_url: SecretStr = SecretStr("")
    durability: Durability = Durability.FULL
    vector_store: VectorStoreKind | None = None
    chromadb_url: str = Field("", validation_alias=_named("chromadb_url", "CHROMADB_URL"))
    qdrant_url: str = Field("", validation_alias=_named("qdrant_url", "QDRANT_URL"))
    vector_store_api_key: SecretStr = Field(
        SecretStr(""), validation_alias=_named("vector_store_api_key", "QDRANT_API_KEY")
    )
    anthropic_api_key: SecretStr = Field(
        SecretStr(""), validation_alias=_named("anthropic_api_key", "ANTHROPIC_API_KEY")
    )
    anthropic_base_url: str = Field(
        "", validation_alias=_named("anthropic_base_url", "ANTHROPIC_BASE_URL")
    )
    openai_api_key: SecretStr = Field(
        SecretStr(""), validation_alias=_named("openai_api_key", "OPENAI_API_KEY")
    )
    openai_base_url: str = Field("", validation_alias=_named("openai_base_url", "OPENAI_BASE_URL"))
    chat_provider: str = Field("", pattern="^(|anthropic|openai|offline)$")
    chat_model: str = ""
    chat_fallback: str = ""
    model_timeout: float = Field(30.0, gt=0)
    tenants: dict[str, TenantSettings] = Field(default_factory=dict)
    limits_file: Path | None = None
    allow_global_cache: bool = False
    max_message_bytes: int = Field(MIB, gt=0)
    max_request_bytes: int = Field(4 * MIB, gt=0)
    max_connection_age: float = Field(0.0, ge=0)
    grace_seconds: float = Field(30.0, ge=0)
    audit: Annotated[tuple[str, ...], NoDecode] = ("admin",)
    audit_days: float = Field(0.0, ge=0)
    audit_key: SecretStr = SecretStr("")
    audit_heads: Path | None = None
    index_bytes: int = Field(256 * MIB, gt=0)
    cache_entries: int = Field(10_000, gt=0)
    cache_bytes: int = Field(64 * MIB, ge=8 * MIB)
    cache_timeout: float = Field(0.04, gt=0)
    mirror_bytes: int = Field(128 * MIB, gt=0)
    valkey_bytes: int = Field(256 * MIB, gt=0)
    embedder: str = "minilm"
    embedding_threads: int = Field(0, ge=0)
    embedding_dimensions: int = Field(0, ge=0, le=65_536)
    window_bytes: int = Field(64 * MIB, gt=0)
    workers: int = Field(1, ge=1, le=256)
    share_port: bool = False
    worker: bool = True
    activity_file: Path | None = None
    small_model: str = ""
    summary_recent: int = Field(6, ge=1, le=1000)
    summary_tokens: int = Field(2000, ge=100)
    extract_every: int = Field(10, ge=1)
    episode_idle_seconds: float = Field(1800.0, gt=0)
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    log_format: str = Field("console", pattern="^(console|json)$")

    @field_validator(
        *("secrets_dir", "vector_store", "limits_file", "audit_heads", "activity_file"),
        mode="before",
    )
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return none_if_empty(value)

    @field_validator("audit", mode="before")
    @classmethod
    def _split_audit(cls, value: Any) -> Any:
        return words(value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        url = self.database_url.get_secret_value()
        if url and not url.startswith(DATABASE_SCHEMES):
            raise ValueError("database_url must be postgresql://... or sqlite:///PATH")
        self._check_urls()
        self._check_vector_store()
        self._check_embedder()
        self._check_workers()
        return self

    def _check_urls(self) -> None:
        for name in ("traces_endpoint", "anthropic_base_url", "openai_base_url"):
            given = getattr(self, name)
            url = urlsplit(given)
            if given and not (url.scheme in ("http", "https") and url.hostname):
                raise ValueError(f"{name} must be http://HOST:PORT or https://HOST:PORT")
        for name in ("chromadb_url", "qdrant_url"):
            if _NO_FOLDER.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must be http://HOST:PORT, or the path of a folder")

    def _check_workers(self) -> None:
        if (self.workers > 1 or self.share_port) and self.listen.startswith("unix"):
            raise ValueError("listen must be HOST:PORT where processes share it")
        if self.workers > 1 and self.vector_store_url.startswith(("chroma:///", "qdrant:///")):
            raise ValueError(
                "workers must be 1 with a vector store in a folder, which one process opens: run a "
                "server of it"
            )

    def _check_embedder(self) -> None:
        kind, model = self.embedder_choice
        if kind not in EMBEDDERS or (kind == "minilm" and self.embedder != kind):
            raise ValueError(
                "embedder must be minilm, sentence-transformers:NAME or openai[:MODEL]"
            )
        if kind == "sentence-transformers" and not model:
            raise ValueError(
                "embedder sentence-transformers needs a model's name or folder: "
                "sentence-transformers:NAME"
            )
        if self.embedding_dimensions and kind != "openai":
            raise ValueError("embedding_dimensions goes with embedder openai alone")
        if kind != "openai":
            return
        if not self.openai_api_key.get_secret_value():
            raise ValueError("embedder openai needs OPENAI_API_KEY")
        url = urlsplit(self.openai_base_url)
        if url.scheme == "http" and not (is_local(f"{url.hostname}:0") or self.insecure):
            raise ValueError(
                "openai_base_url would send the key and what is stored in plain text: use https, "
                "or --insecure to say that the network is trusted"
            )

    @property
    def embedder_choice(self) -> tuple[str, str]:
        """The kind of embedder and its model, "" for the kind's own."""
        kind, _, model = self.embedder.partition(":")
        return kind, model

    def _check_vector_store(self) -> None:
        if self.vector_store is None and self.chromadb_url and self.qdrant_url:
            raise ValueError("vector_store must say which of chromadb_url and qdrant_url to use")
        if self.vector_store is VectorStoreKind.PGVECTOR and not self.uses_postgres:
            raise ValueError("vector_store pgvector needs database_url to be postgresql://...")
        for kind in (VectorStoreKind.CHROMA, VectorStoreKind.QDRANT):
            if self.vector_store is kind and kind not in self.vector_store_urls:
                name = "chromadb_url" if kind is VectorStoreKind.CHROMA else "qdrant_url"
                raise ValueError(f"vector_store {kind} needs {name}")

    @property
    def vector_store_urls(self) -> dict[VectorStoreKind, str]:
        """The URLs of the stores that may be used, as `Reindex` names them."""
        found = {VectorStoreKind.EXACT: "exact:"}
        if self.uses_postgres:
            found[VectorStoreKind.PGVECTOR] = "pgvector:"
        if self.chromadb_url:
            found[VectorStoreKind.CHROMA] = _store_url("chroma", self.chromadb_url)
        if self.qdrant_url:
            found[VectorStoreKind.QDRANT] = _store_url("qdrant", self.qdrant_url)
        return found

    @property
    def vector_store_url(self) -> str:
        """The URL of the store to use, "" if the settings do not say."""
        kind = self.vector_store
        if kind is None and self.chromadb_url:
            kind = VectorStoreKind.CHROMA
        if kind is None and self.qdrant_url:
            kind = VectorStoreKind.QDRANT
        return "" if kind is None else self.vector_store_urls[kind]

    @property
    def sqlite_path(self) -> Path:
        """The SQLite file."""
        url = self.database_url.get_secret_value()
        return Path(url.removeprefix("sqlite:///")) if url else self.data_dir / "recollect.db"

    @property
    def uses_postgres(self) -> bool:
        """Whether the database is PostgreSQL."""
        return self.database_url.get_secret_value().startswith("postgres")

    @property
    def database_location(self) -> str | Path:
        """PostgreSQL's URL, or the path of the SQLite file."""
        return self.database_url.get_secret_value() if self.uses_postgres else self.sqlite_path

    def anthropic_key(self) -> str:
        """The Anthropic API key, "" for none."""
        return self.anthropic_api_key.get_secret_value()

    def openai_key(self) -> str:
        """The OpenAI API key, "" for none."""
        return self.openai_api_key.get_secret_value()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags win over the environment, that over files of secrets, and these over TOML."""
        toml = TomlConfigSettingsSource(settings_cls)
        return init_settings, env_settings, file_secret_settings, toml


def _store_url(kind: str, given: str) -> str:
    """Return the URL of a store whose kind is known; a path is one of a folder."""
    if given.startswith((f"{kind}+", f"{kind}:///")):
        return given
    if "://" in given:
        return f"{kind}+{given.rstrip('/')}"
    return f"{kind}://{Path(given).absolute()}"


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """Return the names among these that look like a setting's and are none."""
    known = VARIABLES | CLIENT_VARIABLES
    return sorted(
        name
        for name in environment
        if name.upper().startswith("RECOLLECT_")
        and name.upper() not in known
        and not _OF_A_SERVICE.search(name)
    )


def unknown_secrets(folder: Path | None) -> list[str]:
    """Return the names of files in a folder of secrets that are no setting's."""
    if folder is None:
        return []
    # A mounted Secret has hidden folders of its own.
    names = (file.name for file in folder.iterdir() if not file.name.startswith("."))
    return sorted(name for name in names if name.upper() not in VARIABLES)


def _variables() -> Iterable[str]:
    for name, field in Settings.model_fields.items():
        yield f"RECOLLECT_{name.upper()}"
        if isinstance(field.validation_alias, AliasChoices):
            yield from (str(choice).upper() for choice in field.validation_alias.choices)


VARIABLES = frozenset(_variables())
"""Every environment variable that is a setting."""


def load(config_file: Path | None = None, **flags: Any) -> Settings:
    """Return the settings.

    Args:
        config_file: a TOML file whose keys are the settings' names.
        flags: settings given on the command line.

    Raises:
        ValueError: a setting is wrong, or the file is none; the text names it.
        OSError: the file cannot be read.
    """

    secrets = flags.get("secrets_dir") or os.environ.get("RECOLLECT_SECRETS_DIR")

    class WithFile(Settings):
        model_config = SettingsConfigDict(
            toml_file=config_file,
            # One that is not there is refused with the other settings.
            secrets_dir=secrets if secrets and Path(secrets).is_dir() else None,
        )

    given = {name: value for name, value in flags.items() if value is not None}
    return WithFile(**given)
