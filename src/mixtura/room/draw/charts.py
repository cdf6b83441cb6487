"""Charts as SVG: lines with bands, dots, bars. No library, no scripts; equal numbers give equal text.

A chart has its own background and follows the reader's dark mode, so it is legible on any page. Colour is never the
only difference between two series: lines differ in dashes, dots in shape.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from mixtura.errors import ConfigError
from mixtura.room.draw.axes import Axis, category_axis, clip_axis, linear_axis, log_axis, number, widen_axis
from mixtura.room.draw.ink import STYLE, escape, mark, tag, text_width, wrap

_SIZE = 12.0  # of the text, pixels
_LINE = 16.0  # from one line of text to the next
_EDGE = 14.0  # margin at each side
_TICK = 6.0  # from an axis to its numbers
_COLOURS = 8
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_LABELLED = 24  # charts with at most this many bars show the bars' values
_GROUP = 0.78  # share of the space between two positions that their bars fill
_SLANT = 32  # degrees by which long labels are rotated


class Series(NamedTuple):
    """A named series of numbers. `low` and `high` appear as a band around a line, and as whiskers of dots and bars.

    A value that is not finite leaves a gap. Two series of different kinds whose names agree up to the last comma
    ("8 x H100, measured" as dots, "8 x H100, model" as a line) share a colour.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    kind: Literal["line", "dots", "bars"] = "line"


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a chart.

    Attributes:
        title: what the chart shows, in a few words.
        x: the quantity and unit of the horizontal axis.
        y: the quantity and unit of the vertical axis.
        series: at least one, with at least one number that can be drawn.
        log_x: whether the horizontal axis is logarithmic; it then leaves out values of 0 and less.
        log_y: the same for the vertical axis.
        labels: labels of the positions 0, 1, 2, ... that replace numbers on the horizontal axis.
        note: a sentence below the chart that a reader needs to understand it.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    labels: tuple[str, ...] = ()
    note: str = ""


class _PlotArea(NamedTuple):
    """The plotting rectangle, in pixels, and its axes."""

    left: float
    top: float
    right: float
    bottom: float
    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        return self.left + self.across.share(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - self.up.share(value) * (self.bottom - self.top)


class _PlotPoint(NamedTuple):
    x: float
    y: float
    low: float
    high: float


def svg(chart: Chart, width: int = 720, height: int = 420) -> str:
    """Return a chart as one self-contained `<svg>` element.

    Args:
        chart: the content.
        width: pixels; the picture shrinks with a narrower page.
        height: pixels.

    Raises:
        ConfigError: the size is too small, lists differ in length, or no value can be drawn.
    """
    if width < 240 or height < 180:
        raise ConfigError(f"a chart of {width} x {height} pixels is too small to read: give at least 240 x 180")
    points = [_points(chart, series) for series in chart.series]
    if not any(points):
        raise ConfigError(f"there is nothing to draw in {chart.title!r}: give finite numbers, above 0 on a log axis")
    colours = _colours(chart.series)
    styles = list(zip(_places(chart.series), colours, strict=True))
    titles = wrap(chart.title, width - 2 * _EDGE, 15, bold=True)
    top = _EDGE + 19 * len(titles)
    legend, top = _legend(chart, styles, width, top)
    notes = wrap(chart.note, width - 2 * _EDGE, _SIZE - 1) if chart.note else []
    bottom = height - _EDGE - (_LINE - 1) * len(notes) - _LINE
    plot, names = _lay_out(chart, points, (width, top + 26, bottom))
    if plot.bottom - plot.top < 60:
        raise ConfigError(f"{chart.title!r} has no room left for its numbers in {height} pixels: give more height")
    drawn = [
        *_grid(plot),
        *(part for at, each in enumerate(points) for part in _band(chart.series[at], each, plot, colours[at])),
        *_bars(chart, points, plot, colours),
        *(part for at, each in enumerate(points) for part in _marks(chart.series[at], each, plot, styles[at])),
        *_frame(plot, names),
    ]
    middle = (plot.left + plot.right) / 2
    texts = [
        *(tag("text", line, x=_EDGE, y=_EDGE + 13 + 19 * row, class_="mx-title") for row, line in enumerate(titles)),
        tag("text", chart.y, x=_EDGE, y=plot.top - 12, class_="mx-name"),
        tag("text", chart.x, x=middle, y=bottom + 4, class_="mx-name", text_anchor="middle"),
        *(
            tag("text", line, x=_EDGE, y=bottom + 4 + _LINE + (_LINE - 1) * row, class_="mx-note")
            for row, line in enumerate(notes)
        ),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="mx" role="img" aria-label="{escape(chart.title)}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" style="max-width:100%;height:auto">'
    )
    ground = tag("rect", x=0.5, y=0.5, width=width - 1.0, height=height - 1.0, rx=6, class_="mx-ground")
    return "\n".join([head, f"<style>{STYLE}</style>", ground, *drawn, *legend, *texts, "</svg>"])


def _points(chart: Chart, series: Series) -> list[_PlotPoint]:
    """Return the points of a series; a point that cannot be drawn is a gap (y = nan), at which lines break."""
    lows = series.y if series.low is None else series.low
    highs = series.y if series.high is None else series.high
    if not len(series.x) == len(series.y) == len(lows) == len(highs):
        raise ConfigError(f"the lists of the series {series.name!r} differ in length: give as many x as y, low, high")
    found = []
    for x, y, low, high in zip(series.x, series.y, lows, highs, strict=True):
        fits = math.isfinite(x) and math.isfinite(y) and not (chart.log_x and x <= 0) and not (chart.log_y and y <= 0)
        low, high = (low if math.isfinite(low) else y), (high if math.isfinite(high) else y)
        found.append(_PlotPoint(float(x), float(y), float(min(low, y)), float(max(high, y))) if fits else _GAP)
    return found if any(point is not _GAP for point in found) else []


_GAP = _PlotPoint(math.nan, math.nan, math.nan, math.nan)


def _colours(series: Sequence[Series]) -> list[int]:
    """Return the colour number of each series: a new one, or that of its counterpart of another kind."""
    found: list[int] = []
    for place, each in enumerate(series):
        stem = each.name.rpartition(", ")[0]
        fellow = [
            found[before]
            for before, other in enumerate(series[:place])
            if stem and other.kind != each.kind and other.name.rpartition(", ")[0] == stem
        ]
        found.append(fellow[0] if fellow else (max(found, default=-1) + 1) % _COLOURS)
    return found


def _places(series: Sequence[Series]) -> list[int]:
    """Return each series' position among those of its kind, which determines dashes and shapes."""
    return [sum(other.kind == each.kind for other in series[:at]) for at, each in enumerate(series)]


def _legend(chart: Chart, styles: list[tuple[int, int]], width: float, top: float) -> tuple[list[str], float]:
    """Return the legend, in rows above the plot so that it covers no values, and its lower edge."""
    if len(chart.series) < 2:
        return [], top
    drawn, x, y = [], _EDGE, top + 8
    for series, style in zip(chart.series, styles, strict=True):
        room = 32 + text_width(series.name, _SIZE) + 16
        if x > _EDGE and x + room > width - _EDGE:
            x, y = _EDGE, y + _LINE
        drawn += _key(series, style, x, y)
        drawn.append(tag("text", series.name, x=x + 30, y=y + 4, class_="mx-text"))
        x += room
    return drawn, y + 8


def _key(series: Series, style: tuple[int, int], x: float, y: float) -> list[str]:
    place, colour = style
    if series.kind == "dots":
        return [mark(place, x + 12, y, colour)]
    if series.kind == "bars":
        return [tag("rect", x=x + 4, y=y - 5, width=16.0, height=10.0, class_=f"mx-bar mx-f{colour}")]
    band = tag("rect", x=x, y=y - 5, width=24.0, height=10.0, class_=f"mx-band mx-f{colour}")
    line = tag("path", d=f"M{x:.1f} {y:.1f}H{x + 24:.1f}", class_=f"mx-line mx-s{colour}", dash=_dash(place))
    return [band, line] if series.low is not None or series.high is not None else [line]


def _dash(place: int) -> str:
    return _DASHES[place % len(_DASHES)]


def _lay_out(
    chart: Chart, points: list[list[_PlotPoint]], room: tuple[float, float, float]
) -> tuple[_PlotArea, list[list[str]]]:
    """Return the plot within (width, top, bottom) and the labels below it, as lines; one line each if rotated."""
    width, top, bottom = room
    drawn = [point for each in points for point in each if point is not _GAP]
    up = _up(chart, drawn, int(max(3, (bottom - top) // 45)))
    left = _EDGE + _TICK + max(text_width(name, _SIZE) for name in up.names)
    right = width - _EDGE - 10
    across = _across(chart, points, int(max(3, (right - left) // 75)))
    slot = (right - left) / max(1, len(across.ticks))
    names = [wrap(name, max(slot - 8, 20), _SIZE) if chart.labels else [name] for name in across.names]
    if chart.labels and (
        max(text_width(line, _SIZE) for lines in names for line in lines) > slot or max(map(len, names)) > 3
    ):
        names = [[name] for name in across.names]
        longest = max(text_width(name, _SIZE) for name in across.names)
        below = longest * math.sin(math.radians(_SLANT)) + _LINE
        left = max(left, _EDGE + longest * math.cos(math.radians(_SLANT)) - slot / 2)
    else:
        below = _LINE * max(map(len, names))
    return _PlotArea(left, top, right, bottom - below - 12, across, up), names


def _up(chart: Chart, drawn: list[_PlotPoint], most: int) -> Axis:
    values = [value for point in drawn for value in (point.low, point.y, point.high)]
    if chart.log_y:
        return widen_axis(log_axis([value for value in values if value > 0], most=most + 2))
    return linear_axis(values, most, zero=any(series.kind == "bars" for series in chart.series))


def _across(chart: Chart, points: list[list[_PlotPoint]], most: int) -> Axis:
    if chart.labels:
        return category_axis(chart.labels)
    values = [point.x for each in points for point in each if point is not _GAP]
    barred = any(series.kind == "bars" for series in chart.series)
    if chart.log_x:
        dotted = [
            point.x
            for series, each in zip(chart.series, points, strict=True)
            if series.kind != "line"
            for point in each
            if point is not _GAP
        ]
        axis = log_axis(values, marks=dotted or values, most=most)
        return widen_axis(axis, 0.12 if barred else 0.02)
    low, high = min(values), max(values)
    aside = _gap(sorted(set(values)), math.inf) / 2 if barred else 0.02 * (high - low)
    return clip_axis(linear_axis(values, most), low - aside, high + aside)


def _gap(values: list[float], most: float) -> float:
    """Return the least distance between neighbours, at most `most`."""
    return min(most, min((after - before for before, after in itertools.pairwise(values)), default=most))


def _grid(plot: _PlotArea) -> Iterator[str]:
    for tick in plot.up.ticks:
        y = plot.y(tick)
        yield tag("path", d=f"M{plot.left:.1f} {y:.1f}H{plot.right:.1f}", class_="mx-grid")


def _frame(plot: _PlotArea, names: list[list[str]]) -> Iterator[str]:
    """Draw the axes and the labels of their ticks."""
    yield tag("path", d=f"M{plot.left:.1f} {plot.bottom:.1f}H{plot.right:.1f}", class_="mx-axis")
    for tick, name in zip(plot.up.ticks, plot.up.names, strict=True):
        yield tag("text", name, x=plot.left - _TICK, y=plot.y(tick) + 4, class_="mx-text", text_anchor="end")
    turned = len(names) > 1 and max(text_width(line, _SIZE) for lines in names for line in lines) > (
        plot.right - plot.left
    ) / len(names)
    for tick, lines in zip(plot.across.ticks, names, strict=True):
        x, y = plot.x(tick), plot.bottom
        yield tag("path", d=f"M{x:.1f} {y:.1f}v4", class_="mx-axis")
        if turned:
            place = f"translate({x + 4:.1f} {y + _LINE:.1f}) rotate(-{_SLANT})"
            yield tag("text", lines[0], transform=place, class_="mx-text", text_anchor="end")
            continue
        for row, line in enumerate(lines):
            yield tag("text", line, x=x, y=y + _LINE * (row + 1) + 2, class_="mx-text", text_anchor="middle")


def _runs(points: list[_PlotPoint]) -> Iterator[list[_PlotPoint]]:
    """Yield the segments of a line between its gaps."""
    run: list[_PlotPoint] = []
    for point in [*points, _GAP]:
        if point is not _GAP:
            run.append(point)
        elif run:
            yield run
            run = []


def _band(series: Series, points: list[_PlotPoint], plot: _PlotArea, colour: int) -> Iterator[str]:
    if series.kind != "line" or (series.low is None and series.high is None):
        return
    for run in _runs(points):
        there = [f"{plot.x(point.x):.1f} {plot.y(point.high):.1f}" for point in run]
        back = [f"{plot.x(point.x):.1f} {plot.y(point.low):.1f}" for point in reversed(run)]
        yield tag("path", d=f"M{'L'.join([*there, *back])}Z", class_=f"mx-band mx-f{colour}")


def _marks(series: Series, points: list[_PlotPoint], plot: _PlotArea, style: tuple[int, int]) -> Iterator[str]:
    """Draw the lines or the dots of a series."""
    place, colour = style
    if series.kind == "line":
        for run in _runs(points):
            path = "L".join(f"{plot.x(point.x):.1f} {plot.y(point.y):.1f}" for point in run)
            if len(run) == 1:
                yield mark(place, plot.x(run[0].x), plot.y(run[0].y), colour)
            else:
                yield tag("path", d=f"M{path}", class_=f"mx-line mx-s{colour}", dash=_dash(place))
    if series.kind == "dots":
        for point in points:
            if point is not _GAP:
                x = plot.x(point.x)
                if point.low < point.high:
                    yield _whisker(x, point, plot, f"mx-s{colour}")
                yield mark(place, x, plot.y(point.y), colour, hint=f"{series.name}: {number(point.y)}")


def _whisker(x: float, point: _PlotPoint, plot: _PlotArea, ink: str) -> str:
    low, high = plot.y(point.low), plot.y(point.high)
    path = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"
    return tag("path", d=path, class_=f"mx-whisker {ink}")


def _bars(chart: Chart, points: list[list[_PlotPoint]], plot: _PlotArea, colours: list[int]) -> Iterator[str]:
    """Draw the bars of all series side by side, with their values if there is space for them."""
    barred = [place for place, series in enumerate(chart.series) if series.kind == "bars" and points[place]]
    if not barred:
        return
    places = sorted({plot.x(point.x) for place in barred for point in points[place] if point is not _GAP})
    room = (plot.right - plot.left) / max(1, len(chart.labels)) if chart.labels else _gap(places, 120.0)
    wide = max(3.0, min(room * _GROUP / len(barred), 64.0))
    each = sum(len(points[place]) for place in barred) <= _LABELLED
    base = plot.y(0.0) if not chart.log_y else plot.bottom
    for row, place in enumerate(barred):
        for point in points[place]:
            if point is _GAP:
                continue
            x = plot.x(point.x) + (row - len(barred) / 2) * wide
            top, bottom = sorted((plot.y(point.y), base))
            hint = f"{chart.series[place].name}: {number(point.y)}"
            kind = f"mx-bar mx-f{colours[place]}"
            yield tag("rect", x=x + 1, y=top, width=wide - 2, height=bottom - top, class_=kind, hint=hint)
            if point.low < point.high:
                yield _whisker(x + wide / 2, point, plot, "mx-ink")
            value = number(float(f"{point.y:.3g}"))
            if each and text_width(value, _SIZE - 1) <= 1.2 * wide:
                y = plot.y(point.high) - 5 if point.y >= 0 or chart.log_y else base - 5
                yield tag("text", value, x=x + wide / 2, y=y, class_="mx-note", text_anchor="middle")
