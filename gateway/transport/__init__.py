"""Client sockets: accepting, the opening handshake, RFC 6455 through the websockets library's Sans-I/O layer."""
