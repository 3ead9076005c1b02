"""Everything that touches Redis. Nothing above this floor knows a key, a command or a client library of it."""
