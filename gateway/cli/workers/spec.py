"""How each of several workers differs from a gateway that is one process."""

from __future__ import annotations

import dataclasses
import math

from gateway.config import Config, Credentials
from gateway.node import node_id_of

NODE_ID_MAX = 60
"""Longest name that still leaves room for a worker's number in a node's 64 characters."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """What a worker needs to begin; it goes through the channel and nowhere else.

    Attributes:
        index: its number, from 0.
        config: its own settings.
        credentials: the app's key and secret.
        url: of the store.
    """

    index: int
    config: Config
    credentials: Credentials = dataclasses.field(repr=False)
    url: str = dataclasses.field(repr=False)


def group_of(config: Config) -> str:
    """The name that the node ids of all workers begin with."""
    return node_id_of(config)[:NODE_ID_MAX]


def config_of(config: Config, index: int, client_port: int, admin_port: int) -> Config:
    """The settings of one worker.

    What binds one address is divided: the kernel spreads its connections evenly over the workers, which know nothing
    of each other's. Every other limit is a node's, and each worker is a node.
    """

    def share(limit: int) -> int:
        return math.ceil(limit / config.workers)

    return dataclasses.replace(
        config,
        node_id=f"{group_of(config)}-{index}",
        client_port=client_port,
        admin_port=admin_port,
        role=config.role if index == 0 or config.role != "all" else "edge",
        connect_rate_per_address_s=share(config.connect_rate_per_address_s),
        connect_burst_per_address=share(config.connect_burst_per_address),
        connections_per_address_max=share(config.connections_per_address_max),
    )
