"""Calls of the Server API in the course of a run: a few connections, kept, found again after a restart."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import orjson

from loadtest.http import Caller, request
from loadtest.target import Target, TargetFault

AT_ONCE = 16
ANSWER_S = 30.0


class CallFault(Exception):
    """The Server API did not do what it was asked; ``status`` is 0 where no answer came."""

    def __init__(self, path: str, status: int, body: bytes | str) -> None:
        shown = body.decode(errors="replace") if isinstance(body, bytes) else body
        super().__init__(f"{path} answered {status}: {shown}" if status else f"{path}: {shown}")
        self.status = status


class Calls:
    """Signed calls to the target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[Caller] = []
        self._free = asyncio.Semaphore(AT_ONCE)

    async def call(self, path: str, asked: object) -> dict[str, Any]:
        """Calls an operation that must succeed.

        Raises:
            TargetFault: the target's Server API or credentials are not known.
            CallFault: it was refused, or no answer came.
        """
        if not self._target.api or self._target.credentials is None:
            raise TargetFault("the Server API is needed: give --api, and --data-dir or --app-key and --app-secret")
        parts = urlsplit(self._target.api)
        whole = request(path, orjson.dumps(asked), self._target.credentials)
        async with self._free:
            caller = self._idle.pop() if self._idle else None
            try:
                async with asyncio.timeout(ANSWER_S):
                    if caller is None or not caller.connected:
                        caller = await Caller.to(parts.port or 80, parts.hostname or "127.0.0.1")
                    status, body = await caller.ask(whole)
            except (OSError, TimeoutError) as error:
                if caller is not None:
                    caller.close()
                raise CallFault(path, 0, str(error) or "no answer in time") from None
            self._idle.append(caller)
        if status != 200:
            raise CallFault(path, status, body)
        answer: dict[str, Any] = orjson.loads(body)
        return answer

    def close(self) -> None:
        """Hangs up."""
        for caller in self._idle:
            caller.close()
        self._idle.clear()
