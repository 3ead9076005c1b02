"""How to reach a gateway from this machine: its addresses, whom to trust, and whether it is ready."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import NamedTuple

from gateway.cli import record
from gateway.cli.flags import Given
from gateway.config import Config
from gateway.config.rules import is_loopback

PROBE_WAIT_S = 3.0


class Addresses(NamedTuple):
    """Where client port and admin port are."""

    client: str
    admin: str


class Answer(NamedTuple):
    """What a gateway said of itself; ``reason`` is empty when it is ready."""

    ready: bool
    reason: str


def addresses(given: Given, config: Config) -> Addresses:
    """As flags say, else where the gateway of the data directory listens, else as the settings say."""
    running = record.read(config.data_dir)
    client = admin = None
    if running is not None:
        client = running.client if given.flags.get("client_port") is None else None
        admin = running.admin if given.flags.get("admin_port") is None else None
    return Addresses(
        client or record.client_url(config, config.client_port),
        admin or record.admin_url(config, config.admin_port),
    )


def trust(config: Config) -> ssl.SSLContext | None:
    """How to trust the gateway of this machine: by its own certificate file, whatever name is in it."""
    running = record.read(config.data_dir)
    certificate = config.tls_cert or (running.certificate if running else None)
    if certificate is None:
        return None
    context = ssl.create_default_context()
    if is_loopback(record.reachable(config.client_host)):
        context.check_hostname = False
        # A file that holds no certificate is told by whoever serves with it; here it only means that nobody is trusted.
        with contextlib.suppress(OSError):
            context.load_verify_locations(certificate)
    return context


def probe(url: str, config: Config) -> Answer | None:
    """Asks a port's `/readyz`; None where no gateway answers."""
    page = url.replace("ws", "http", 1) if url.startswith("ws") else url
    opener = urllib.request.build_opener(
        # What runs on this machine is never behind the proxy of the environment.
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=trust(config)),
    )
    try:
        with opener.open(page + "/readyz", timeout=PROBE_WAIT_S) as response:
            body = response.read(4096)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(4096)
    except (OSError, ValueError, http.client.HTTPException):
        return None
    try:
        said = json.loads(body)
        return Answer(said["code"] == 0, str(said.get("reason") or said.get("errorMessage") or ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
