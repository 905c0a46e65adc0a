"""Text by others inside of a prompt."""

from __future__ import annotations

from crosstune.text import content_hash


def fenced(name: str, text: str) -> str:
    """The text between two marks that it cannot hold itself.

    The marks carry a digest of the text. Who writes a passage would have to know the digest of the whole while
    writing it, so no passage can close the fence and go on as if the prompt were speaking.
    """
    mark = f"{name} {content_hash(text)[:12]}"
    return f"<{mark}>\n{text}\n</{mark}>"
