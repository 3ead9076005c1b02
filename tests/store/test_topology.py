"""Redis URLs, the map of a cluster, and redis-py's errors in the store's own words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.errors import Moved, OutcomeUnknown, StoreRefused, StoreUnavailable
from gateway.store.keys import Keys
from gateway.store.store import Store
from gateway.store.topology import Topology, parse
from tests.certificates import self_signed
from tests.servers import Cluster, Server, free_ports, redis7_binary
from tests.store.acts import asked, link_to
from tests.waiting import eventually

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "shown", "cluster", "tls"),
    [
        ("redis://h", "h:6379", False, False),
        ("redis://h:6380/0", "h:6380", False, False),
        ("redis://", "localhost:6379", False, False),
        ("redis://[::1]:7", "::1:7", False, False),
        ("rediss://h", "h:6379", False, True),
        ("redis+cluster://h:1", "h:1", True, False),
        ("rediss+cluster://h:1", "h:1", True, True),
        ("unix:///run/r.sock", "/run/r.sock", False, False),
        ("unix:///with%20space", "/with space", False, False),
        (f"redis://user:{SECRET}@h", "h:6379", False, False),
    ],
)
def test_a_url_is_taken_apart(url: str, shown: str, cluster: bool, tls: bool) -> None:
    address = parse(url)
    assert (address.shown, address.cluster, address.endpoint.ssl is not None) == (shown, cluster, tls)


def test_credentials_may_hold_any_character() -> None:
    endpoint = parse("redis://us%40er:p%2Fa%3As%40s@h").endpoint
    assert (endpoint.username, endpoint.password) == ("us@er", "p/a:s@s")
    assert parse("redis://:only@h").endpoint[3:5] == (None, "only")
    assert parse("unix://u:p@/run/r.sock").endpoint[2:5] == ("/run/r.sock", "u", "p")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "starts with one of"),
        ("localhost:6379", "starts with one of"),
        ("http://u:hunter2@h", "starts with one of"),
        ("redis://u:hunter2@h/3", "database 3"),
        ("redis://u:hunter2@h/0?db=3", "no options"),
        ("redis://u:hunter2@h:0", "port"),
        ("redis://u:hunter2@h:65536", "port"),
        ("redis://u:hunter2@h:abc", "port"),
        ("redis://u:hunter2@[h", "IPv6"),
        ("unix://", "path"),
        ("unix://u:hunter2@run/r.sock", "path"),
        ("unix:///run/r.sock?db=1", "no options"),
        ("redis+sentinel://u:hunter2@h", "names the service"),
        ("redis+sentinel://u:hunter2@h/a/b", "names the service"),
        ("redis+sentinel://u:hunter2@h,/chat", "every sentinel"),
        ("redis+sentinel://u:hunter2@h:0/chat", "every sentinel"),
        ("redis+sentinel://u:hunter2@h:x/chat", "every sentinel"),
        ("redis+sentinel://h/chat?sentinel_password=hunter2&db=1", "no option but"),
        ("redis+sentinel://u:hunter2@" + ",".join("h" * 17) + "/chat", "at most 16"),
        ("rediss+sentinel://u:hunter2@h/chat?sslcertreqs=none", "unknown option sslcertreqs"),
        ("rediss://u:hunter2@h?sslcertreqs=none", "unknown option sslcertreqs"),
        ("rediss://u:hunter2@h?ssl_ca_certs=/no/such/file", "/no/such/file"),
    ],
)
def test_a_wrong_url_says_what_is_wrong_and_never_the_password(url: str, word: str) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        parse(url)
    assert SECRET not in str(caught.value)


def test_a_sentinel_url_names_sentinels_and_a_service() -> None:
    address = parse(f"rediss+sentinel://u:{SECRET}@h1,h2:7,[::1]:8/chat?sentinel_password=p%2Bq&ssl_cert_reqs=none")
    assert [(each.host, each.port, each.password) for each in address.sentinels] == [
        ("h1", 26379, "p+q"),
        ("h2", 7, "p+q"),
        ("::1", 8, "p+q"),
    ]
    assert (address.service, address.moves, address.cluster) == ("chat", True, False)
    assert (address.endpoint.username, address.endpoint.password) == ("u", SECRET)
    assert address.endpoint.ssl is not None
    assert all(each.ssl is address.endpoint.ssl for each in address.sentinels)
    assert address.shown == "chat of the sentinels h1:26379, h2:7, ::1:8"
    plain = parse("redis+sentinel://h/chat")
    assert (plain.endpoint.password, plain.sentinels[0].password, plain.endpoint.ssl) == (None, None, None)


@pytest.mark.parametrize("path", [True, False])
async def test_a_server_that_is_not_there_is_unavailable_and_its_password_unsaid(path: bool, tmp_path: Path) -> None:
    url = f"unix://u:{SECRET}@{tmp_path}/none" if path else f"redis://u:{SECRET}@127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(StoreUnavailable) as caught:
        await Store.open(url)
    assert SECRET not in str(caught.value)


async def test_a_wrong_password_is_refused_and_unsaid(valkey: Server) -> None:
    url = valkey.url.replace("unix://", f"unix://nobody:{SECRET}@")
    with pytest.raises((StoreUnavailable, StoreRefused)) as caught:
        await Store.open(url)
    assert SECRET not in str(caught.value)


async def test_the_masters_of_a_cluster_hold_equal_shares_of_the_partitions(cluster: Cluster) -> None:
    topology = Topology(parse(cluster.url), Keys(256), 2.0)
    try:
        assert await topology.discover()
        assert not await topology.discover()
        counts = Counter(topology.owner[:256])
        assert sorted(counts) == [0, 1, 2]
        assert max(counts.values()) - min(counts.values()) <= 1
        assert len(topology.owner) == topology.keys.places
        # Every master agrees that it holds what the map says.
        for partition in (0, 100, 255, topology.keys.nodes_place, topology.keys.settings_place):
            name = "gw:nodes" if partition > 255 else topology.keys.todo(partition)
            if partition <= 255 or partition == topology.keys.nodes_place:
                await topology.master(partition).execute("EXISTS", name)
    finally:
        await topology.close()


async def test_any_one_node_tells_the_map_and_a_server_without_cluster_says_so(
    cluster: Cluster, valkey: Server
) -> None:
    maps = []
    for server in cluster.servers:
        topology = Topology(parse(server.url.replace("redis://", "redis+cluster://")), Keys(256), 2.0)
        await topology.discover()
        maps.append([str(topology.master(place).endpoint) for place in range(topology.keys.places)])
        await topology.close()
    assert maps[0] == maps[1] == maps[2]
    alone = Topology(parse(cluster.url)._replace(endpoint=parse(valkey.url).endpoint), Keys(256), 2.0)
    with pytest.raises(StoreUnavailable, match="cluster support disabled"):
        await alone.discover()


async def test_the_map_is_read_from_another_master_when_the_one_of_the_url_is_gone(cluster: Cluster) -> None:
    topology = Topology(parse(cluster.url), Keys(256), 2.0)
    await topology.discover()
    topology.address = topology.address._replace(endpoint=topology.address.endpoint._replace(port=free_ports(1)[0]))
    assert not await topology.discover()
    await topology.close()


async def test_redis_own_words_reach_the_store_though_redis_py_takes_them_off(cluster: Cluster, valkey: Server) -> None:
    topology = Topology(parse(cluster.url), Keys(256), 2.0)
    await topology.discover()
    wrong = topology.masters[(topology.owner[0] + 1) % 3]
    with pytest.raises(Moved):
        await wrong.execute("GET", topology.keys.todo(0))
    await topology.close()
    one = Topology(parse(valkey.url), Keys(256), 0.3)
    await one.discover()
    master = one.masters[0]
    try:
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            await master.execute("SET", "k", "v")
            await master.execute("LPUSH", "k", "v")
        await master.execute("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="OOM"):
            await master.execute("SET", "k", "v")
        await master.execute("CONFIG", "SET", "maxmemory", 0)
        valkey.pause()
        with pytest.raises(OutcomeUnknown):
            await master.execute("SET", "k", "v")
    finally:
        valkey.resume()
        with valkey.client() as client:
            client.config_set("maxmemory", 0)
        await one.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself: cert.pem and key.pem."""
    certificate, _ = self_signed(tmp_path_factory.mktemp("tls"))
    return certificate.parent


@pytest.fixture
def tls_port(certificates: Path) -> Iterator[int]:
    plain, port = free_ports(2)
    server = Server.on_port(
        redis7_binary(),
        plain,
        **{
            "tls-port": str(port),
            "tls-cert-file": str(certificates / "cert.pem"),
            "tls-key-file": str(certificates / "key.pem"),
            "tls-auth-clients": "no",
        },
    )
    yield port
    server.stop()


async def test_both_ways_to_redis_trust_the_authorities_that_the_url_names(tls_port: int, certificates: Path) -> None:
    for query in (f"ssl_ca_certs={certificates}/cert.pem", "ssl_cert_reqs=none"):
        url = f"rediss://127.0.0.1:{tls_port}?{query}"
        store = await Store.open(url)
        await store.close()
        link = link_to(parse(url).endpoint)
        link.start()
        try:
            await eventually(lambda link=link: link.up)  # type: ignore[misc]
            assert await asked(link, "ECHO", "x") == b"x"
        finally:
            await link.close()
    with pytest.raises(StoreUnavailable, match="certificate"):
        await Store.open(f"rediss://127.0.0.1:{tls_port}")
