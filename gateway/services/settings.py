"""Live settings: changed while everything runs, the same on every node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

import msgspec
import orjson
from msgspec import Meta, Struct

from gateway.config import Config, WebhookEvent
from gateway.services.errors import PARAMETER_INVALID, Refused
from gateway.store import keys as names
from gateway.store import settings
from gateway.store.call import Call
from gateway.store.store import Store

DevicePolicy = Literal["platform", "single", "unlimited", "refuse"]


class LiveSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The settings in force.

    Attributes:
        friends_only: only friends may send each other direct messages.
        device_policy: "platform" one session a platform class, the newest wins; "single" one in all; "unlimited";
            "refuse" one a platform class, the newcomer is refused.
        expire_keeps_connections: expiring tokens leaves live sockets up, as the hosted service does.
        send_rate_per_second: of one connection; 0 = no limit. Binds sessions opened from then on.
        offline_retention_days: how long inbox entries are kept.
        friend_permission_default: of users who never set one: 1 anyone adds them, 2 they approve, 3 nobody.
        strict_list_mode: an allowlist is managed only while it is on, a blocklist only while the allowlist is off.
        strict_ext_keys: keys of custom attributes (of profiles and of friends) begin with ``ext_``.
        words_bind_server_sends: profanity words hold for what the Server API sends as well.
        trim_acked: what all known devices of a user have acked leaves the inbox at once; histories lose it then.
        webhook_events: what the app's server is told, and asked.
        webhook_server_messages: it is told of messages that the Server API sent, too.
    """

    friends_only: bool = False
    device_policy: DevicePolicy = "platform"
    expire_keeps_connections: bool = False
    send_rate_per_second: Annotated[int, Meta(ge=0, le=1_000_000)] = 200
    offline_retention_days: Annotated[int, Meta(ge=1, le=3650)] = 7
    friend_permission_default: Annotated[int, Meta(ge=1, le=3)] = 1
    strict_list_mode: bool = False
    strict_ext_keys: bool = True
    words_bind_server_sends: bool = False
    trim_acked: bool = False
    webhook_events: tuple[WebhookEvent, ...] = ()
    webhook_server_messages: bool = False

    @property
    def retention_ms(self) -> int:
        return self.offline_retention_days * 86_400_000


FIELDS: tuple[str, ...] = tuple(field.encode_name for field in msgspec.structs.fields(LiveSettings))
DEVICE_POLICIES: tuple[str, ...] = get_args(DevicePolicy)


class Settings:
    """Reads and changes the live settings.

    Args:
        store: where they are kept.
        config: what holds for a setting that was never changed.
    """

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._default = LiveSettings(
            send_rate_per_second=config.send_rate_per_s,
            offline_retention_days=config.retention_days,
            webhook_events=config.webhook_events,
            webhook_server_messages=config.webhook_server_messages,
        )
        self.live = self._default
        self._followers: list[Callable[[LiveSettings], None]] = []

    def follow(self, follower: Callable[[LiveSettings], None]) -> None:
        """Tells ``follower`` the settings in force, now and whenever others are put in force."""
        self._followers.append(follower)
        follower(self.live)

    async def get(self) -> dict[str, Any]:
        """All settings, by their camelCase names."""
        self.take(await self._store.execute(self.read()))
        return dict(msgspec.to_builtins(self.live))

    def read(self) -> Call:
        """The call whose reply ``take`` understands."""
        return settings.read(self._store.keys)

    def take(self, reply: Any) -> None:
        """Puts what was read from the store in force."""
        stored = settings.parse_read(reply)
        values = msgspec.to_builtins(self._default)
        values |= {name: orjson.loads(stored[name]) for name in FIELDS if name in stored}
        live = msgspec.convert(values, LiveSettings)
        if live != self.live:
            self.live = live
            for follower in self._followers:
                follower(live)

    async def set(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Changes a subset and tells every node.

        Returns:
            All settings as they are now.

        Raises:
            Refused: 1002, naming the setting that is unknown, of the wrong type or out of bounds.
        """
        for name, value in changes.items():
            _check(name, value)
        if changes:
            encoded = {name: orjson.dumps(value).decode() for name, value in changes.items()}
            await self._store.execute(settings.change(self._store.keys, encoded))
            await self._store.execute(Call(self._store.keys.settings_place, ("PUBLISH", names.CONTROL, _CHANGED)))
        return await self.get()


_CHANGED = orjson.dumps({"cmd": "settings"})


def _check(name: str, value: Any) -> None:
    if name not in FIELDS:
        raise Refused(PARAMETER_INVALID, f"no setting {name}; there are {', '.join(FIELDS)}", name)
    try:
        msgspec.convert({name: value}, LiveSettings)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at `$")[0]
        if name in _WORDS:
            reason += f"; possible are {', '.join(_WORDS[name])}"
        raise Refused(PARAMETER_INVALID, f"{name}: {reason}", name) from error


_WORDS: dict[str, tuple[str, ...]] = {"devicePolicy": DEVICE_POLICIES, "webhookEvents": get_args(WebhookEvent)}
"""What may be said where a setting consists of words."""
