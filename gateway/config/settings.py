"""The settings themselves: one field of `Config` is the one definition of a setting.

Flag (`--client-port`), variable (`GATEWAY_CLIENT_PORT`), key in `gateway.toml` (`client_port`) and documentation follow
from the field's name, type, default, bounds and help.
"""

import dataclasses
import functools
import types
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import Meta

from gateway.config.redact import without_password

KIB = 1024
MIB = 1024 * KIB
DAY_S = 24 * 3600

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip

WebhookEvent = Literal[
    "user:connection_status",
    "user:friendship",
    "user:profile_update",
    "user:deletion_state",
    "message:send",
    "message:delete",
    "direct_channel:pre_messaging",
]

TOLD_BY_DEFAULT: tuple[WebhookEvent, ...] = (
    "user:connection_status",
    "user:friendship",
    "user:profile_update",
    "user:deletion_state",
    "message:send",
    "message:delete",
)


def _about(text: str, low: float | None = None, high: float | None = None, *, secret: bool = False) -> Meta:
    """Help of a setting, and the bounds of its value (of its length, where it is text)."""
    return Meta(description=text, ge=low, le=high, extra={"secret": secret})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Config:
    """All settings, immutable. Made by `load`, which checks them; the constructor itself checks nothing.

    The unit is the last part of a name: `_s` seconds, `_ms` milliseconds, `_bytes_max` bytes, `_days` days.
    Secrets, and the password inside `redis_url`, never show in `repr`.
    """

    # Where it listens and what it is.
    client_host: Annotated[str, _about("Address of the client port.", 1)] = "0.0.0.0"
    client_port: Annotated[int, _about("Port for client sockets; 0 takes any free one.", 0, 65535)] = 8080
    admin_host: Annotated[str, _about("Address of the admin port; keep it private.", 1)] = "127.0.0.1"
    admin_port: Annotated[int, _about("Port of the Server API; 0 takes any free one.", 0, 65535)] = 8081
    role: Annotated[Literal["all", "edge", "admin"], _about("edge: clients only; admin: Server API only.")] = "all"
    workers: Annotated[int, _about("Processes that share the client port, each a node of its own.", 1, 256)] = 1
    environment: Annotated[
        Literal["production", "development"],
        _about("development limits the number of users, allows deleting them and pages on localhost, and has a demo."),
    ] = "production"
    node_id: Annotated[str | None, _about("Name of this node; none: made from the host name.")] = None
    data_dir: Annotated[Path, _about("Directory of the credentials and the embedded store.")] = Path("data")

    # The store.
    redis_url: Annotated[
        str | None,
        _about("redis://, rediss://, unix://, redis+cluster:// or redis+sentinel:// (TLS: rediss+…); none: embedded."),
    ] = None
    partitions: Annotated[int, _about("Partitions of a new deployment; fixed at its first start.", 1, 4096)] = 256
    store_timeout_ms: Annotated[int, _about("Deadline of every call on the hot link.", 10, 60_000)] = 2000
    store_pending_max: Annotated[int, _about("Calls waiting for the store; over it: 503.", 1, 10_000_000)] = 20_000
    durability: Annotated[
        Literal["stored", "replicated"],
        _about("replicated: `sent` waits until replicas have the message, so that no failover loses it."),
    ] = "stored"
    replicas_min: Annotated[int, _about("How many replicas of its master must have it.", 1, 100)] = 1
    replicated_wait_ms: Annotated[
        int, _about("How long they are waited for; then the outcome is unknown: 504.", 1, 30_000)
    ] = 500
    lease_s: Annotated[float, _about("A node that renews no lease for this long is dead.", 1, 300)] = 8.0
    lease_renew_s: Annotated[float, _about("Time between renewals; at most a third of the lease.", 0.1, 100)] = 2.0
    probe_s: Annotated[float, _about("Time between the probes a node publishes to itself.", 0.1, 300)] = 5.0
    probe_timeout_s: Annotated[float, _about("A probe not back by then rebuilds the link.", 0.1, 60)] = 2.0
    gap_ms: Annotated[int, _about("A clock gap over this stops sessions until the store answers.", 10, 10_000)] = 250
    drop_wait_s: Annotated[float, _about("A drop waits this long for silent nodes, over the lease.", 1, 600)] = 12.0
    reconnect_min_ms: Annotated[int, _about("First wait before reconnecting to the store.", 1, 60_000)] = 50
    reconnect_max_ms: Annotated[int, _about("Longest wait before reconnecting to the store.", 1, 600_000)] = 2000

    # Credentials and the gateway's own tokens.
    app_key: Annotated[str | None, _about("Public key of the app; none: made once, kept in data_dir.", 1, 64)] = None
    app_secret: Annotated[
        str | None,
        _about("Secret that signs tokens and calls; none: made once, kept in data_dir.", 8, 256, secret=True),
    ] = None
    previous_app_secret: Annotated[
        str | None, _about("Secret before the last rotation, still accepted for a while.", 8, 256, secret=True)
    ] = None
    previous_app_secret_until: Annotated[
        datetime | None, _about("End of that while: ISO date or date and time; UTC where no zone is given.")
    ] = None
    token_lifetime_s: Annotated[int, _about("Life of an issued token; 0: it never expires.", 0, 3650 * DAY_S)] = 0
    token_expiring_s: Annotated[float, _about("Notice before a token ends.", 0, DAY_S)] = 60.0
    clock_skew_s: Annotated[float, _about("Accepted difference between clocks in tokens.", 0, 300)] = 5.0
    token_bytes_max: Annotated[int, _about("Longest token looked at.", 128, 64 * KIB)] = 4096
    auto_register: Annotated[bool, _about("A valid token of an unknown user registers the user.")] = True
    allow_token_in_url: Annotated[bool, _about("Accept ?token=; URLs end in logs.")] = False

    # Tokens made by the app itself.
    jwt_algorithms: Annotated[tuple[Algorithm, ...], _about("Accepted algorithms of the app's own tokens.")] = ()
    jwt_secret: Annotated[str | None, _about("Key of HS256, HS384, HS512.", 8, 4096, secret=True)] = None
    jwt_public_key_file: Annotated[Path | None, _about("PEM file with the key of RS*, ES*, EdDSA.")] = None
    jwt_jwks_url: Annotated[str | None, _about("URL of a JWKS with the keys of RS*, ES*, EdDSA.")] = None
    jwt_audience: Annotated[str | None, _about("Required `aud`; none: the app key.", 1)] = None
    jwt_issuer: Annotated[str | None, _about("Required `iss`; none: not checked.", 1)] = None
    jwt_user_claim: Annotated[str, _about("Claim that holds the user id.", 1, 64)] = "sub"
    jwks_refresh_s: Annotated[float, _about("Least time between fetches of the JWKS.", 1, DAY_S)] = 30.0

    # Who may connect.
    tls_cert: Annotated[Path | None, _about("PEM file with the certificate chain.")] = None
    tls_key: Annotated[Path | None, _about("PEM file with the certificate's key.")] = None
    origins: Annotated[
        tuple[str, ...],
        _about(
            "Allowed Origins, * for any. Empty: no Origin or the same host pass; in environment development also "
            "http://localhost:* and http://127.0.0.1:*."
        ),
    ] = ()
    connect_rate_per_address_s: Annotated[
        int, _about("New connections a second from one address; 0: off.", 0, 1_000_000)
    ] = 50
    connect_burst_per_address: Annotated[int, _about("How many of them may come at once.", 1, 1_000_000)] = 200
    connections_per_address_max: Annotated[int, _about("Open connections of one address; 0: off.", 0, 1_000_000)] = 0
    connections_max: Annotated[int, _about("Open connections of one node.", 1, 1_000_000)] = 18_000
    sessions_per_user_max: Annotated[int, _about("Live sessions of one user.", 1, 1000)] = 16
    users_development_max: Annotated[int, _about("Users in environment development.", 1, 1_000_000)] = 100
    restore_wait_s: Annotated[
        int, _about("Nobody is restored sooner than this after a soft deletion.", 0, 30 * DAY_S)
    ] = 0
    id_pattern: Annotated[str, _about("Regular expression of a whole user id.", 1, 256)] = r"[A-Za-z0-9+=_.@-]{1,64}"

    # One connection.
    auth_timeout_s: Annotated[float, _about("Time to bring a token.", 0.05, 300)] = 5.0
    handshake_timeout_s: Annotated[float, _about("Time for the whole opening handshake.", 0.05, 300)] = 10.0
    heartbeat_s: Annotated[float, _about("Silence after which the gateway pings.", 0.05, 3600)] = 25.0
    heartbeat_timeout_s: Annotated[float, _about("Time to answer that ping.", 0.05, 3600)] = 20.0
    close_linger_ms: Annotated[int, _about("Time between close frame and end of the connection.", 0, 60_000)] = 100
    frame_bytes_max: Annotated[int, _about("Size of a message with all its fragments.", KIB, 64 * MIB)] = 160 * KIB
    fragments_max: Annotated[int, _about("Fragments of one message.", 1, 100_000)] = 64
    body_bytes_max: Annotated[int, _about("Size of the body of a `send`.", 1, 64 * MIB)] = 128 * KIB
    send_rate_per_s: Annotated[int, _about("Sends a second of one connection; 0: off.", 0, 1_000_000)] = 200
    send_burst: Annotated[int, _about("How many of them may come at once.", 1, 1_000_000)] = 400
    bad_commands_max: Annotated[int, _about("Bad commands in a row that close it.", 1, 100_000)] = 10
    outbound_bytes_max: Annotated[int, _about("Bytes waiting to go out.", KIB, 1024 * MIB)] = MIB
    outbound_age_max_s: Annotated[float, _about("How long bytes may wait to go out.", 0.05, 600)] = 10.0
    watch_max: Annotated[int, _about("Users that one session watches.", 0, 1_000_000)] = 1000
    watch_call_max: Annotated[int, _about("Users of one watch command.", 1, 1_000_000)] = 200
    watchers_max: Annotated[int, _about("Sessions on one node that watch the same user.", 1, 1_000_000)] = 5000

    # What is kept.
    inbox_max: Annotated[int, _about("Unacked messages of one user.", 1, 10_000_000)] = 10_000
    inbox_bytes_max: Annotated[
        int, _about("Memory that they take in the store, about: not seen at each.", 64 * KIB, 1024 * MIB)
    ] = 64 * MIB
    retention_days: Annotated[int, _about("How long messages are kept.", 1, 3650)] = 7
    list_max: Annotated[int, _about("Entries of a blocklist, an allowlist, a friend list.", 1, 1_000_000)] = 3000
    broadcasts_max: Annotated[int, _about("Broadcasts that still reach somebody.", 1, 100_000)] = 1000
    broadcast_users_per_s: Annotated[
        int, _about("How many of its users a node brings a broadcast to a second.", 1, 1_000_000)
    ] = 1000
    broadcast_bytes_per_s: Annotated[
        int, _about("How many bytes of broadcasts a node brings to its users a second.", 1, 1024 * MIB)
    ] = 32 * MIB
    words_max: Annotated[int, _about("Profanity words.", 1, 100_000)] = 1000

    # The admin side.
    list_call_max: Annotated[int, _about("User ids of one admin call.", 1, 10_000)] = 20
    admin_body_bytes_max: Annotated[int, _about("Size of an admin call's body.", KIB, 64 * MIB)] = MIB
    signature_window_s: Annotated[int, _about("Accepted age of a signature; 0: any.", 0, DAY_S)] = 300
    replay_cache: Annotated[bool, _about("Refuse a v4 signature seen before, on any node.")] = False
    rate_limits: Annotated[bool, _about("Limit how often operations are called, over all nodes.")] = True
    v1_enabled: Annotated[bool, _about("Serve the v1 dialect too, whose signatures can be replayed.")] = False
    v1_app_secret: Annotated[
        str | None,
        _about("Secret that signs v1 calls alone, and no others; none: the app's secret.", 8, 256, secret=True),
    ] = None
    v1_signature_window_s: Annotated[
        int, _about("Accepted age of a v1 signature; 0: any, for libraries that never renew it.", 0, 3650 * DAY_S)
    ] = DAY_S
    insecure_admin: Annotated[bool, _about("Allow v1 beyond loopback without TLS.")] = False

    # Webhooks: what the app's own server is told.
    webhook_url: Annotated[
        str | None, _about("https:// or http:// address that events are posted to; none: no webhooks.", secret=True)
    ] = None
    webhook_events: Annotated[
        tuple[WebhookEvent, ...],
        _about("Events that are told; direct_channel:pre_messaging asks before each message, and is off by default."),
    ] = TOLD_BY_DEFAULT
    webhook_server_messages: Annotated[bool, _about("Tell of messages that the Server API sent, too.")] = False
    webhook_v1_status_url: Annotated[
        str | None, _about("Address that gets who comes and goes, in the older form; none: not told.", secret=True)
    ] = None
    webhook_v1_friendship_url: Annotated[
        str | None, _about("Address that gets changes of friendships, in the older form; none: not told.", secret=True)
    ] = None
    webhook_send: Annotated[bool, _about("This node sends what is queued; the queue is filled by all nodes.")] = True
    webhook_timeout_s: Annotated[float, _about("Time for one request and its whole answer.", 0.05, 60)] = 5.0
    webhook_retries: Annotated[int, _about("Further tries of an event or a message check.", 0, 20)] = 2
    webhook_backoff_s: Annotated[float, _about("Wait before the first retry; doubles each time.", 0, 60)] = 1.0
    webhook_parallel: Annotated[int, _about("Events that a node sends at the same time.", 1, 1000)] = 8
    webhook_checks_max: Annotated[int, _about("Messages that a node has checked at the same time.", 1, 10_000)] = 256
    webhook_pause_after: Annotated[int, _about("Requests in a row without answer that make it pause.", 1, 1000)] = 5
    webhook_pause_s: Annotated[float, _about("How long; events wait meanwhile.", 0.05, 3600)] = 60.0
    webhook_queue_max: Annotated[
        int, _about("Events waiting, about; over it the oldest go. Each holds a whole message.", 100, 10_000_000)
    ] = 50_000
    webhook_dead_max: Annotated[int, _about("Given-up events that are kept to look at.", 0, 100_000)] = 1000

    # Stopping and logging.
    drain_s: Annotated[float, _about("Time to close all sockets when stopping.", 0, 3600)] = 10.0
    reconnect_spread_ms: Annotated[int, _about("Clients of a drained node come back spread.", 0, 600_000)] = 5000
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _about("Least level logged.")] = "info"
    log_format: Annotated[Literal["auto", "console", "json"], _about("auto: console in a terminal, else JSON.")] = (
        "auto"
    )

    def __repr__(self) -> str:
        shown = (f"{s.name}={s.show(getattr(self, s.name))}" for s in settings_table())
        return f"Config({', '.join(shown)})"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the settings table: what command line and documentation are generated from.

    `type` is the annotation without its bounds; `low` and `high` bound the value, or the length of a text.
    """

    name: str
    type: Any
    default: Any
    low: float | None
    high: float | None
    help: str
    secret: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def env(self) -> str:
        return "GATEWAY_" + self.name.upper()

    @property
    def kind(self) -> str:
        """The type in words: `whole number`, `all | edge | admin`, …"""
        inner = without_none(self.type)
        if get_origin(inner) is Literal:
            return " | ".join(get_args(inner))
        if get_origin(inner) is tuple:
            return "list"
        return _KINDS[inner]

    @property
    def bounds(self) -> str:
        """The bounds in words, empty where there are none."""
        of = "" if without_none(self.type) is not str else " character" if self.high is None else " characters"
        if self.low is not None and self.high is not None:
            return f"{_plain(self.low)} to {_plain(self.high)}{of}"
        return "" if self.low is None else f"at least {_plain(self.low)}{of}"

    def show(self, value: object) -> str:
        """The value for people: secrets are stars."""
        if value is None:
            return "None"
        if self.secret:
            return "'***'"
        return repr(without_password(value)) if isinstance(value, str) else repr(value)


@functools.cache
def settings_table() -> tuple[Setting, ...]:
    """All settings, in the order of `Config`."""
    hints = get_type_hints(Config, include_extras=True)
    rows = []
    for field in dataclasses.fields(Config):
        plain, meta = get_args(hints[field.name])
        rows.append(
            Setting(
                name=field.name,
                type=plain,
                default=field.default,
                low=meta.ge,
                high=meta.le,
                help=meta.description,
                secret=meta.extra["secret"],
            )
        )
    return tuple(rows)


def without_none(annotation: Any) -> Any:
    """`str | None` is `str`: None is never written down, only left out."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(part for part in get_args(annotation) if part is not types.NoneType)
    return annotation


_KINDS: dict[object, str] = {
    bool: "yes or no",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    datetime: "ISO date",
}


def _plain(number: float) -> str:
    return f"{number:,}".replace(",", "_") if isinstance(number, int) else f"{number:g}"
