"""Runs one node in this process and prints its port: ``python -m tests.integration.worker URL CHANGES``."""

import asyncio
import sys

import orjson

from gateway.log import configure
from tests.nodes import running_node


async def main(url: str, changes: str) -> None:
    async with running_node(url, **orjson.loads(changes)) as node:
        print(node.listener.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    # To stderr: the port is alone on stdout.
    configure("warning")
    asyncio.run(main(sys.argv[1], sys.argv[2]))
