"""Hides the password inside a URL."""

import re

_USER_PART = re.compile(r"://[^/@\s]*@")


def without_password(value: object) -> object:
    """The value with `user:password@` of a URL in it starred out; other values as they are."""
    return _USER_PART.sub("://***@", value) if isinstance(value, str) else value
