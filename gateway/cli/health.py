"""`gateway health`: for people, and for HEALTHCHECK."""

from __future__ import annotations

import os
import sys

from gateway.cli import reach, record
from gateway.cli.failure import Failed
from gateway.cli.flags import Given, with_settings


@with_settings("data_dir", "role", "client_host", "client_port", "admin_host", "admin_port", "tls_cert", "tls_key")
def health(given: Given) -> int:
    """Ask the gateway on this machine whether it can do its job; 0 means yes."""
    config = given.load(os.environ)
    addresses = reach.addresses(given, config)
    running = record.read(config.data_dir)
    no_clients = config.role == "admin" or (running is not None and running.client is None)
    url = addresses.admin if no_clients else addresses.client
    answer = reach.probe(url, config)
    if answer is None:
        raise Failed(f"no gateway answers at {url}")
    if not answer.ready:
        raise Failed(f"{url} is not ready: {answer.reason}")
    sys.stdout.write(f"{url} is ready\n")
    return 0
