"""The limit on open files: every connection is one."""

from __future__ import annotations

import resource

RESERVED = 128
"""Open files beside connections: links to the store, ports, logs, the admin side."""


def raise_open_files(connections_max: int) -> str | None:
    """Raises the soft limit to the hard one; a warning where that is still too low for that many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # Some systems call the hard limit infinite and refuse it all the same.
            pass
        else:
            soft = hard
    return judge_open_files(connections_max, soft)


def judge_open_files(connections_max: int, limit: int) -> str | None:
    """The warning where that many open files are too few."""
    if limit == resource.RLIM_INFINITY or connections_max + RESERVED <= limit:
        return None
    return (
        f"connections_max is {connections_max}, but this process may open only {limit} files, so at most about "
        f"{max(0, limit - RESERVED)} connections: raise the limit (ulimit -n, LimitNOFILE=) or lower connections_max"
    )
