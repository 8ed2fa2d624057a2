"""Settings: flags, then environment, then file; unsafe combinations are refused."""

import pytest
from pydantic import SecretStr, ValidationError

from recollect_server import config
from recollect_server.cli.run import load_settings
from recollect_server.cli.serve import serve, worker


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in (
        *("REDIS_URL", "VALKEY_URL", "ANTHROPIC_API_KEY", "DATABASE_URL", "OPENAI_API_KEY"),
        *("CHROMADB_URL", "QDRANT_URL", "QDRANT_API_KEY"),
    ):
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_local_and_embedded():
    settings = config.load()
    assert settings.listen == "127.0.0.1:50051"
    assert settings.state_url.get_secret_value() == ""
    assert settings.anthropic_key() == ""


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file(tmp_path, monkeypatch):
    file = tmp_path / "recollect.toml"
    file.write_text('listen = "127.0.0.1:1"\ndata_dir = "from-file"\nlog_level = "debug"\n')
    monkeypatch.setenv("RECOLLECT_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("RECOLLECT_DATA_DIR", "from-env")
    settings = config.load(file, listen="127.0.0.1:3")
    assert settings.listen == "127.0.0.1:3"
    assert str(settings.data_dir) == "from-env"
    assert settings.log_level == "debug"


@pytest.mark.parametrize("setting", ["listen", "health_listen", "metrics_listen"])
@pytest.mark.parametrize("wrong", ["nonsense", ":50051", "127.0.0.1:65536", "127.0.0.1:http", "h:"])
def test_an_address_that_is_none_is_refused(setting, wrong):
    with pytest.raises(ValidationError, match=f"{setting}\n.*must be HOST:PORT"):
        config.load(**{setting: wrong})


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("listen = \n", "Invalid value (at line 1, column 10)"),
        ("lisen = 'x'\n", "lisen: there is no such setting"),
        ("[tenants.a.chat]\nmodle = 'x'\n", "tenants.a.chat.modle: there is no such setting"),
        ("\xff", "can't decode"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, capsys, file, said):
    path = tmp_path / "recollect.toml"
    path.write_bytes(file.encode("latin-1"))
    with pytest.raises(SystemExit) as ended:
        load_settings(path)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("name", ["REDIS_URL", "VALKEY_URL", "RECOLLECT_STATE_URL"])
def test_the_usual_names_of_a_redis_are_known(name, monkeypatch):
    monkeypatch.setenv(name, "redis://example:6379")
    assert config.load().state_url.get_secret_value() == "redis://example:6379"


def test_every_setting_is_a_flag_but_secrets_and_tables():
    flags = {parameter.name for parameter in serve.params}
    others = {
        name
        for name, field in config.Settings.model_fields.items()
        if name not in flags and field.annotation is not SecretStr
    }
    assert others == {"tenants", "certificates"}
    assert flags - set(config.Settings.model_fields) == {"config_file", "ready_file"}
    assert {p.name for p in worker.params} <= flags


def test_a_secret_is_read_from_its_file_and_not_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from-env")
    assert "from-env" not in repr(config.load())
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    (tmp_path / "ANTHROPIC_API_KEY").write_text("from-file\n")
    assert config.load(secrets_dir=tmp_path).anthropic_key() == "from-file"


def test_a_variable_that_is_empty_names_no_file_and_no_store(monkeypatch):
    optional = [n for n, field in config.Settings.model_fields.items() if field.default is None]
    assert {"tls_cert", "secrets_dir", "limits_file", "vector_store"} <= set(optional)
    for name in optional:
        monkeypatch.setenv(f"RECOLLECT_{name.upper()}", "")
    settings = config.load()
    assert [name for name in optional if getattr(settings, name) is not None] == []


def test_a_folder_of_secrets_is_read_as_it_is_mounted(tmp_path, monkeypatch):
    versioned = tmp_path / "..2026"
    versioned.mkdir()
    (versioned / "DATABASE_URL").write_text("postgresql://hidden/db\n")
    (versioned / "RECOLLECT_CACHE_URL").write_text("redis://hidden:1\n")
    (versioned / "RECOLLECT_LISTEN").write_text("127.0.0.1:1")
    (versioned / "unrelated").write_text("x")
    for name in ("DATABASE_URL", "RECOLLECT_CACHE_URL", "RECOLLECT_LISTEN", "unrelated"):
        (tmp_path / name).symlink_to(versioned / name)
    monkeypatch.setenv("RECOLLECT_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("RECOLLECT_LISTEN", "127.0.0.1:2")
    settings = config.load()
    assert settings.database_url.get_secret_value() == "postgresql://hidden/db"
    assert settings.cache_url.get_secret_value() == "redis://hidden:1"
    assert settings.listen == "127.0.0.1:2"
    assert "hidden" not in repr(settings)


def test_files_of_secrets_that_are_no_settings_are_found(tmp_path):
    (tmp_path / "..data").mkdir()
    for name in ("DATABASE_URL", "recollect_audit_key", "DATABSE_URL", "RECOLLECT_STATE_ULR"):
        (tmp_path / name).write_text("")
    assert config.unknown_secrets(tmp_path) == ["DATABSE_URL", "RECOLLECT_STATE_ULR"]
    assert config.unknown_secrets(None) == []


def test_a_folder_of_secrets_must_be_there(tmp_path):
    with pytest.raises(ValidationError, match="secrets_dir"):
        config.load(secrets_dir=tmp_path / "none")


@pytest.mark.parametrize("listen", ["0.0.0.0:50051", "10.1.2.3:1", "[::]:50051", "host.example:1"])
def test_a_public_address_needs_tls_and_keys_or_insecure(listen, tmp_path):
    pem = tmp_path / "pem"
    pem.write_text("")
    with pytest.raises(ValidationError, match="needs TLS"):
        config.load(listen=listen)
    with pytest.raises(ValidationError, match="needs TLS"):
        config.load(listen=listen, auth="api-key")
    config.load(listen=listen, insecure=True)
    config.load(listen=listen, auth="api-key", tls_cert=pem, tls_key=pem)


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:0", "127.9.9.9:1", "[::1]:50051", "localhost:1", "unix:/tmp/r.sock"]
)
def test_a_local_address_needs_neither(listen):
    assert config.load(listen=listen).listen == listen


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"log_level": "loud"}, "log_level"),
        ({"max_message_bytes": 0}, "max_message_bytes"),
        ({"database_url": "mysql://x"}, "database_url"),
        ({"colour": "red"}, "colour"),
        ({"traces_endpoint": "collector:4318"}, "traces_endpoint must be"),
        ({"anthropic_base_url": "proxy.example"}, "anthropic_base_url must be"),
        ({"chromadb_url": "chroma:8000"}, "chromadb_url must be http"),
        ({"qdrant_url": "localhost:6333/"}, "qdrant_url must be http"),
    ],
)
def test_a_wrong_setting_is_named(flags, text):
    with pytest.raises(ValidationError, match=text):
        config.load(**flags)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedder": "word2vec"}, "embedder must be minilm"),
        ({"embedder": "minilm:other"}, "embedder must be minilm"),
        ({"embedder": ""}, "embedder must be minilm"),
        ({"embedder": "sentence-transformers"}, "needs a model's name"),
        ({"embedder": "sentence-transformers:"}, "needs a model's name"),
        ({"embedder": "openai"}, "needs OPENAI_API_KEY"),
        ({"embedding_dimensions": 256}, "goes with embedder openai"),
        (
            {"embedder": "openai", "openai_api_key": "k", "openai_base_url": "http://models/v1"},
            "in plain text",
        ),
        (
            {"embedder": "openai", "openai_api_key": "k", "openai_base_url": "models"},
            "openai_base_url must be",
        ),
    ],
)
def test_an_embedder_that_cannot_work_or_is_not_safe_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        config.load(**settings)


@pytest.mark.parametrize(
    ("more", "choice"),
    [
        ({}, ("minilm", "")),
        ({"embedder": "sentence-transformers:org/name"}, ("sentence-transformers", "org/name")),
        ({"embedder": "openai"}, ("openai", "")),
        ({"embedder": "openai:m", "openai_base_url": "http://127.0.0.1:9/v1"}, ("openai", "m")),
        (
            {"embedder": "openai", "openai_base_url": "http://models/v1", "insecure": True},
            ("openai", ""),
        ),
    ],
)
def test_an_embedder_is_chosen_by_its_kind_and_model(more, choice):
    assert config.load(openai_api_key="k", **more).embedder_choice == choice


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, ""),
        ({"chromadb_url": "http://chroma:8000/"}, "chroma+http://chroma:8000"),
        ({"qdrant_url": "grpc://qdrant:6334"}, "qdrant+grpc://qdrant:6334"),
        ({"qdrant_url": "/var/vectors"}, "qdrant:///var/vectors"),
        ({"chromadb_url": "http://c:1", "vector_store": "exact"}, "exact:"),
        (
            {"chromadb_url": "http://c:1", "qdrant_url": "http://q:1", "vector_store": "qdrant"},
            "qdrant+http://q:1",
        ),
        ({"database_url": "postgresql://h/d", "vector_store": "pgvector"}, "pgvector:"),
    ],
)
def test_the_vector_store_is_the_one_that_is_named_or_set(given, url):
    assert config.load(**given).vector_store_url == url


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"chromadb_url": "http://c:1", "qdrant_url": "http://q:1"}, "vector_store must say"),
        ({"vector_store": "pgvector"}, "database_url"),
        ({"vector_store": "chroma"}, "chromadb_url"),
        ({"vector_store": "qdrant", "chromadb_url": "http://c:1"}, "qdrant_url"),
    ],
)
def test_a_vector_store_that_cannot_be_is_refused(given, named):
    with pytest.raises(ValueError, match=named):
        config.load(**given)
