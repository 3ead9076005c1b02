"""The limit to compare the Server API with: a bare Litestar route that returns a constant, in the gateway's own set-up.

python -m loadtest.bare_api        prints its port, serves until it is terminated
"""

from __future__ import annotations

import asyncio
import gc
import signal

import uvloop
from litestar import Litestar, post
from msgspec import Struct

from gateway.api.server import AdminServer
from gateway.cli.running import settle_garbage
from gateway.cli.serve import GARBAGE
from gateway.config import Config


class _Result(Struct, frozen=True):
    userId: str = "user-1"
    accessToken: str = "x" * 300


class _Answer(Struct):
    code: int = 0
    result: _Result = _Result()


_ANSWER = _Answer()


@post("/v4/auth/access-token/issue", status_code=200)
async def _constant() -> _Answer:
    return _ANSWER


async def _serve() -> None:
    application = Litestar([_constant], openapi_config=None, logging_config=None)
    server = AdminServer(application, Config(admin_port=0))
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    settle_garbage()
    print(server.port, flush=True)
    await stopped.wait()
    await server.stop()


if __name__ == "__main__":
    gc.set_threshold(*GARBAGE)
    uvloop.run(_serve())
