"""Access tokens: issued, expired, revoked; and which keys may sign them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from gateway.config import Config, ConfigError, Credentials, Fault
from gateway.core.claims import ISSUED_AT_MS, TOKEN_ALGORITHM, Key, Rules, Verifier, sign
from gateway.services.accounts import Accounts
from gateway.services.drops import Acknowledgement, Drops
from gateway.services.settings import Settings
from gateway.store import drops
from gateway.store.store import Store


class Tokens:
    """What can be done about tokens."""

    def __init__(
        self,
        store: Store,
        drops: Drops,
        accounts: Accounts,
        settings: Settings,
        credentials: Credentials,
        lifetime_s: int,
    ) -> None:
        self._store = store
        self._drops = drops
        self._accounts = accounts
        self._settings = settings
        self._credentials = credentials
        self._lifetime_s = lifetime_s

    async def issue(
        self, user: str, name: str | None, avatar_url: str | None = None, *, lifetime_s: int | None = None
    ) -> str:
        """Registers the user and issues a further token; all valid tokens of a user work.

        The issue time is Redis' own, in milliseconds: an expire call's instant and it are one clock.

        Args:
            user: the user id.
            name: overwrites the user's name; None leaves it.
            avatar_url: likewise.
            lifetime_s: 0 = never expires; None = as configured.

        Raises:
            Refused: As Accounts.register.
        """
        now_ms = await self._accounts.register(user, name, avatar_url)
        lifetime = self._lifetime_s if lifetime_s is None else lifetime_s
        claims: dict[str, object] = {
            "sub": user,
            "aud": self._credentials.app_key,
            "iat": now_ms // 1000,
            ISSUED_AT_MS: now_ms,
            "jti": uuid4().hex,
        }
        if lifetime:
            claims["exp"] = now_ms // 1000 + lifetime
        return sign(claims, self._credentials.app_secret)

    async def expire(self, users: Sequence[str], before_ms: int) -> Acknowledgement:
        """Voids every token issued before an instant (Unix ms) and drops the sockets that came with one."""
        await self._settings.get()
        keys, keep = self._store.keys, self._settings.live.expire_keeps_connections
        return await self._drops.perform(users, lambda user, call: drops.expire(keys, user, call, before_ms, keep))

    async def revoke(self, user: str, jti: str) -> Acknowledgement:
        """Voids one token by its id and drops the socket that came with it."""
        keys = self._store.keys
        return await self._drops.perform([user], lambda _, call: drops.revoke(keys, user, call, jti))


def verifier_of(config: Config, credentials: Credentials) -> Verifier:
    """The verifier for the gateway's own tokens and, as configured, the app's.

    Raises:
        ConfigError: The public key file cannot be read or holds no key.
    """
    rules = Rules(
        audience=credentials.app_key,
        foreign_audience=config.jwt_audience,
        foreign_issuer=config.jwt_issuer,
        foreign_user_claim=config.jwt_user_claim,
        skew_ms=int(config.clock_skew_s * 1000),
        token_bytes_max=config.token_bytes_max,
        user_pattern=config.id_pattern,
    )
    return Verifier(rules, [*_own_keys(config, credentials), *_foreign_keys(config)])


def _own_keys(config: Config, credentials: Credentials) -> list[Key]:
    own = frozenset({TOKEN_ALGORITHM})
    return [Key(secret.value, own, until=secret.until_ms) for secret in credentials.secrets(config)]


def _foreign_keys(config: Config) -> list[Key]:
    keys = []
    hashed = frozenset(name for name in config.jwt_algorithms if name.startswith("HS"))
    signed = frozenset(config.jwt_algorithms) - hashed
    if config.jwt_secret is not None and hashed:
        keys.append(Key(config.jwt_secret, frozenset(hashed), foreign=True))
    if config.jwt_public_key_file is not None and signed:
        path = config.jwt_public_key_file
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise ConfigError([Fault(str(path), "jwt_public_key_file", f"cannot be read: {error.strerror}")]) from error
        if b"PUBLIC KEY" not in pem:
            raise ConfigError([Fault(str(path), "jwt_public_key_file", "holds no PEM public key")])
        keys.append(Key(pem, frozenset(signed), foreign=True))
    return keys
