"""Which server holds which partition: one server, the one that sentinels name, or the masters of a Redis Cluster."""

from __future__ import annotations

import ssl
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from gateway.store.endpoint import Endpoint
from gateway.store.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from gateway.store.keys import SLOTS, Keys
from gateway.store.master import Master
from gateway.store.sentinel import master_of

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
)
SENTINEL_PORT = 26379
SENTINELS_MAX = 16


class Address(NamedTuple):
    """A Redis URL, taken apart.

    Attributes:
        endpoint: the server, or any node of a cluster; with sentinels what its credentials and TLS are, and the first
            sentinel's host.
        sentinels: who is to be asked where the server is; none = it is where ``endpoint`` says.
        service: what the sentinels call it.
    """

    endpoint: Endpoint
    cluster: bool
    sentinels: tuple[Endpoint, ...] = ()
    service: str = ""

    @property
    def moves(self) -> bool:
        """Whether another server may take over."""
        return self.cluster or bool(self.sentinels)

    @property
    def shown(self) -> str:
        """The address without its password."""
        if self.sentinels:
            return f"{self.service} of the sentinels {', '.join(map(str, self.sentinels))}"
        return str(self.endpoint)


def parse(url: str) -> Address:
    """Takes a Redis URL apart.

    Args:
        url: ``redis://``, ``rediss://`` (TLS), ``unix://``; ``redis+cluster://``, ``rediss+cluster://`` with any
            one node of the cluster; or ``redis+sentinel://``, ``rediss+sentinel://`` with the sentinels, parted by
            commas, and the service's name as the path.

    Raises:
        ValueError: What is wrong with it, without the password.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a Redis URL starts with one of {', '.join(scheme + '://' for scheme in SCHEMES)}")
    if parts.scheme.endswith("+sentinel"):
        return _read_sentinels(parts)
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    tls = ssl.create_default_context() if parts.scheme.startswith("rediss") else None
    if parts.query and tls is None:
        raise ValueError(f"a {parts.scheme}:// URL takes no options behind a question mark")
    authorities = _read_options(tls, parts.query) if tls is not None and parts.query else None
    if parts.scheme == "unix":
        if not parts.path or parts.hostname:
            raise ValueError("a unix:// URL needs an absolute path: unix:///path/of/the/socket")
        return Address(Endpoint(None, 0, unquote(parts.path), username, password, None), False)
    database = parts.path.strip("/")
    if database not in ("", "0"):
        raise ValueError(f"database {database} cannot be used: pub/sub is shared by all databases; use 0")
    try:
        port = 6379 if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise ValueError("the port is not a number from 1 to 65535")
    endpoint = Endpoint(parts.hostname or "localhost", port, None, username, password, tls, authorities)
    return Address(endpoint, parts.scheme.endswith("+cluster"))


def _read_sentinels(parts: SplitResult) -> Address:
    """``rediss+sentinel://user:password@host:port,host:port/service?sentinel_password=…``; TLS is for all of them."""
    userinfo, _, hosts = parts.netloc.rpartition("@")
    service = unquote(parts.path.strip("/"))
    if not service or "/" in service:
        raise ValueError("a sentinel URL names the service: redis+sentinel://host:26379,host:26379/mymaster")
    username, _, password = map(unquote, userinfo.partition(":"))
    tls = ssl.create_default_context() if parts.scheme.startswith("rediss") else None
    options = [option for option in parts.query.split("&") if option]
    given = [option for option in options if option.startswith("sentinel_password=")]
    others = "&".join(option for option in options if option not in given)
    if others and tls is None:
        raise ValueError(f"a {parts.scheme}:// URL takes no option but sentinel_password")
    authorities = _read_options(tls, others) if tls is not None and others else None
    asked_with = unquote(given[0].partition("=")[2]) or None if given else None
    sentinels = []
    for each in hosts.split(","):
        try:
            host, port = (split := urlsplit(f"//{each}")).hostname, split.port
        except ValueError:
            host, port = None, 0
        if not host or port == 0:
            raise ValueError("every sentinel is a host, or a host and a port from 1 to 65535")
        sentinels.append(Endpoint(host, port or SENTINEL_PORT, None, None, asked_with, tls, authorities))
    if len(sentinels) > SENTINELS_MAX:
        raise ValueError(f"at most {SENTINELS_MAX} sentinels")
    server = Endpoint(sentinels[0].host, 0, None, username or None, password or None, tls, authorities)
    return Address(server, False, tuple(sentinels), service)


def _read_options(tls: ssl.SSLContext, query: str) -> str | None:
    """Puts a URL's TLS options in force; returns the file of trusted authorities where one is named."""
    authorities = None
    for option in query.split("&"):
        name, _, value = option.partition("=")
        if name == "ssl_ca_certs":
            authorities = unquote(value)
            try:
                tls.load_verify_locations(authorities)
            except OSError as error:
                raise ValueError(f"ssl_ca_certs: {authorities} cannot be used: {error.strerror or error}") from error
        elif name == "ssl_cert_reqs" and value == "none":
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        else:
            raise ValueError(f"unknown option {name} (known: ssl_ca_certs=FILE, ssl_cert_reqs=none)")
    return authorities


class Topology:
    """The masters, and which partition each one holds.

    Attributes:
        generation: raised at every change, whoever noticed it; tells who built on an earlier state to build again.
    """

    def __init__(self, address: Address, keys: Keys, timeout_s: float) -> None:
        self.address = address
        self.keys = keys
        self.timeout_s = timeout_s
        self.masters: list[Master] = []
        self.owner: list[int] = []
        self.generation = 0
        self._endpoints: list[Endpoint] = []
        self._told_epoch = 0

    async def discover(self) -> bool:
        """Reads which master holds which slots, or asks the sentinels for the master.

        Returns:
            Whether that differs from what was known.

        Raises:
            StoreUnavailable: No server answers, no sentinel knows the master, or the cluster does not cover all slots.
        """
        address = self.address
        if address.cluster:
            endpoints, owner = await self._cluster_map()
        else:
            endpoint = address.endpoint
            if address.sentinels:
                told = await master_of(address.service, address.sentinels, self.timeout_s, self._told_epoch)
                self._told_epoch = told.epoch
                endpoint = endpoint._replace(host=told.host, port=told.port)
            endpoints, owner = [endpoint], [0] * self.keys.places
        if endpoints == self._endpoints and owner == self.owner:
            return False
        old = self.masters
        known = {master.endpoint: master for master in old}
        self.masters = [
            known.pop(endpoint) if endpoint in known else Master(endpoint, self.timeout_s) for endpoint in endpoints
        ]
        self._endpoints, self.owner = endpoints, owner
        self.generation += 1
        for master in known.values():
            await master.close()
        return True

    async def _cluster_map(self) -> tuple[list[Endpoint], list[int]]:
        seeds = [*self._endpoints, self.address.endpoint]
        fault: Exception | None = None
        for seed in seeds:
            master = Master(seed, self.timeout_s, connections_max=1)
            try:
                ranges = await master.execute("CLUSTER", "SLOTS")
                return self._read_slots(seed, ranges)
            except (StoreUnavailable, OutcomeUnknown, StoreRefused) as error:
                fault = error
            finally:
                await master.close()
        raise StoreUnavailable(f"no node of the cluster tells its slots: {fault}")

    def _read_slots(self, seed: Endpoint, ranges: list[Any]) -> tuple[list[Endpoint], list[int]]:
        by_slot: list[int | None] = [None] * SLOTS
        endpoints: list[Endpoint] = []
        for slots in sorted(_slot_ranges(ranges)):
            first, last, host, port = slots
            endpoint = seed._replace(host=host or seed.host, port=port)
            if endpoint not in endpoints:
                endpoints.append(endpoint)
            for slot in range(first, last + 1):
                by_slot[slot] = endpoints.index(endpoint)
        owner: list[int] = []
        for partition in range(self.keys.places):
            index = by_slot[self.keys.slot(partition)]
            if index is None:
                raise StoreUnavailable(f"no master holds slot {self.keys.slot(partition)}")
            owner.append(index)
        return endpoints, owner

    def master(self, partition: int) -> Master:
        """The master that holds a partition (or a deployment-wide key's place)."""
        return self.masters[self.owner[partition]]

    async def close(self) -> None:
        masters, self.masters = self.masters, []
        for master in masters:
            await master.close()


def _slot_ranges(reply: Any) -> list[tuple[int, int, str, int]]:
    """CLUSTER SLOTS as (first, last, host, port), whether redis-py has already parsed it into a dict or not."""
    if isinstance(reply, dict):
        return [
            (first, last, _text(node["primary"][0]), int(node["primary"][1])) for (first, last), node in reply.items()
        ]
    return [(int(row[0]), int(row[1]), _text(row[2][0]), int(row[2][1])) for row in reply]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
