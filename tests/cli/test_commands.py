"""The commands that talk to a server."""

import subprocess
import sys

from tests.certificates import write_localhost
from tests.harness import RunningServer, clean_environment, unique


def _recollect(
    *arguments: str, said: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recollect_server", *arguments],
        input=said,
        capture_output=True,
        text=True,
        env=clean_environment() | environment,
        timeout=60,
        check=False,
    )


def test_what_is_remembered_is_recalled_and_explained(server):
    who = ("--target", server.address, "--user", unique("ada"))
    remembered = _recollect("remember", "Allergic to peanuts", "Ada lives in Lisbon", *who)
    assert remembered.returncode == 0, remembered.stderr
    assert len(remembered.stdout.splitlines()) == 2
    recalled = _recollect("recall", "who lives in Portugal?", "--explain", *who)
    assert recalled.returncode == 0, recalled.stderr
    assert "Ada lives in Lisbon" in recalled.stdout.splitlines()[0]
    score, *addends = (line.split() for line in recalled.stdout.splitlines()[:2])
    assert addends[0][1] in ("words", "meaning")
    assert 0 < float(addends[0][0]) <= float(score[0]) + 0.01
    assert _recollect("recall", "anything", "--target", server.address).returncode == 0


def test_facts_are_listed_with_their_history_and_forgotten(server):
    who = ("--target", server.address, "--user", unique("ada"))
    first = _recollect("remember", "I live in Paris", "--kind", "profile", *who)
    paris = first.stdout.split()[0]
    second = _recollect("remember", "I live in Berlin", "--reconcile", *who)
    assert "  superseded  I live in Berlin" in second.stdout
    berlin = second.stdout.split()[0]
    assert _recollect("facts", "list", *who).stdout.splitlines()[0].startswith(berlin)
    closed = _recollect("facts", "list", "--all", "--kind", "profile", *who).stdout
    assert closed.startswith(paris)
    told = _recollect("facts", "history", paris, *who).stdout
    assert f"superseded by {berlin}" in told
    assert _recollect("facts", "forget", berlin, *who).returncode == 0
    assert _recollect("facts", "list", *who).stdout == ""


def test_chat_shows_what_was_recalled_and_who_answered(server):
    who = ("--target", server.address, "--user", unique("ada"))
    _recollect("remember", "Allergic to peanuts", *who)
    first = _recollect("chat", *who, said="Am I allergic to peanuts?\n\n")
    assert first.returncode == 0, first.stderr
    assert "offline" in first.stdout.splitlines()[0]
    assert "Allergic to peanuts" in first.stdout
    assert "from offline in" in first.stdout
    assert "1 facts" in first.stdout
    second = _recollect("chat", *who, said="Am I allergic to peanuts?\n")
    assert "from cache (EXACT) in" in second.stdout


def test_answers_are_listed_counted_and_removed(server):
    name = unique("ada")
    who = ("--target", server.address, "--user", name)
    for question in ("Am I allergic to peanuts?", "Where do I live?", "Where do I live?"):
        assert _recollect("chat", *who, said=f"{question}\n").returncode == 0
    listed = _recollect("cache", "list", *who)
    assert listed.returncode == 0, listed.stderr
    assert ["Where do I live?" in line for line in listed.stdout.splitlines()] == [True, False]
    stats = _recollect("cache", "stats", *who)
    assert stats.returncode == 0, stats.stderr
    shown = dict(line.split(maxsplit=1) for line in stats.stdout.splitlines())
    assert shown["lookups"].startswith("3, median ")
    assert shown["hits"] == "1 (33.3%): 1 exact, 0 semantic"
    assert (shown["misses"], shown["entries"].split(",")[0]) == ("2", "2")
    like = ("cache", "invalidate", "--like", "Where do I live, please?", *who)
    assert _recollect(*like, "--dry-run").stdout == "1 would be removed\n"
    assert _recollect(*like).stdout == "1 removed\n"
    assert _recollect("cache", "invalidate", "--all", *who).stdout == "1 removed\n"
    assert _recollect("cache", "list", *who).stdout == ""
    for wrong in ((), ("--tag", "t", "--all"), ("--tag", "t", "--session", "s")):
        refused = _recollect("cache", "invalidate", *wrong, *who)
        assert (refused.returncode, refused.stdout) == (2, "")


def test_a_failure_is_one_line_and_exit_code_1(server):
    no_server = _recollect("recall", "x", "--target", "127.0.0.1:1")
    assert no_server.returncode == 1
    assert "recollect serve" in no_server.stderr
    unknown = _recollect("chat", "--session", "none", "--target", server.address, said="x\n")
    assert unknown.returncode == 1
    assert "'none' does not exist" in unknown.stderr
    for done in (no_server, unknown):
        assert "Traceback" not in done.stderr


def test_a_store_that_is_down_is_not_called_a_server_that_is_missing():
    with RunningServer(environment={"VALKEY_URL": "valkey://127.0.0.1:1"}) as running:
        failed = _recollect("cache", "stats", "--target", running.address)
    assert failed.returncode == 1
    assert "does not answer" in failed.stderr
    assert "no server at" not in failed.stderr


def test_help_lists_every_command_without_loading_the_server():
    code = (
        "import sys; from recollect_server.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'grpc' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("serve", "chat", "remember", "recall", "cache", "keys", "bench"):
        assert f"  {command} " in done.stdout


def test_make_run_says_where_it_serves_and_three_things_to_try():
    with RunningServer() as server:
        told, *tries = server.log.strip().splitlines()[-4:]
    assert f"serves on {server.address}" in told
    for line, command in zip(tries, ("remember", "recall", "chat"), strict=True):
        assert line.startswith(f"  recollect {command} --target {server.address}")


def test_a_server_of_tls_and_keys_is_reached_by_flags_or_the_environment(tmp_path):
    certificate, key, authority = write_localhost(tmp_path)
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key), "--auth", "api-key")
    with RunningServer(*flags) as server:
        created = _recollect(
            "keys", "create", "--name", "k", "--role", "admin", "--data-dir", str(server.data_dir)
        )
        remember = ("remember", "I like figs", "--target", server.address)
        trusted = ("--tls-ca", str(authority))
        done = _recollect(*remember, *trusted, RECOLLECT_API_KEY=created.stdout.strip())
        assert done.returncode == 0, done.stderr
        plain = _recollect(*remember)
        assert plain.returncode == 1
        assert "--tls-ca" in plain.stderr


def test_a_key_is_not_sent_over_the_network_in_plain_text():
    refused = _recollect("recall", "x", "--target", "memory.example:443", "--api-key", "secret")
    assert refused.returncode == 2
    assert "--tls" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_keys_are_looked_up_in_a_database_that_is_there_and_made_in_a_new_one(tmp_path):
    there = ("--data-dir", str(tmp_path / "data"))
    for command in (("list",), ("revoke", "k"), ("rotate", "k")):
        missing = _recollect("keys", *command, *there)
        assert missing.returncode == 1
        assert "there is no database at" in missing.stderr
    assert not (tmp_path / "data").exists()
    made = _recollect("keys", "create", "--name", "k", "--role", "admin", *there)
    assert made.returncode == 0
    assert f"new database, for a server of this --data-dir: {tmp_path / 'data'}" in made.stderr
    assert "active" in _recollect("keys", "list", *there).stdout


def test_keys_say_in_one_line_what_is_wrong_with_settings_and_databases(tmp_path):
    there = ("--data-dir", str(tmp_path))
    wrong = _recollect("keys", "list", *there, RECOLLECT_WORKERS="none")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "workers" in wrong.stderr
    down = _recollect("keys", "list", "--database-url", "postgresql://127.0.0.1:1/none")
    assert down.returncode == 1
    assert "Traceback" not in down.stderr
