"""What bounds cannot say: the form of some values, and settings that contradict each other.

A rule names the settings it looks at and answers with the problem, or None. Problems never quote a secret.
"""

import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.settings import Config

Rule = Callable[[Config], str | None]
Rules = tuple[tuple[tuple[str, ...], Rule], ...]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+", re.IGNORECASE)
_NODE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_APP_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BODY_DEFAULT = Config().body_bytes_max
_NETWORK_SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _redis_url(config: Config) -> str | None:
    if config.redis_url is None:
        return None
    try:
        url = urlsplit(config.redis_url)
        if url.scheme in _NETWORK_SCHEMES and url.scheme.endswith("+sentinel"):
            # Several hosts, which are no part of the standard: the store's own reading tells what is wrong with them.
            return None if url.netloc and url.path.strip("/") else f"must look like {url.scheme}://host,host/service"
        host, port = url.hostname, url.port
    except ValueError as error:
        return f"is not a URL: {error}"
    if url.scheme == "unix":
        return None if url.path.startswith("/") and not host else "must look like unix:///path/to/the.sock"
    if url.scheme not in _NETWORK_SCHEMES:
        return f"must begin with {', '.join(f'{scheme}://' for scheme in _NETWORK_SCHEMES)} or unix://"
    if not host or port == 0:
        return f"must name a host and may name a port: {url.scheme}://host:6379"
    if url.scheme.endswith("+cluster") and url.path.strip("/") not in ("", "0"):
        return "names a database, but a Redis Cluster has only database 0"
    return None


def _id_pattern(config: Config) -> str | None:
    try:
        pattern = re.compile(config.id_pattern)
    except re.error as error:
        return f"is not a regular expression: {error}"
    if pattern.fullmatch(""):
        return "must not match an empty user id"
    # Ids stand in payloads and names that line breaks part: whoever chose such an id could forge others' messages.
    if any(map(pattern.fullmatch, _PARTED_IDS)):
        return "must not match user ids with a line break, as [^/]+ does: [^/\\n]+ does not"
    return None


_PARTED_IDS = [
    fill * (length // 2) + "\n" + fill * (length - length // 2 - 1)
    for fill in "aA1"
    for length in (1, 2, 3, 6, 8, 16, 32, 36, 64)
]
"""In the lengths that patterns ask for."""


def _origins(config: Config) -> str | None:
    wrong = [origin for origin in config.origins if origin != "*" and not _ORIGIN.fullmatch(origin)]
    return f"must be * or look like https://app.example.com, not {', '.join(wrong)}" if wrong else None


def _tls(config: Config) -> str | None:
    if (config.tls_cert is None) == (config.tls_key is None):
        return None
    given, missing = ("tls_cert", "tls_key") if config.tls_key is None else ("tls_key", "tls_cert")
    return f"{given} needs {missing} beside it"


def _readable(name: str) -> Rule:
    def check(config: Config) -> str | None:
        path: Path | None = getattr(config, name)
        if path is None or (path.is_file() and os.access(path, os.R_OK)):
            return None
        return f"there is no file {path} that this user can read"

    return check


def _at_most(low: str, high: str, *, factor: int = 1, strict: bool = False) -> Rule:
    def check(config: Config) -> str | None:
        small, large = getattr(config, low) * factor, getattr(config, high)
        if small < large or (small == large and not strict):
            return None
        times = f"{factor} times " if factor > 1 else ""
        relation = "less than" if strict else "at most"
        return f"{times}{low} ({getattr(config, low):g}) must be {relation} {high} ({large:g})"

    return check


def _gap(config: Config) -> str | None:
    if config.gap_ms / 1000 + 2 * config.lease_renew_s < config.lease_s:
        return None
    return (
        f"gap_ms ({config.gap_ms}) and two times lease_renew_s ({config.lease_renew_s:g}) must be less than "
        f"lease_s ({config.lease_s:g}): a stand-still that short is taken off the lease's end"
    )


def _ports(config: Config) -> str | None:
    if config.client_port and config.client_port == config.admin_port:
        return f"client_port and admin_port are both {config.client_port}; they need two ports"
    return None


def _rotation(config: Config) -> str | None:
    if config.previous_app_secret is not None and config.previous_app_secret_until is None:
        return "previous_app_secret needs previous_app_secret_until, the day from which it no longer counts"
    if config.previous_app_secret is None and config.previous_app_secret_until is not None:
        return "previous_app_secret_until has no previous_app_secret beside it"
    return None


def _body(config: Config) -> str | None:
    # A small frame_bytes_max alone is fine: it wins. A large body_bytes_max alone would promise what never passes.
    if config.body_bytes_max == _BODY_DEFAULT or config.body_bytes_max < config.frame_bytes_max:
        return None
    return f"must be less than frame_bytes_max ({config.frame_bytes_max}), which holds the whole command"


def _jwt_keys(config: Config) -> str | None:
    """Keys and algorithms must fit: a public key taken for an HMAC secret would let anybody sign."""
    secret, public = config.jwt_secret, config.jwt_public_key_file or config.jwt_jwks_url
    if not config.jwt_algorithms:
        return "a jwt key is given, but no jwt_algorithms" if secret or public else None
    symmetric = [name for name in config.jwt_algorithms if name.startswith("HS")]
    if symmetric and len(symmetric) < len(config.jwt_algorithms):
        return "mixes HS* (one shared secret) with algorithms of public keys; choose one kind"
    if symmetric and public:
        return f"{symmetric[0]} needs jwt_secret; a public key or JWKS does not go with it"
    if symmetric:
        return None if secret else f"{symmetric[0]} needs jwt_secret"
    if secret:
        return f"{config.jwt_algorithms[0]} needs a public key; jwt_secret does not go with it"
    if config.jwt_public_key_file and config.jwt_jwks_url:
        return "jwt_public_key_file and jwt_jwks_url are both given; choose one"
    return None if public else f"{config.jwt_algorithms[0]} needs jwt_public_key_file or jwt_jwks_url"


def _jwks_url(config: Config) -> str | None:
    if config.jwt_jwks_url is None:
        return None
    try:
        url = urlsplit(config.jwt_jwks_url)
        host = url.hostname
    except ValueError as error:
        return f"is not a URL: {error}"
    if host and (url.scheme == "https" or (url.scheme == "http" and is_loopback(host))):
        return None
    return "must begin with https:// (http:// only for this machine): who can change the answer can sign tokens"


def _web_address(name: str) -> Rule:
    def check(config: Config) -> str | None:
        address: str | None = getattr(config, name)
        if address is None:
            return None
        try:
            url = urlsplit(address)
            host, port = url.hostname, url.port
        except ValueError as error:
            return f"is not a URL: {error}"
        if url.scheme in ("http", "https") and host and port != 0 and not url.fragment:
            return None
        return "must begin with https:// or http:// and name a host, without a #fragment"

    return check


def _admin_exposed(config: Config) -> str | None:
    if not config.v1_enabled or config.insecure_admin or config.tls_cert or is_loopback(config.admin_host):
        return None
    return (
        f"admin_host {config.admin_host} is beyond loopback, with v1_enabled and without TLS: v1 signatures can be "
        "replayed by whoever sees one. Give tls_cert and tls_key, or accept it with insecure_admin"
    )


def _v1_secret(config: Config) -> str | None:
    if config.v1_app_secret is None or config.v1_app_secret not in (config.app_secret, config.previous_app_secret):
        return None
    return "is the app's own secret (or the one before it); it protects nothing unless it is another"


def _replays(config: Config) -> str | None:
    if not config.replay_cache or config.signature_window_s:
        return None
    return "signature_window_s is 0: signatures stay good for ever, so replay_cache could never forget one"


def _replicated(config: Config) -> str | None:
    if config.durability != "replicated":
        return None
    if config.redis_url is None:
        return "replicated needs a redis_url: the embedded store has no replicas"
    if 2 * config.replicated_wait_ms < config.store_timeout_ms:
        return None
    return (
        f"two times replicated_wait_ms ({config.replicated_wait_ms}) must be less than store_timeout_ms "
        f"({config.store_timeout_ms}): a call may wait for the one before it"
    )


def _matches(name: str, pattern: re.Pattern[str], form: str) -> Rule:
    def check(config: Config) -> str | None:
        value: str | None = getattr(config, name)
        return None if value is None or pattern.fullmatch(value) else f"must be {form}"

    return check


RULES: Rules = (
    (("redis_url",), _redis_url),
    (("node_id",), _matches("node_id", _NODE_ID, "1 to 64 letters, digits, - or _")),
    (("app_key",), _matches("app_key", _APP_KEY, "letters, digits, - or _")),
    (("id_pattern",), _id_pattern),
    (("origins",), _origins),
    (("tls_cert", "tls_key"), _tls),
    (("tls_cert",), _readable("tls_cert")),
    (("tls_key",), _readable("tls_key")),
    (("jwt_public_key_file",), _readable("jwt_public_key_file")),
    (("jwt_jwks_url",), _jwks_url),
    (("jwt_algorithms", "jwt_secret", "jwt_public_key_file", "jwt_jwks_url"), _jwt_keys),
    (("client_port", "admin_port"), _ports),
    (("previous_app_secret", "previous_app_secret_until"), _rotation),
    (("lease_renew_s", "lease_s"), _at_most("lease_renew_s", "lease_s", factor=3)),
    (("gap_ms", "lease_renew_s", "lease_s"), _gap),
    (("lease_s", "drop_wait_s"), _at_most("lease_s", "drop_wait_s", strict=True)),
    (("probe_timeout_s", "probe_s"), _at_most("probe_timeout_s", "probe_s")),
    (("reconnect_min_ms", "reconnect_max_ms"), _at_most("reconnect_min_ms", "reconnect_max_ms")),
    (("durability", "redis_url", "replicated_wait_ms", "store_timeout_ms"), _replicated),
    (("body_bytes_max", "frame_bytes_max"), _body),
    (("replay_cache", "signature_window_s"), _replays),
    (("webhook_url",), _web_address("webhook_url")),
    (("webhook_v1_status_url",), _web_address("webhook_v1_status_url")),
    (("webhook_v1_friendship_url",), _web_address("webhook_v1_friendship_url")),
    (("admin_host", "v1_enabled", "insecure_admin", "tls_cert"), _admin_exposed),
    (("v1_app_secret", "app_secret", "previous_app_secret"), _v1_secret),
)
