"""How figures are written for people: as many digits as they deserve, with their unit."""

from __future__ import annotations

NONE = "\N{EN DASH}"


def count(value: float | None) -> str:
    """A number of things or a rate: ``7``, ``0.42``, ``12,345``."""
    if value is None:
        return NONE
    if value and abs(value) < 10 and value != round(value):
        return f"{value:.2f}" if abs(value) < 1 else f"{value:.1f}"
    return f"{value:,.0f}"


def milliseconds(value: float | None) -> str:
    """A latency given in ms: ``86 µs``, ``1.42 ms``, ``310 ms``, ``2.41 s``."""
    if value is None:
        return NONE
    if value < 1:
        return f"{value * 1000:.0f} µs"
    if value < 1000:
        return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"
    return f"{value / 1000:.2f} s"


def microseconds(value: float | None) -> str:
    """A cost given in µs: ``29.4 µs``."""
    return NONE if value is None else f"{value:.1f} µs"


def size(value: float | None) -> str:
    """Bytes: ``812 B``, ``6.2 KiB``, ``124 MiB``."""
    if value is None:
        return NONE
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def cores(value: float | None) -> str:
    """A share of CPU, 1.0 = one core: ``62 %``, ``140 %``."""
    return NONE if value is None else f"{value * 100:.0f} %"


def duration(seconds: float) -> str:
    """A length of time: ``8.0 s``, ``95 s``, ``3:05 min``, ``2:10 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60) if seconds >= 7200 else int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02} h" if seconds >= 7200 else f"{minutes}:{int(seconds % 60):02} min"


def words(name: str) -> str:
    """A key as words: ``wrongly_delivered`` → ``wrongly delivered``."""
    return name.replace("_", " ")
