"""An operation of the Server API as a row: path, request, response, rate, scope, mark. One act of a service behind it.

Adding one means a request Struct whose bounds are in its annotations, a function of a few lines and its name in the
module's ``OPERATIONS``; checking, encoding and errors follow from the row.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_type_hints

import msgspec
from litestar.handlers import ASGIRouteHandler

from gateway.api import errors
from gateway.api.errors import Problem
from gateway.api.routes import routes
from gateway.config import Config
from gateway.services.services import Services

Q = TypeVar("Q")
R = TypeVar("R")

USER_ID = "user_id"
"""``Meta(extra={USER_ID: True})`` marks a string as a user id: held to ``id_pattern``, duplicates dropped."""


class Rate(NamedTuple):
    """How often an operation may be called by the app, over the whole cluster.

    Attributes:
        most: how many.
        per_s: in how many seconds.
        counted: what counts as one.
    """

    most: int
    per_s: int = 1
    counted: Literal["calls", "users", "recipients"] = "calls"


USUAL = Rate(100)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Operation(Generic[Q, R]):
    """One row.

    Attributes:
        paths: where it is served; the first is the documented one.
        act: the service call; its first line of documentation is the summary.
        asks: the type of the request body.
        answers: the type of ``result``; None = ``code`` alone.
        scope: what an admin token needs.
        rates: how often it may be called; all of them hold.
        counted: the list of ids in the request of which each counts as one call; None = a call counts as one.
        extension: whether the hosted service has no such call.
        coerces: whether numbers may come as strings (where the vendor's own pages say string).
        note: how it differs from the hosted service, in one sentence; empty = it does not.
        errors: the business codes it may answer beside those that every operation may.
        example: a request body that works, as it stands in JSON.
    """

    paths: tuple[str, ...]
    act: Callable[[Services, Q], Awaitable[R]]
    asks: type[Q]
    answers: Any
    scope: str
    rates: tuple[Rate, ...]
    counted: str | None
    extension: bool
    coerces: bool
    note: str
    errors: tuple[int, ...]
    example: Mapping[str, Any] | None

    async def perform(self, services: Services, asked: Q) -> R:
        """Counts the call against the row's rates, then acts; every dialect's calls count as one.

        Raises:
            Problem, Refused, StoreUnavailable, OutcomeUnknown.
        """
        windows = [(rate.most, rate.per_s) for rate in self.rates]
        weight = 1 if self.counted is None else len(getattr(asked, self.counted))
        await services.rates.take(self.paths[0], windows, weight)
        return await self.act(services, asked)


def operation(
    *paths: str,
    scope: str,
    rate: Rate | tuple[Rate, ...] = USUAL,
    extension: bool = False,
    coerces: bool = False,
    note: str = "",
    errors: tuple[int, ...] = (),
    example: Mapping[str, Any] | None = None,
) -> Callable[[Callable[[Services, Q], Awaitable[R]]], Operation[Q, R]]:
    """Makes a row of ``async def act(services, asked: Request) -> Result | None``; see ``Operation``."""
    rates = (rate,) if isinstance(rate, Rate) else rate

    def row(act: Callable[[Services, Q], Awaitable[R]]) -> Operation[Q, R]:
        hints = get_type_hints(act, include_extras=True)
        answers = None if hints["return"] is type(None) else hints["return"]
        counted = None if rates[0].counted == "calls" else _listed_ids(hints["asked"])
        return Operation(
            paths, act, hints["asked"], answers, scope, rates, counted, extension, coerces, note, errors, example
        )

    return row


class Done(msgspec.Struct, frozen=True):
    """Success without more to say."""

    code: int = 0


_DONE = Done()


class Success(msgspec.Struct, Generic[R], kw_only=True, frozen=True):
    """Success with a result.

    Attributes:
        code: always the integer 0.
        result: what was asked for.
    """

    code: int = 0
    result: R


class Body(Generic[Q]):
    """Reads and checks a request body: one pass of msgspec, then the ids.

    Args:
        asks: the type to read.
        id_matches: whether a string is a well-formed user id.
        ids_max: how many ids a list may have that has no bound of its own.
        coerces: see ``Operation``.
    """

    def __init__(
        self, asks: type[Q], id_matches: Callable[[str], object], ids_max: int, *, coerces: bool = False
    ) -> None:
        self._decode = msgspec.json.Decoder(asks, strict=not coerces).decode
        self._id_matches = id_matches
        self._ids_max = ids_max
        self._ids = id_fields(asks)

    def read(self, content_type: str | None, body: bytes) -> Q:
        """The checked request.

        Raises:
            Problem: the body is not what the row asks for.
        """
        if content_type is not None and content_type.partition(";")[0].strip().lower() != "application/json":
            raise Problem(errors.INVALID_PARAMETER, "Content-Type must be application/json")
        try:
            if not body.isascii():
                # The decoder skips the fields that nobody asks for.
                body.decode()
            asked = self._decode(body)
        except msgspec.DecodeError as error:
            raise errors.problem_of_body(error) from error
        except (UnicodeDecodeError, RecursionError) as error:
            reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "nested too deep"
            raise Problem(errors.INVALID_PARAMETER, f"the body is not valid JSON: {reason}") from error
        self.check_ids(asked)
        return asked

    def check_ids(self, asked: Q) -> None:
        """Holds every user id to the app's pattern and drops those named twice.

        Raises:
            Problem: 1002 or 1005, naming the field and place.
        """
        for field in self._ids:
            self._check_ids(asked, field)

    def _check_ids(self, asked: Q, field: _IdField) -> None:
        attribute, name, bounded = field
        value = getattr(asked, attribute)
        if isinstance(value, list):
            if not bounded and len(value) > self._ids_max:
                raise Problem(errors.INVALID_PARAMETER, f"{name}: Expected `array` of length <= {self._ids_max}")
            for index, user in enumerate(value):
                self._check_id(user, f"{name}[{index}]")
            # Naming somebody twice is naming them once.
            setattr(asked, attribute, list(dict.fromkeys(value)))
        elif value is not None:
            self._check_id(value, name)

    def _check_id(self, user: str, where: str) -> None:
        if not self._id_matches(user):
            code = errors.TOO_LONG if len(user) > 64 else errors.INVALID_PARAMETER
            raise Problem(code, f"{where}: is not a well-formed user id")


class _IdField(NamedTuple):
    attribute: str
    name: str
    bounded: bool


def id_fields(asks: Any) -> tuple[_IdField, ...]:
    """The fields of a request that hold user ids: (attribute, name on the wire, whether the list has its own bound)."""
    info = msgspec.inspect.type_info(asks)
    if not isinstance(info, msgspec.inspect.StructType):
        return ()
    kinds = [(field, _of_ids(field.type)) for field in info.fields]
    return tuple(
        _IdField(
            field.name,
            field.encode_name,
            bounded=isinstance(kind, msgspec.inspect.ListType) and kind.max_length is not None,
        )
        for field, kind in kinds
        if kind is not None
    )


def _listed_ids(asks: Any) -> str:
    """The attribute that holds a list of ids; there must be one."""
    return next(
        field.name
        for field in msgspec.structs.fields(asks)
        if isinstance(_of_ids(msgspec.inspect.type_info(field.type)), msgspec.inspect.ListType)
    )


def _of_ids(kind: msgspec.inspect.Type) -> msgspec.inspect.Type | None:
    """The string or list type inside ``kind`` that holds user ids."""
    match kind:
        case msgspec.inspect.Metadata(type=inner, extra=extra):
            return inner if extra and USER_ID in extra else _of_ids(inner)
        case msgspec.inspect.ListType(item_type=item):
            return kind if _of_ids(item) is not None else None
        case msgspec.inspect.UnionType(types=types):
            return next((found for found in map(_of_ids, types) if found is not None), None)
    return None


def handlers(row: Operation[Any, Any], services: Services, config: Config) -> list[ASGIRouteHandler]:
    """What Litestar serves for a row: one handler a path."""
    body = Body(row.asks, re.compile(config.id_pattern).fullmatch, config.list_call_max, coerces=row.coerces)

    async def answer(asked: Any) -> Done | Success[Any]:
        result = await row.perform(services, asked)
        return _DONE if result is None else Success(result=result)

    return routes(row.paths, answer, body, scope=row.scope, bytes_max=config.admin_body_bytes_max)
