"""`gateway serve`: what stands around the event loop - settings, limits of the process, the embedded store."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl

import uvloop

from gateway import log
from gateway.cli.app import complain
from gateway.cli.failure import USAGE, Failed
from gateway.cli.files import raise_open_files
from gateway.cli.flags import Given, with_settings
from gateway.cli.own_store import OwnStore
from gateway.cli.running import serve_until_told
from gateway.cli.workers.supervisor import supervise
from gateway.config import Config, ConfigError, Credentials
from gateway.store.embedded import StoreStartError
from gateway.transport.listener import tls_context

GARBAGE = (10_000, 1, 1000)
"""Objects between collections of the youngest, young collections between older ones, those between full ones. The loop
stands still meanwhile, 0.4 µs an object: no collection looks at more than 30,000, but the full one, which sees every
connection and is for what hardly ever comes: connections and messages end without leaving cycles."""


@with_settings()
def serve(given: Given) -> int:
    """Run the gateway: client port, admin port and, without --redis-url, an embedded store."""
    config = given.load(os.environ)
    log.configure(config.log_level, config.log_format)
    check_workers(config)
    check_tls(config)
    warning = raise_open_files(config.connections_max)
    if warning:
        complain(f"warning: {warning}")
    credentials = load_credentials(config)
    gc.set_threshold(*GARBAGE)
    if config.redis_url is not None:
        return _run(config, credentials, None)
    try:
        store = OwnStore(config.data_dir)
    except StoreStartError as error:
        raise Failed(*str(error).splitlines()) from error
    try:
        return _run(config, credentials, store)
    finally:
        # Last of all: the node's goodbyes were written to it.
        store.stop()


def _run(config: Config, credentials: Credentials, store: OwnStore | None) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run((supervise if config.workers > 1 else serve_until_told)(config, credentials, store))


def check_workers(config: Config) -> None:
    """Raises Failed where there can be only one worker."""
    if config.workers > 1 and config.role == "admin":
        raise Failed(
            f"workers = {config.workers}: workers share the client port, which role admin has not; set workers = 1",
            status=USAGE,
        )
    if config.workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise Failed(f"workers = {config.workers}: this system lets no port be shared; set workers = 1", status=USAGE)


def check_tls(config: Config) -> None:
    """Raises Failed where certificate and key cannot be used."""
    try:
        tls_context(config)
    except ssl.SSLError as error:
        mismatch = "KEY_VALUES_MISMATCH" in str(error)
        problem = "do not belong together" if mismatch else "are not a PEM certificate and its key"
        raise Failed(f"tls_cert {config.tls_cert} and tls_key {config.tls_key} {problem}") from error
    except OSError as error:
        raise Failed(f"tls_cert {config.tls_cert} or tls_key {config.tls_key}: {error.strerror}") from error


def load_credentials(config: Config) -> Credentials:
    """The app's key and secret; Failed where the data directory does not let them be kept."""
    try:
        return Credentials.load_or_create(config.data_dir, config)
    except ConfigError as error:
        raise Failed(*map(str, error.faults)) from error
