"""Where in a text a mark stands: in code, in quotes, in the middle of a sentence that speaks of it, or on its own."""

import re

_FENCE = re.compile(r"[ \t>*+-]*(`{3,}|~{3,})")
_TICKS = re.compile(r"`+")
_LONG_LINE = 400
_BEFORE = 40
# A sentence that goes on round a mark: a word or a comma before it, and after it a small letter or a stop.
_IN_SENTENCE = re.compile(
    r"""(?:[\w,;:)\]"'`”’»*–—-] | [/&|+=–—-] |\| |\w[,/|]|[\w ]['"(\[]|^[-*+] |^\d{1,3}[.)] |\*\*)$"""
)
_GOES_ON = re.compile(r"""[ ](?:[a-zß-ÿ(–—&/|=+-]|\Z)|[,.;:!?)\]}"'”’»*|/…]|</""")
# A line that begins with a mark and speaks of it.
_SPOKEN_OF = re.compile(
    r"[ ](?:and|or|is|are|was|tags?|blocks?|elements?|tokens?|markers?|means|marks|opens|closes|begins|ends|starts)\b"
    r"|[,;:)=]|[ ]?[–—=|]"
)
_OPENS_QUOTE = re.compile(r"""(?:^|[\s({\[:,=>])["'“‘«]$""")
_CLOSES_QUOTE = ('"', "'", "”", "’", "»", '\\"')
_LONE_TAG = re.compile(r"\s*<[A-Za-z][^<>]{0,80}>\s*")
_UNDECIDED = re.compile(r"[ ]?|[ ][a-z]{1,10}|<|\\")
AHEAD = 13
"""Characters behind a mark that may be looked at."""


def undecided(after: str) -> bool:
    """Say whether more than `after` must be known of what stands behind a mark."""
    return _UNDECIDED.fullmatch(after) is not None


class Place:
    """Knows where the end of a text stands."""

    def __init__(self) -> None:
        self._new: list[str] = []
        self._line = ""
        self._before = ""
        self._fence = ""
        self._code = ""  # the run of backticks that has opened code in this line
        self._shown_here: set[str] = set()
        self._shown: set[str] = set()

    def see(self, piece: str) -> None:
        """Note more text; it is looked at only when a mark asks."""
        self._new.append(piece)

    def _look(self) -> None:
        if not self._new:
            return
        new = "".join(self._new)
        self._new.clear()
        *lines, rest = new.split("\n")
        for line in lines:
            self._line += line
            self._end_line()
        self._line += rest
        for run in _TICKS.findall(rest):
            if not self._code:
                self._code = run
            elif self._code == run:
                self._code = ""
        if len(self._line) > _LONG_LINE:
            # How it begins and ends decides; all of it would be read again at every mark.
            self._line = self._line[: _LONG_LINE // 2] + self._line[-_LONG_LINE // 2 :]

    def _end_line(self) -> None:
        line, self._line, self._code = self._line, "", ""
        self._shown_here.clear()
        if not self._fence:
            found = _FENCE.match(line)
            self._fence = found[1] if found and found[1][0] not in line[found.end() :] else ""
        elif self._ends_fence(line):
            self._fence = ""
        self._before = line[:_LONG_LINE]

    def _ends_fence(self, line: str) -> bool:
        stripped = line.strip()
        return stripped.startswith(self._fence) and not stripped.strip(self._fence[0])

    def fenced(self) -> bool:
        """Say whether a mark here stands in a code fence, or in the line that opens one."""
        self._look()
        if self._fence:
            return not self._ends_fence(self._line)
        return _FENCE.match(self._line) is not None

    def at_line_start(self) -> bool:
        """Say whether only white space stands before on this line."""
        self._look()
        return not self._line.strip()

    def in_code(self) -> bool:
        """Say whether an odd number of backticks stands before a mark in its line."""
        self._look()
        return bool(self._code)

    def quoted(self, after: str) -> bool:
        """Say whether a mark stands alone between backticks or quotation marks."""
        self._look()
        if self._line.endswith("`") and after.startswith("`"):
            return True
        return _OPENS_QUOTE.search(self._line[-_BEFORE:]) is not None and after.startswith(_CLOSES_QUOTE)

    def is_parameter(self, after: str) -> bool:
        """Say whether an opening mark may be the parameter of a type, as in `List<Thought> thoughts`."""
        self._look()
        return self._line[-1:].isalnum() and after[:1] == " " and after[1:2].islower()

    def speaks_of(self, after: str) -> bool:
        """Say whether the text shows or names a mark that stands here in reasoning."""
        return self.fenced() or self.quoted(after) or self.spoken_of(after)

    def spoken_of(self, after: str) -> bool:
        """Say whether the sentence goes on round a mark, so that it may only be speaking of it."""
        self._look()
        if not self._line.strip():
            return _SPOKEN_OF.match(after) is not None
        goes_on = not after or _GOES_ON.match(after) is not None
        return goes_on and _IN_SENTENCE.search(self._line[-_BEFORE:]) is not None

    def shows(self, family: str) -> bool:
        """Say whether an opening mark of `family` here is an example: in a quoted text, indented code, or markup."""
        self._look()
        line = self._line
        if _OPENS_QUOTE.search(line[-_BEFORE:]) is not None:
            self._shown_here.add(family)
            return True
        width = len(line.expandtabs(4))
        if line.strip() or width < 2:
            return False
        code = width >= 4 and (not self._before.strip() or self._before.expandtabs(4).startswith("    "))
        if code or _LONE_TAG.fullmatch(self._before):
            self._shown.add(family)
            self._shown_here.add(family)
            return True
        return False

    def showed(self, family: str) -> bool:
        """Say whether a closing mark of `family` here ends an example."""
        self._look()
        if family in self._shown_here:
            return True
        return family in self._shown and not self._line.strip() and len(self._line.expandtabs(4)) >= 2
