"""A process that dies, as its store sees it: no call comes any more."""

from __future__ import annotations

from typing import Any

from gateway.store.call import Call
from gateway.store.errors import StoreUnavailable
from gateway.store.store import Store


class Mortal(Store):
    """A store whose caller dies before its n-th call."""

    def __init__(self, store: Store, lives: int) -> None:
        super().__init__(store.topology)
        self.lives = lives

    def _live(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise StoreUnavailable("the process died")

    async def execute(self, call: Call) -> Any:
        self._live()
        return await super().execute(call)

    async def execute_all(self, calls: Any) -> Any:
        self._live()
        return await super().execute_all(calls)
