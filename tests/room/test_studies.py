"""The studies: their findings, the generated documentation, and the report."""

import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from mixtura.errors import ConfigError
from mixtura.hardware.routing import distinct
from mixtura.room import report
from mixtura.room.draw.charts import svg
from mixtura.room.studies import sweeps
from mixtura.room.studies.all import STUDIES, study
from mixtura.room.studies.study import Study, StudyTable, Verdict, digits, with_range

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def studies() -> dict[str, Study]:
    return {name: run() for name, run in STUDIES.items()}


def numbers(text: str) -> list[float]:
    return [float(said.replace(",", "")) for said in re.findall(r"(?<![\w.])\d[\d,]*\.?\d*", text)]


@pytest.mark.parametrize(("name", "run"), STUDIES.items())
def test_every_study_has_all_that_a_reader_needs(name: str, run: Callable[[], Study]) -> None:
    told = run()
    assert told.name == name
    assert told.verdict in get_args(Verdict.__value__ if hasattr(Verdict, "__value__") else Verdict)
    assert told.table.rows
    assert told.charts
    assert told.sources
    for text in (told.title, told.claim, told.who, told.sentence, told.assumption, told.method):
        assert text.strip() == text != ""
    assert not re.search(r"\bnan\b|\binf\b|e[+-]\d\d", " ".join((told.sentence, *sum(told.table.rows, ()))))
    for chart in told.charts:
        assert svg(chart)


@pytest.mark.parametrize("run", STUDIES.values(), ids=STUDIES)
def test_a_repeated_study_gives_the_same_report(run: Callable[[], Study]) -> None:
    assert report.html([run()]) == report.html([run()])


def test_reading_is_a_part_of_the_measured_time_that_never_exceeds_it(studies: dict[str, Study]) -> None:
    shares = {(row[0], row[1]): float(row[4].rstrip("%")) / 100 for row in studies["hbm-time"].table.rows}
    assert all(0 < share < 1 for share in shares.values())
    assert shares["gpt-oss-120b, 8 x H100", "4"] < 0.2 < 0.5 < shares["gpt-oss-120b, 1 x B200", "64"]
    # By hand: reading the bytes of 8 experts of gpt-oss-120b takes at least the time at the data sheet's bandwidth.
    each = sweeps.sweep("gpt-oss-120b", "h100_sxm", 8)
    shape, chip = each.host.shape, each.host.chip
    activated = float(distinct(4, shape.experts, shape.used)) * shape.moe_layers * shape.expert_weights * 4.25 / 8
    unrouted = shape.unrouted * 2
    assert float(each.reading(4)) == pytest.approx((activated + unrouted) / 8 / chip.bandwidth, rel=0.03)
    assert studies["hbm-time"].verdict == "holds when"


def test_a_batch_is_never_wholly_new_but_for_one_token(studies: dict[str, Study]) -> None:
    told = studies["expert-reuse"]
    row = next(row for row in told.table.rows if row[0] == "gpt-oss-120b")
    assert row[1:7] == ("4 of 128", "3%", "22%", "64%", "87%", "100%")
    assert told.verdict == "holds when"
    assert {256.0} <= set(numbers(row[-1]))


def test_models_with_experts_gain_about_half_of_what_dense_ones_do(studies: dict[str, Study]) -> None:
    measured = {row[0]: float(row[1]) for row in studies["batching-gain"].table.rows}
    assert measured["Llama-3.1-70B, 1 x B200"] == pytest.approx(11.4, abs=0.05)
    told = [gain for name, gain in measured.items() if not name.startswith(("Llama", "gpt-oss-120b, 8"))]
    assert [min(told), max(told)] == pytest.approx([4.9, 6.1], abs=0.05)
    for each in sweeps.data().sweeps:
        middle, low, high = each.predicted_gain()
        assert low < middle < high
        assert low <= each.measured_gain <= high or each.name == "gpt-oss-120b, 8 x H100"
    assert studies["batching-gain"].verdict == "holds when"


def test_the_time_per_token_grows_most_for_models_with_experts(studies: dict[str, Study]) -> None:
    grown = {row[0]: float(row[3]) for row in studies["batching-latency"].table.rows}
    assert grown.pop("Llama-3.1-70B, 1 x B200") < min(grown.values())
    assert studies["batching-latency"].verdict == "holds"


def test_predictions_stay_near_what_was_measured() -> None:
    errors = [
        abs(math.log(float(predicted / measured)))
        for each in sweeps.data().sweeps
        for predicted, measured in zip(each.predict(each.batches).seconds, each.measured, strict=True)
    ]
    assert float(np.median(errors)) < 0.15


def test_kimi_k2_fits_4000_lpus_only_below_eight_bits(studies: dict[str, Study]) -> None:
    told = studies["kimi-chips"]
    rows = {row[0]: row for row in told.table.rows}
    assert (rows["8"][2], rows["8"][3]) == ("4,463", "does not fit")
    assert (rows["4.5"][2], rows["4.5"][3], rows["7.17"][3]) == ("2,511", "fits", "fits")
    assert told.verdict == "holds when"
    assert 7.17 in numbers(told.sentence)


def test_equal_throughput_takes_far_fewer_than_500_copies(studies: dict[str, Study]) -> None:
    told = studies["copies"]
    chart = told.charts[0]
    assert max(max(series.y) for series in chart.series[:-1]) < 50
    assert set(chart.series[-1].y) == {500.0}
    assert told.verdict == "holds when"


def test_the_error_for_an_unknown_study_lists_the_closest_names() -> None:
    with pytest.raises(ConfigError, match="there is no study 'expert-resue'; did you mean 'expert-reuse'"):
        study("expert-resue")
    with pytest.raises(ConfigError, match="there is no study 'zzz'; there are hbm-time, expert-reuse"):
        study("zzz")


def test_a_table_with_a_short_row_raises_an_error() -> None:
    with pytest.raises(ConfigError, match="a row of 1 cells under 2 headers"):
        StudyTable(("a", "b"), (("1",),))


def test_estimates_show_their_range() -> None:
    assert with_range(4.1234, 3.6, 4.8, "ms") == "4.12 ms (3.6 to 4.8)"
    assert [digits(value) for value in (0.04561, 1.2345, 98.76, 1234.5, 590_123)] == [
        "0.0456",
        "1.23",
        "98.8",
        "1,230",
        "590,000",
    ]


class _Page(HTMLParser):
    """Collects the references of a page, and checks that its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.ids.add(given.get("id") or "")
        self.links |= {given[name] or "" for name in ("href", "src") if name in given}
        assert not any(name.startswith("on") for name in given)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_self_contained_page(studies: dict[str, Study]) -> None:
    page = _Page()
    text = report.html(list(studies.values()))
    page.feed(text)
    assert page.open == []
    assert {link.removeprefix("#") for link in page.links} == set(studies) <= page.ids
    assert "<script" not in text
    assert text.count("<svg ") == sum(len(told.charts) for told in studies.values())
    assert text.index("<table") < text.index("<section")


def test_the_report_escapes_what_others_wrote() -> None:
    told = study("kimi-chips")
    nasty = "<img src=x onerror=alert(1)> | `a` *b* $5"
    told = Study(**{field: getattr(told, field) for field in told.__struct_fields__} | {"claim": nasty, "title": nasty})
    assert "<img" not in report.html([told])
    page = report.markdown([told])["machine-room.md"]
    assert "\n> \\<img src=x onerror=alert(1)\\> | `a` \\*b\\* \\$5\n" in page
    assert "[\\<img src=x onerror=alert(1)\\> \\| `a`" in page


def test_the_committed_page_and_its_charts_match_the_studies(studies: dict[str, Study]) -> None:
    files = report.markdown(list(studies.values()))
    for name, text in files.items():
        path = DOCS / name
        assert path.is_file(), f"{name} is missing: make studies"
        assert path.read_text("utf-8") == text, f"{name} is not what the studies say: make studies"
    left = {f"studies/{path.name}" for path in (DOCS / "studies").iterdir()} - set(files)
    assert not left, f"no study draws {left}: remove them"
