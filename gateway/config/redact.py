"""Hides the password inside a URL."""

import re

_USER_PART = re.compile(r"://[^/@\s]*@")
_OPTION = re.compile(r"([?&]sentinel_password=)[^&\s]*")


def without_password(value: object) -> object:
    """The value with the passwords of a URL in it starred out; other values as they are."""
    return _OPTION.sub(r"\1***", _USER_PART.sub("://***@", value)) if isinstance(value, str) else value
