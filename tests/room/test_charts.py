"""Charts: axes that hold their values, marks within the picture, equal text for equal numbers."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.room.draw.axes import category_axis, linear_axis, log_axis, number
from mixtura.room.draw.charts import Chart, Series, svg
from mixtura.room.draw.ink import escape, text_width, wrap

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.floats(-1e12, 1e12, allow_nan=False, allow_subnormal=False)
POSITIVE = st.floats(1e-9, 1e12)


def drawn(chart: Chart, width: int = 720, height: int = 420) -> ET.Element:
    return ET.fromstring(svg(chart, width, height))


def chart(*series: Series, **options: object) -> Chart:
    return Chart(title="t", x="x", y="y", series=series, **options)  # type: ignore[arg-type]  # options of a chart


def texts(picture: ET.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{SVG}text")]


def marks(picture: ET.Element) -> list[ET.Element]:
    return [path for path in picture.iter(f"{SVG}path") if "mx-mark" in path.get("class", "")]


@given(st.lists(VALUES, min_size=1, max_size=20), st.integers(3, 12), st.booleans())
def test_a_linear_axis_holds_its_values_between_ticks_that_rise_evenly(
    values: list[float], most: int, zero: bool
) -> None:
    axis = linear_axis(values, most, zero=zero)
    span = axis.high - axis.low
    assert axis.low <= min(values) + 1e-6 * span
    assert axis.high >= max(values) - 1e-6 * span
    assert 2 <= len(axis.ticks) <= 2.5 * most + 2
    assert all(later > before for before, later in pairwise(axis.ticks))
    assert not zero or axis.low <= 0 <= axis.high


@given(st.lists(POSITIVE, min_size=1, max_size=20), st.integers(3, 10))
def test_a_logarithmic_axis_holds_its_values_and_has_ticks_to_read_them_by(values: list[float], most: int) -> None:
    axis = log_axis(values, most=most)
    assert axis.low <= min(values) * (1 + 1e-9)
    assert axis.high >= max(values) * (1 - 1e-9)
    assert len(axis.ticks) >= 1
    assert all(0 <= axis.share(tick) <= 1 for tick in axis.ticks)
    assert axis.share(min(values)) <= axis.share(max(values))


def test_batches_get_powers_of_two_and_other_values_one_two_five() -> None:
    assert log_axis([1, 64], marks=[1, 2, 4, 64]).ticks == (1, 2, 4, 8, 16, 32, 64)
    assert log_axis([3, 90]).ticks == (5, 10, 20, 50)
    assert log_axis([1, 1e9], most=6).ticks == (1, 100, 1e4, 1e6, 1e8)
    assert linear_axis([0, 9.7]).ticks == (0, 2, 4, 6, 8, 10)
    assert linear_axis([7.1, 7.3]).ticks[0] > 0


def test_numbers_are_short() -> None:
    assert [number(value) for value in (0, 0.25, 1000, 20e6, 3.5e9, 2e12)] == [
        "0",
        "0.25",
        "1,000",
        "20M",
        "3.5B",
        "2T",
    ]


@given(
    st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=8),
    st.sampled_from(["line", "dots", "bars"]),
    st.booleans(),
    st.booleans(),
)
def test_every_chart_is_well_formed_and_stays_in_its_picture(
    points: list[tuple[float, float]], kind: str, log_x: bool, log_y: bool
) -> None:
    x, y = zip(*sorted(points), strict=True)
    series = Series("s", x, y, [value / 2 for value in y], [value * 2 for value in y], kind)  # type: ignore[arg-type]
    text = svg(chart(series, log_x=log_x, log_y=log_y))
    assert "nan" not in text
    assert "inf" not in text
    for path in ET.fromstring(text).iter(f"{SVG}path"):
        assert all(-1 <= float(said) <= 721 for said in re.findall(r"[MLHV](-?[\d.]+)", path.get("d", "")))
    for bar in ET.fromstring(text).iter(f"{SVG}rect"):
        assert float(bar.get("width", "0")) > 0


def test_the_legend_covers_no_data_whatever_its_length() -> None:
    names = [f"a machine with a rather long name, number {place}" for place in range(9)]
    picture = drawn(
        chart(*(Series(name, [1, 2], [place, 9], kind="dots") for place, name in enumerate(names))), height=600
    )
    legend = [float(text.get("y", "0")) for text in picture.iter(f"{SVG}text") if text.text in names]
    assert len(legend) == 9
    dots = [mark for mark in marks(picture) if mark.find(f"{SVG}title") is not None]
    assert len(dots) == 18
    highest = min(float(re.findall(r"-?[\d.]+", mark.get("d", ""))[1]) for mark in dots)
    assert max(legend) < highest


def test_one_series_needs_no_legend() -> None:
    assert "alone" not in texts(drawn(chart(Series("alone", [1, 2], [3, 4]))))


def test_what_is_measured_and_what_is_predicted_share_a_colour() -> None:
    picture = drawn(
        chart(
            Series("8 x H100, measured", [1, 2], [3, 4], kind="dots"),
            Series("8 x H100, model", [1, 2], [3, 4]),
            Series("8 x B200, model", [1, 2], [3, 5]),
        )
    )
    lines = [path.get("class", "") for path in picture.iter(f"{SVG}path") if "mx-line" in path.get("class", "")]
    assert ["mx-s0" in line for line in lines].count(True) == 2
    assert all("mx-f0" in mark.get("class", "") for mark in marks(picture))


def test_lines_of_another_colour_differ_in_their_dashes_too() -> None:
    picture = drawn(chart(Series("a", [1, 2], [3, 4]), Series("b", [1, 2], [4, 5])))
    lines = [path for path in picture.iter(f"{SVG}path") if "mx-line" in path.get("class", "")]
    assert len({line.get("stroke-dasharray") for line in lines}) == 2


def test_a_value_that_is_not_finite_leaves_a_gap() -> None:
    picture = drawn(chart(Series("a", [1, 2, 3, 4, 5], [1, 2, math.nan, 2, 1])))
    assert sum("mx-line" in path.get("class", "") for path in picture.iter(f"{SVG}path")) == 2
    picture = drawn(chart(Series("a", [0, 10, 100], [1, 2, 3], kind="dots"), log_x=True))
    assert len(marks(picture)) == 2


def test_a_band_is_drawn_round_a_line_and_whiskers_on_dots_and_bars() -> None:
    for kind, form in (("line", "mx-band"), ("dots", "mx-whisker"), ("bars", "mx-whisker")):
        picture = drawn(chart(Series("a", [1, 2], [3, 4], [2, 3], [4, 5], kind)))  # type: ignore[arg-type]
        assert any(form in path.get("class", "") for path in picture.iter(f"{SVG}path")), kind


def test_bars_stand_under_their_names_with_their_values_on_them() -> None:
    picture = drawn(chart(Series("a", [0, 1], [3, 4.25], kind="bars"), labels=("H100", "a wafer")))
    assert {"H100", "a wafer", "3", "4.25"} <= set(texts(picture))
    assert category_axis(["one", "two"]).share(0) == 0.25


def test_long_names_are_wrapped_and_many_are_turned() -> None:
    few = svg(chart(Series("a", [0, 1], [3, 4], kind="bars"), labels=("x", "a name of quite a few words " * 2)))
    assert "rotate" not in few
    many = [f"a rather long name {place}" for place in range(20)]
    turned = svg(chart(Series("a", list(range(20)), [1.0] * 20, kind="bars"), labels=tuple(many)))
    assert turned.count("rotate(-32)") == 20


def test_text_cannot_break_out_of_the_picture() -> None:
    nasty = "<script>alert('1')</script> & \"x\" \x00\x1b"
    text = svg(
        Chart(title=nasty, x=nasty, y=nasty, series=(Series(nasty, [1], [1]), Series("b", [1], [2])), note=nasty)
    )
    assert "<script" not in text
    assert sum(nasty[:8] in said for said in texts(ET.fromstring(text))) == 5
    assert escape("a\x00") == "a�"


def test_the_picture_is_one_element_without_scripts_or_links_and_follows_dark_mode() -> None:
    text = svg(chart(Series("a", [1, 2], [3, 4])))
    assert text.startswith("<svg ")
    assert text.endswith("</svg>")
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"<script|href|url\(|https?://(?!www\.w3\.org/2000/svg)", text)


def test_the_same_numbers_give_the_same_text() -> None:
    told = chart(Series("a", [1, 2], [3.123456789, 4]))
    assert svg(told) == svg(told)
    nearly = chart(Series("a", [1, 2], [3.1234567890001, 4]))
    assert svg(told) == svg(nearly)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (chart(Series("a", [1, 2], [1])), "the lists of the series 'a' differ in length"),
        (chart(Series("a", [1], [math.nan])), "there is nothing to draw in 't'"),
        (chart(), "there is nothing to draw in 't'"),
        (chart(Series("a", [1], [-1]), log_y=True), "above 0 on a log axis"),
    ],
)
def test_an_undrawable_chart_raises_a_one_sentence_error(made: Chart, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        svg(made)


def test_a_picture_too_small_to_read_raises_an_error() -> None:
    with pytest.raises(ConfigError, match="100 x 100 pixels is too small to read"):
        svg(chart(Series("a", [1], [1])), 100, 100)
    with pytest.raises(ConfigError, match="give more height"):
        svg(chart(*(Series("a long name of a series " * 3, [1], [1]) for _ in range(12))), 300, 200)


@given(st.text(max_size=200), st.floats(50, 400))
def test_wrapping_keeps_every_word(text: str, width: float) -> None:
    lines = wrap(text, width, 12)
    assert " ".join(lines).split() == text.split()
    assert all(text_width(line, 12) <= width or " " not in line for line in lines)
