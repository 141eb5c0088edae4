"""A ``<think>`` block at the head of a text parted from the answer, also where a tag is cut in pieces.

Pure.  Only the head counts: an answer that speaks about the tag later keeps it.
"""

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkSplitter:
    """``opened``: the chat template has written the opening tag, so that the text begins inside the block."""

    def __init__(self, *, opened: bool) -> None:
        self.thinking = opened
        self._held = ""
        self._at_head = True
        self._fresh = True

    def feed(self, text: str) -> tuple[str, str]:
        """Thought and answer in a piece of the text, but for what may be the beginning of a tag."""
        self._held += text
        if self._at_head:
            self._look_for_block()
        if self._at_head:
            return "", ""
        thought = self._thought() if self.thinking else ""
        answer = "" if self.thinking else self._take(len(self._held))
        return thought, answer

    def flush(self) -> tuple[str, str]:
        """What was held back because it might have been a tag."""
        rest = self._take(len(self._held))
        return (rest, "") if self.thinking else ("", rest)

    def _look_for_block(self) -> None:
        """The opening tag behind line breaks; a model may write it although its template has."""
        text = self._held.lstrip()
        if text.startswith(_OPEN):
            self.thinking = True
            self._held = text[len(_OPEN) :]
        elif not text or _OPEN.startswith(text):
            return
        self._at_head = False

    def _thought(self) -> str:
        end = self._held.find(_CLOSE)
        if end < 0:
            return self._take(len(self._held) - _partial(self._held, _CLOSE))
        thought = self._take(end)
        self._held = self._held[len(_CLOSE) :]
        self.thinking = False
        self._fresh = True
        return thought

    def _take(self, size: int) -> str:
        """The head of what is held; templates put line breaks around the tags, which belong to neither side."""
        text, self._held = self._held[:size], self._held[size:]
        text = text.lstrip("\n") if self._fresh else text
        self._fresh = self._fresh and not text
        return text


def _partial(text: str, tag: str) -> int:
    """How many characters at the end may be the beginning of the tag."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)
