"""A v1 operation as a row: which v4 row it stands for, its own names for that row's fields, and the answer.

The dialect is a codec. Decisions are the v4 row's, and bounds and rates as well where v1 has no others; nothing is
decided here a second time.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from litestar.handlers import ASGIRouteHandler

from gateway.api import errors
from gateway.api.errors import INVALID_PARAMETER, Problem
from gateway.api.operation import Body, Operation, Rate
from gateway.api.routes import routes
from gateway.api.v1 import body as bodies
from gateway.api.v1.dialect import NAMES
from gateway.api.v1.kinds import Kind, text
from gateway.config import Config
from gateway.services.errors import USER_UNKNOWN, Refused
from gateway.services.services import Services

SUCCESS = 200
"""``code`` of every answer that is no error."""

NO_POST_DATA = 1003

Fields = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """One field of a request.

    Attributes:
        name: in v1.
        wire: the field of the v4 request that it becomes.
        kind: reads what was sent.
        default: what holds where nothing was sent; UNSET = what holds in v4.
    """

    name: str
    wire: str
    kind: Kind = text
    default: Any = msgspec.UNSET


def nothing(result: Any) -> Fields:
    """The answer that is ``code`` alone."""
    return {}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row.

    Attributes:
        paths: where it is served; the first is the documented one.
        operation: the v4 row that it is another name of.
        performed: that row with what v1 has otherwise: the request's bounds, the rate.
        parameters: the fields that are read; others are ignored.
        answer: what goes beside ``code``, from the v4 result.
        unknown_user: what goes beside ``code`` where v4 refuses a user it does not know; None = refused here too.
    """

    paths: tuple[str, ...]
    operation: Operation[Any, Any]
    performed: Operation[Any, Any]
    parameters: tuple[Parameter, ...]
    answer: Callable[[Any], Fields] = nothing
    unknown_user: Mapping[str, Any] | None = None


def row(
    *paths: str,
    of: Operation[Any, Any],
    takes: Sequence[Parameter] = (),
    answer: Callable[[Any], Fields] = nothing,
    unknown_user: Mapping[str, Any] | None = None,
    asks: type[Any] | None = None,
    rate: Rate | None = None,
) -> Row:
    """Makes a row; see ``Row``.

    Args:
        asks: a request with other bounds than the v4 row's.
        rate: counted for this row alone; None = together with the v4 row.
    """
    performed = of if asks is None else dataclasses.replace(of, asks=asks)
    if rate is not None:
        performed = dataclasses.replace(performed, paths=paths, rates=(rate,))
    return Row(paths, of, performed, tuple(takes), answer, unknown_user)


class Codec:
    """Reads requests of one row into the request of the v4 row.

    Args:
        row: the row.
        config: the form of user ids and the length of lists.
    """

    def __init__(self, row: Row, config: Config) -> None:
        operation = row.performed
        self._asks = operation.asks
        self._parameters = row.parameters
        self._v4 = Body(operation.asks, re.compile(config.id_pattern).fullmatch, config.list_call_max)

    def read(self, content_type: str | None, body: bytes) -> Any:
        """The checked v4 request.

        Raises:
            Problem: the body is not what the row asks for. The message begins with the v4 name of the field.
        """
        sent = bodies.read(content_type, body)
        asked: dict[str, Any] = {}
        for parameter in self._parameters:
            value = self._read(parameter, sent)
            if value is not msgspec.UNSET:
                asked[parameter.wire] = value
        try:
            request = msgspec.convert(asked, self._asks)
        except msgspec.ValidationError as error:
            problem = errors.problem_of_body(error)
            if not sent:
                raise Problem(NO_POST_DATA, problem.message) from error
            raise problem from error
        self._v4.check_ids(request)
        return request

    def _read(self, parameter: Parameter, sent: bodies.Values) -> Any:
        if parameter.name not in sent:
            return parameter.default
        try:
            value = parameter.kind(sent[parameter.name])
        except ValueError as error:
            raise Problem(INVALID_PARAMETER, f"{parameter.wire}: {error}") from error
        return parameter.default if value is msgspec.UNSET else value


def handlers(row: Row, services: Services, config: Config) -> list[ASGIRouteHandler]:
    """What Litestar serves for a row: one handler a path."""
    operation, names = row.performed, {each.wire: each.name for each in row.parameters}

    async def answer(asked: Any) -> Fields:
        try:
            result = await operation.perform(services, asked)
        except (Problem, Refused) as refusal:
            if row.unknown_user is None or refusal.code != USER_UNKNOWN:
                raise
            return {"code": SUCCESS, **row.unknown_user}
        return {"code": SUCCESS, **row.answer(result)}

    return routes(
        row.paths,
        answer,
        Codec(row, config),
        scope=operation.scope,
        bytes_max=config.admin_body_bytes_max,
        opt={NAMES: names},
    )
