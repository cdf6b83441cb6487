"""Breaks an answer between its words where a terminal would break it inside one, while it is still being written."""

import re
from collections.abc import Callable

from mixtura.columns import display_width

_PART = re.compile(r"\n|[ \t]+|[^ \t\n]+")
_FENCE = ("```", "~~~")


class WordWrap:
    """Takes the pieces of a text and returns what to write: a word that does not fit begins a new line.

    Code between fences, rows of tables and indented lines stay as they are. A word is held until it is whole.

    Args:
        columns: returns the columns of the terminal, asked anew at every word.
    """

    def __init__(self, columns: Callable[[], int]) -> None:
        self._columns = columns
        self._word = ""
        self._blanks = ""
        self._line = ""  # the first characters of the line of the text
        self._column = 0
        self._fenced = False

    def add(self, text: str) -> str:
        """Return what is to be written now that `text` has come."""
        out: list[str] = []
        for part in _PART.findall(text):
            if part[0] not in " \t\n":
                self._word += part
                continue
            out.append(self._take_word())
            if part == "\n":
                if self._line.lstrip().startswith(_FENCE):
                    self._fenced = not self._fenced
                out.append(self._blanks + "\n")
                self._blanks, self._line, self._column = "", "", 0
            else:
                self._blanks += part
        if self._kept():
            # Nothing is moved to another line there, so nothing has to be held.
            out.append(self._take_word())
        return "".join(out)

    def end(self) -> str:
        """Return what was held; what comes next begins a line."""
        held = self._take_word() + self._blanks
        self._blanks, self._line, self._column = "", "", 0
        return held

    def _take_word(self) -> str:
        word, self._word = self._word, ""
        if not word:
            return ""
        blanks, self._blanks = self._blanks, ""
        if len(self._line) < len(_FENCE[0]) + 4:
            self._line += blanks + word[:8]
        width, columns = display_width(word), max(1, self._columns())
        spaced = self._column + display_width(blanks.expandtabs(8))
        if self._column and blanks and spaced + width > columns and not self._kept():
            self._column = width % columns
            return "\n" + word
        self._column = (spaced + width) % columns if spaced + width > columns else spaced + width
        return blanks + word

    def _kept(self) -> bool:
        return self._fenced or self._line.startswith(("|", "    ", "\t", *_FENCE))
