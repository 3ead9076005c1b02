"""The words of the client protocol, version 1: the one source of truth of the wire.

Commands go from the client to the gateway, replies answer one command, pushes come unasked.
The JSON Schema and the AsyncAPI document in ``docs/`` are generated from these structs.
"""

VERSION = 1
PATH = "/v1/connect"
SUBPROTOCOL = "gateway.v1"
BEARER_SUBPROTOCOL_PREFIX = "gateway.bearer."
