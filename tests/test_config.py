import dataclasses
import json
import multiprocessing
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, Credentials, load, settings_table


def faults(
    flags: dict[str, object] | None = None, environ: dict[str, str] | None = None, toml: Path | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, environ or {}, toml)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.faults)
    return lines


def only_fault(**environ: str) -> str:
    lines = faults(environ={f"GATEWAY_{name.upper()}": text for name, text in environ.items()})
    assert len(lines) == 1, lines
    return lines[0]


def loaded(**environ: str) -> Config:
    return load({}, {f"GATEWAY_{name.upper()}": text for name, text in environ.items()}, None)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


class TestSources:
    def test_nothing_given_is_the_defaults(self) -> None:
        assert load({}, {"PATH": "/bin", "GATEWAY": "x"}, None) == Config()

    def test_later_sources_win(self, toml: Path) -> None:
        toml.write_text("client_port = 1001\nadmin_port = 1002\nworkers = 3\n")
        environ = {"GATEWAY_CLIENT_PORT": "2001", "GATEWAY_ADMIN_PORT": "2002"}
        config = load({"client_port": 3001, "data_dir": None}, environ, toml)
        assert (config.client_port, config.admin_port, config.workers) == (3001, 2002, 3)
        assert config.data_dir == Path("data")

    def test_empty_variable_means_not_given(self) -> None:
        assert loaded(redis_url="", client_port="") == Config()

    def test_every_kind_reads_from_text(self, tmp_path: Path) -> None:
        config = loaded(
            auto_register="off",
            replay_cache="YES",
            client_port="0",
            lease_s="9.5",
            data_dir=str(tmp_path),
            role="edge",
            origins="https://a.example, http://b.example:8000",
            node_id="n-1",
            previous_app_secret="previously",
            previous_app_secret_until="2030-01-02",
        )
        assert (config.auto_register, config.replay_cache, config.client_port, config.lease_s) == (False, True, 0, 9.5)
        assert (config.data_dir, config.role, config.node_id) == (tmp_path, "edge", "n-1")
        assert config.origins == ("https://a.example", "http://b.example:8000")
        assert config.previous_app_secret_until == datetime(2030, 1, 2, tzinfo=UTC)

    def test_toml_keeps_its_types(self, toml: Path) -> None:
        toml.write_text(
            'origins = ["*"]\nauto_register = false\nlease_s = 9\nprevious_app_secret = "previously"\n'
            "previous_app_secret_until = 2030-01-02T03:04:05+01:00\n"
        )
        config = load({}, {}, toml)
        assert (config.origins, config.auto_register, config.lease_s) == (("*",), False, 9.0)
        assert config.previous_app_secret_until == datetime(2030, 1, 2, 2, 4, 5, tzinfo=UTC)

    def test_variables_of_container_links_are_not_ours(self) -> None:
        links = {
            "GATEWAY_SERVICE_HOST": "10.0.0.1",
            "GATEWAY_SERVICE_PORT_HTTP": "80",
            "GATEWAY_PORT": "tcp://10.0.0.1:80",
            "GATEWAY_PORT_80_TCP_ADDR": "10.0.0.1",
            "GATEWAY_REDIS_PORT": "tcp://10.0.0.2:6379",
        }
        assert load({}, links, None) == Config()


class TestFaults:
    def test_all_are_told_at_once_with_their_source(self, toml: Path) -> None:
        toml.write_text('client_prot = 1\nworkers = "two"\n')
        environ = {"GATEWAY_ADMIN_PORT": "70000", "GATEWAY_LEASE_S": "soon", "GATEWAY_TLS_CERT": str(toml)}
        assert faults({"role": "boss"}, environ, toml) == [
            "gateway.toml: client_prot: unknown setting; did you mean client_port?",
            "gateway.toml: workers: must be a whole number, not 'two'",
            "GATEWAY_ADMIN_PORT: must be 0 to 65_535, not 70000",
            "GATEWAY_LEASE_S: must be a number, not 'soon'",
            "--role: must be one of all | edge | admin, not 'boss'",
            "GATEWAY_TLS_CERT: tls_cert needs tls_key beside it",
        ]

    def test_a_fault_in_a_source_that_is_overridden_still_counts(self, toml: Path) -> None:
        toml.write_text("client_port = -1\n")
        assert faults({}, {"GATEWAY_CLIENT_PORT": "9000"}, toml) == [
            "gateway.toml: client_port: must be 0 to 65_535, not -1"
        ]

    def test_unknown_variable_and_flag_get_the_nearest_name(self) -> None:
        assert only_fault(client_prt="1") == "GATEWAY_CLIENT_PRT: unknown setting; did you mean GATEWAY_CLIENT_PORT?"
        assert faults({"redis-urll": "x"}) == ["--redis-urll: unknown setting; did you mean --redis-url?"]
        assert only_fault(zzzzqqqq="1") == "GATEWAY_ZZZZQQQQ: unknown setting"

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"client_port = \n", "is not valid TOML: Invalid value (at line 1, column 15)"),
            (b"\xff\xfe", "is not UTF-8 text"),
            (None, "cannot be read: No such file or directory"),
        ],
    )
    def test_unusable_file(self, toml: Path, content: bytes | None, told: str) -> None:
        if content is not None:
            toml.write_bytes(content)
        assert faults(toml=toml) == [f"{toml}: {told}"]

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("client_port = true", "must be a whole number, not True"),
            ("client_port = 80.5", "must be a whole number, not 80.5"),
            ("auto_register = 1", "must be yes or no, not 1"),
            ("lease_s = nan", "must be a number, not nan"),
            ("lease_s = 1e999", "must be a number, not inf"),
            ("origins = [1]", "must be a list, not [1]"),
            ("client_host = ''", "must be at least 1 character"),
            ("app_secret = 12345678", "must be text"),
            ("previous_app_secret_until = 'monday'", "must be an ISO date, not 'monday'"),
        ],
    )
    def test_wrong_type_in_the_file(self, toml: Path, line: str, told: str) -> None:
        toml.write_text(line)
        name = line.split(" = ")[0]
        assert faults(toml=toml) == [f"gateway.toml: {name}: {told}"]

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("localhost:6379", "must begin with"),
            ("http://localhost", "must begin with"),
            ("redis://", "must name a host"),
            ("redis://host:99999", "is not a URL"),
            ("redis+cluster://host/3", "only database 0"),
            ("unix://relative.sock", "must look like unix:///"),
            ("redis+sentinel://host:26379", "must look like redis+sentinel://host,host/service"),
        ],
    )
    def test_redis_url(self, url: str, told: str) -> None:
        assert told in only_fault(redis_url=url)

    @pytest.mark.parametrize(
        "url",
        [
            "redis://h",
            "rediss://u:p@h:1/2",
            "unix:///a/b.sock",
            "redis+cluster://[::1]:7000",
            "rediss+cluster://h",
            "redis+sentinel://u:p@h:1,h:2/chat",
        ],
    )
    def test_redis_url_that_works(self, url: str) -> None:
        assert loaded(redis_url=url).redis_url == url

    @pytest.mark.parametrize(
        ("environ", "told"),
        [
            ({"client_port": "8081"}, "GATEWAY_CLIENT_PORT: client_port and admin_port are both 8081"),
            ({"lease_renew_s": "3"}, "GATEWAY_LEASE_RENEW_S: 3 times lease_renew_s (3) must be at most lease_s (8)"),
            ({"lease_s": "12"}, "GATEWAY_LEASE_S: lease_s (12) must be less than drop_wait_s (12)"),
            ({"reconnect_min_ms": "3000"}, "reconnect_max_ms (2000)"),
            ({"durability": "replicated"}, "replicated needs a redis_url"),
            (
                {"durability": "replicated", "redis_url": "redis://x", "replicated_wait_ms": "1000"},
                "two times replicated_wait_ms (1000) must be less than store_timeout_ms (2000)",
            ),
            ({"body_bytes_max": "1000000"}, "must be less than frame_bytes_max (163840)"),
            ({"tls_key": "/dev/null/x"}, "there is no file"),
            ({"previous_app_secret": "previously"}, "needs previous_app_secret_until"),
            ({"previous_app_secret_until": "2030-01-01"}, "has no previous_app_secret"),
            ({"jwt_algorithms": "RS256"}, "RS256 needs jwt_public_key_file or jwt_jwks_url"),
            ({"jwt_algorithms": "HS256"}, "HS256 needs jwt_secret"),
            ({"jwt_algorithms": "HS256", "jwt_jwks_url": "https://x"}, "HS256 needs jwt_secret; a public key"),
            ({"jwt_algorithms": "ES256", "jwt_secret": "x" * 32}, "ES256 needs a public key"),
            ({"jwt_algorithms": "HS256,RS256", "jwt_secret": "x" * 32}, "mixes HS*"),
            ({"jwt_secret": "x" * 32}, "no jwt_algorithms"),
            ({"jwt_algorithms": "none,HS256"}, "has unknown entries: none; possible are HS256"),
            ({"jwt_algorithms": "EdDSA", "jwt_jwks_url": "http://keys.example"}, "must begin with https://"),
            ({"v1_enabled": "1", "admin_host": "0.0.0.0"}, "GATEWAY_ADMIN_HOST: admin_host 0.0.0.0 is beyond loopback"),
            ({"v1_app_secret": "x" * 32, "app_secret": "x" * 32}, "protects nothing unless it is another"),
            ({"origins": "example.com"}, "must be * or look like https://app.example.com"),
            ({"replay_cache": "1", "signature_window_s": "0"}, "replay_cache could never forget one"),
            ({"id_pattern": "[a-"}, "is not a regular expression"),
            ({"id_pattern": ".*"}, "must not match an empty user id"),
            ({"id_pattern": "[^/]+"}, "must not match user ids with a line break"),
            ({"id_pattern": "(?s).{6,36}"}, "must not match user ids with a line break"),
            ({"node_id": "a.b"}, "must be 1 to 64 letters"),
        ],
    )
    def test_contradictions(self, environ: dict[str, str], told: str) -> None:
        lines = faults(environ={f"GATEWAY_{name.upper()}": text for name, text in environ.items()})
        assert any(told in line for line in lines), lines

    def test_v1_beyond_loopback_can_be_accepted(self) -> None:
        assert loaded(v1_enabled="1", admin_host="0.0.0.0", insecure_admin="1").v1_enabled
        assert loaded(v1_enabled="1", admin_host="::1").v1_enabled

    def test_a_small_limit_alone_is_no_fault(self) -> None:
        assert loaded(frame_bytes_max="4096", watch_max="10", token_lifetime_s="5")


class TestSecrets:
    SECRET = "correct-horse-battery"

    def test_are_not_shown(self) -> None:
        config = loaded(
            app_secret=self.SECRET,
            jwt_algorithms="HS256",
            jwt_secret=self.SECRET,
            redis_url=f"redis://u:{self.SECRET}@h",
        )
        assert self.SECRET not in repr(config)
        assert "app_secret='***'" in repr(config)
        assert "redis_url='redis://***@h'" in repr(config)
        assert self.SECRET not in repr(Credentials("key", self.SECRET))

    @pytest.mark.parametrize(
        "environ",
        [
            {"GATEWAY_APP_SECRET": "secret7"},
            {"GATEWAY_REDIS_URL": "http://u:secret7@host"},
            {"GATEWAY_REDIS_URL": "redis://u:secret7@"},
            {"GATEWAY_REDIS_URL": "http://host/chat?sentinel_password=secret7"},
        ],
    )
    def test_are_not_quoted_in_faults(self, environ: dict[str, str]) -> None:
        assert "secret7" not in faults(environ=environ)[0]


class TestTable:
    def test_has_a_row_for_every_field_with_a_sane_default(self) -> None:
        rows = settings_table()
        assert [row.name for row in rows] == [field.name for field in dataclasses.fields(Config)]
        for row in rows:
            assert row.help.endswith("."), row.name
            assert row.kind, row.name
            if isinstance(row.default, int | float) and not isinstance(row.default, bool):
                assert row.low is not None, row.name
                assert row.high is not None, row.name
                assert row.low <= row.default <= row.high, row.name

    def test_names_follow_from_the_field(self) -> None:
        row = next(row for row in settings_table() if row.name == "client_port")
        assert (row.flag, row.env, row.kind, row.bounds) == (
            "--client-port",
            "GATEWAY_CLIENT_PORT",
            "whole number",
            "0 to 65_535",
        )
        kinds = {row.name: row.kind for row in settings_table()}
        assert (kinds["role"], kinds["origins"], kinds["tls_cert"]) == ("all | edge | admin", "list", "path")


def _load_credentials(data_dir: Path, start: "multiprocessing.Barrier", results: "multiprocessing.Queue") -> None:  # type: ignore[valid-type, type-arg]
    start.wait()
    kept = Credentials.load_or_create(data_dir, Config())
    results.put((kept.app_key, kept.app_secret))


class TestCredentials:
    def test_are_made_once_with_mode_0600(self, tmp_path: Path) -> None:
        made = Credentials.load_or_create(tmp_path / "new" / "data", Config())
        file = tmp_path / "new" / "data" / "credentials.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert json.loads(file.read_text()) == {"app_key": made.app_key, "app_secret": made.app_secret}
        assert len(made.app_secret) >= 40
        # A command line would take what begins with a dash for a flag.
        assert made.app_secret.isalnum()
        assert Credentials.load_or_create(file.parent, Config()) == made
        assert os.listdir(file.parent) == ["credentials.json"]

    def test_from_the_settings_need_no_file(self, tmp_path: Path) -> None:
        config = Config(app_key="key", app_secret="a-secret")
        assert Credentials.load_or_create(tmp_path, config) == Credentials("key", "a-secret")
        assert os.listdir(tmp_path) == []

    def test_one_from_the_settings_one_from_the_file(self, tmp_path: Path) -> None:
        made = Credentials.load_or_create(tmp_path, Config())
        assert Credentials.load_or_create(tmp_path, Config(app_key="key")) == Credentials("key", made.app_secret)

    def test_processes_that_start_together_agree(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        start, results = context.Barrier(3), context.Queue()
        processes = [context.Process(target=_load_credentials, args=(tmp_path, start, results)) for _ in range(3)]
        for process in processes:
            process.start()
        seen = {results.get(timeout=30) for _ in processes}
        for process in processes:
            process.join()
            process.close()
        results.close()
        results.join_thread()
        assert len(seen) == 1
        assert os.listdir(tmp_path) == ["credentials.json"]

    def test_a_file_others_may_read_is_closed_to_them(self, tmp_path: Path) -> None:
        made = Credentials.load_or_create(tmp_path, Config())
        file = tmp_path / "credentials.json"
        file.chmod(0o644)
        assert Credentials.load_or_create(tmp_path, Config()) == made
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"app_key": "a", "app_secret": 1}', '{"app_key": ""}'])
    def test_damaged_file(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "credentials.json").write_text(content)
        with pytest.raises(ConfigError, match="is damaged"):
            Credentials.load_or_create(tmp_path, Config())

    def test_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="Not a directory"):
            Credentials.load_or_create(tmp_path / "file" / "data", Config())


def test_a_table_in_the_file_is_told_where_its_settings_go(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("[store]\nlease_s = 10\n")
    with pytest.raises(ConfigError) as caught:
        load({}, {}, file)
    assert str(caught.value) == "gateway.toml: store: tables are not used; write lease_s = 10 at the top"
