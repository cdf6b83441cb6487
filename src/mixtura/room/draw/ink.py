"""Building blocks of charts and pages: escaped text, SVG elements, colours, and the width of a text. Pure functions."""

import html
import re

# Text and lines have a contrast of at least 4.5 with their background, coloured marks of 3, in both modes.
_LIGHT = ("#0b62c4", "#c2500a", "#15803d", "#8b35b8", "#a16207", "#be185d", "#0e7490", "#57534e")
_DARK = ("#6cb0ff", "#ff9d5c", "#5fd38a", "#d59bf6", "#e3b94a", "#ff8fc0", "#5cd0e6", "#c2bcb6")
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold
_NARROW = frozenset("iljtfrI.,:;!|'`()[] ")
_WIDE = frozenset("mwMW@%")


def _palette(colours: tuple[str, ...]) -> str:
    return "".join(
        f".mx .mx-f{place}{{fill:{colour}}}.mx .mx-s{place}{{stroke:{colour}}}" for place, colour in enumerate(colours)
    )


STYLE = (
    ".mx text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}"
    ".mx .mx-title{font-size:15px;font-weight:600}.mx .mx-note{font-size:11px;fill:#57606a}"
    ".mx .mx-name{fill:#57606a}.mx path{fill:none}.mx .mx-ground{fill:#fff;stroke:#d0d7de}"
    ".mx .mx-grid{stroke:#d8dee4}.mx .mx-axis,.mx .mx-ink{stroke:#57606a}"
    ".mx .mx-line{stroke-width:2;stroke-linejoin:round}.mx .mx-whisker{stroke-width:1.3}"
    ".mx path.mx-mark{stroke-width:.8;stroke:#fff}"
    f"{_palette(_LIGHT)}.mx .mx-band{{opacity:.16}}.mx .mx-bar{{opacity:.88}}"
    "@media(prefers-color-scheme:dark){.mx text{fill:#e6edf3}.mx .mx-note,.mx .mx-name{fill:#9da7b3}"
    ".mx .mx-ground{fill:#0d1117;stroke:#30363d}.mx .mx-grid{stroke:#262c36}"
    ".mx .mx-axis,.mx .mx-ink{stroke:#9da7b3}.mx path.mx-mark{stroke:#0d1117}"
    f"{_palette(_DARK)}}}"
)
"""The style of all charts. Every rule applies only within elements of the class `mx`, so pages keep their own style."""


def escape(text: str) -> str:
    """Return a text escaped for HTML and XML, for content and for attributes."""
    return html.escape(_ILLEGAL.sub("�", text))


def tag(name: str, text: str = "", *, hint: str = "", **attributes: str | float) -> str:
    """Return an SVG element.

    Args:
        name: name of the element.
        text: its text content.
        hint: its tooltip.
        attributes: `class_` becomes class and `dash` stroke-dasharray; underscores become hyphens, numbers get one
            decimal, and attributes of "" are left out.
    """
    written = []
    for key, value in attributes.items():
        word = "stroke-dasharray" if key == "dash" else key.rstrip("_").replace("_", "-")
        # Adding 0 turns -0.0 into 0.0.
        value_text = f"{round(value, 1) + 0.0:g}" if isinstance(value, float | int) else escape(value)
        if value_text:
            written.append(f' {word}="{value_text}"')
    inner = (f"<title>{escape(hint)}</title>" if hint else "") + escape(text)
    return f"<{name}{''.join(written)}>{inner}</{name}>" if inner else f"<{name}{''.join(written)}/>"


def mark(place: int, x: float, y: float, colour: int, *, hint: str = "") -> str:
    """Return a dot at (x, y), in pixels; `place` selects circle, square, diamond or triangle in turn."""
    forms = (
        f"M{x - 4.2:.1f} {y:.1f}a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0 -8.4 0Z",
        f"M{x - 4:.1f} {y - 4:.1f}h8v8h-8Z",
        f"M{x:.1f} {y - 5.4:.1f}l5.4 5.4l-5.4 5.4l-5.4 -5.4Z",
        f"M{x:.1f} {y - 5:.1f}l5 8.8h-10Z",
    )
    return tag("path", d=forms[place % len(forms)], class_=f"mx-mark mx-f{colour}", hint=hint)


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return an estimate of a text's width in a sans-serif font, in pixels; rather too wide than too narrow."""
    ems = sum(0.34 if sign in _NARROW else 0.92 if sign in _WIDE else 0.6 for sign in text)
    return ems * size * (1.16 if bold else 1.0)


def wrap(text: str, width: float, size: float, *, bold: bool = False) -> list[str]:
    """Return a text wrapped into lines of at most `width` pixels; a longer word gets a line of its own."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold=bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines or [""]
