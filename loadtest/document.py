"""Documents that commands write in parts: each replaces its own and leaves the rest alone."""

from __future__ import annotations

import re
from pathlib import Path

from loadtest import files


def put(path: Path, part: str, text: str, *, title: str = "Benchmarks") -> None:
    """Puts a part into a document: where it stood before, or behind everything else.

    Args:
        path: the document; it is made, with ``title``, where it is not there yet.
        part: the part's name, of letters; it stands in the comments around it.
        text: Markdown.

    Raises:
        FileFault: the document cannot be written.
    """
    before = path.read_text() if path.exists() else f"# {title}\n"
    begin, end = f"<!-- part: {part} -->", f"<!-- end: {part} -->"
    whole = f"{begin}\n\n{text.strip()}\n\n{end}"
    # A function: a backslash in the text is one.
    after, found = re.subn(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: whole, before, count=1, flags=re.DOTALL)
    if not found:
        after = f"{before.rstrip()}\n\n{whole}\n"
    files.put(path, after)
