"""Decisions without I/O: time is an argument, nothing here waits, reads a clock or knows a socket."""
