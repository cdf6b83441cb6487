"""What a server's list of models says, in the words of several servers."""

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.limits.window import Limits
from mixtura.models.account import FRESH, ListedModel, keep_list, kept_list, read_list, with_accounts, with_limits
from mixtura.models.catalog import Catalog
from mixtura.models.openai.endpoint import Endpoint
from mixtura.secret import Secret

DAY = dt.date(2026, 11, 27)
MODEL = "openai/gpt-oss-20b"
HERE = Endpoint(provider="groq", url="https://api.groq.com/openai/v1", key=Secret("gsk_secret"))
ROWS: list[tuple[dict[str, Any], int | None, int | None]] = [
    ({"active": True, "context_window": 131072, "max_completion_tokens": 32768}, 131072, 32768),
    ({"max_model_len": 8192, "root": "m", "parent": None}, 8192, None),
    ({"meta": {"n_ctx_train": 40960, "n_ctx": 4096, "n_vocab": 1}}, 4096, None),
    ({"context_length": 200000, "top_provider": {"max_completion_tokens": 64000}}, 200000, 64000),
    ({"context_length": 100, "top_provider": None}, 100, None),
    ({}, None, None),
    ({"context_window": "131072", "max_completion_tokens": True}, None, None),
    ({"context_window": 0, "max_model_len": 512}, 512, None),
    ({"context_window": -5, "max_completion_tokens": 10**12}, None, None),
    ({"context_window": 1.5, "meta": [1]}, None, None),
]


@pytest.mark.parametrize(("row", "window", "most"), ROWS)
def test_sizes_are_read_where_each_server_writes_them(row: dict[str, Any], window: int, most: int) -> None:
    listed = read_list("groq", [{"id": "m", **row}], DAY)
    assert listed.models == (ListedModel(id="m", window=window, max_output=most),)


def test_rows_without_an_id_and_inactive_models_are_passed_over() -> None:
    rows: list[dict[str, Any]] = [{"id": 5}, {}, {"id": "off", "active": False}, {"id": "on", "active": None}]
    assert [model.id for model in read_list("groq", rows, DAY).models] == ["on"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from(["id", "context_window", "max_model_len", "meta", "max_completion_tokens", "top_provider"])


@given(st.lists(st.dictionaries(_NAMES, _JSON, max_size=5), max_size=4))
def test_any_list_can_be_read(rows: list[dict[str, Any]]) -> None:
    for model in read_list("groq", rows, DAY).models:
        assert all(size is None or 0 < size <= 10**8 for size in (model.window, model.max_output))
    with_accounts(Catalog.load(), [read_list("groq", rows, DAY)])


def test_a_list_takes_the_place_of_the_catalogue_s_figures_and_dates() -> None:
    catalog = Catalog.load()
    gone = next(row for row in catalog.models("groq") if row.shut_down is not None and row.max_output)
    rows = [
        {"id": MODEL, "context_window": 65536, "max_completion_tokens": 2048},
        {"id": gone.id, "context_window": 1000},
        {"id": "brand/new", "context_window": 999, "max_completion_tokens": 99},
    ]
    found = with_accounts(catalog, [read_list("groq", rows, DAY)])
    row, back, new = (found.get("groq", name) for name in (MODEL, gone.id, "brand/new"))
    before = catalog.get("groq", MODEL)
    assert row is not None
    assert before is not None
    assert (row.window, row.max_output, row.price) == (65536, 2048, before.price)
    assert back is not None
    assert back.is_served(DAY)
    assert back.max_output is not None
    assert back.max_output <= 1000
    # Whether it thinks first is not known, and with a known limit it would be asked for a short reply.
    assert new is not None
    assert (new.window, new.max_output) == (999, None)
    assert catalog.get("groq", MODEL) is before


def test_limits_that_a_reply_stated_choose_the_plan_from_which_a_run_begins() -> None:
    listed = read_list("groq", [{"id": MODEL}], DAY)
    row = Catalog.load().get("groq", MODEL)
    assert row is not None
    for stated, wanted in (
        (Limits(rpd=1000, tpm=8000), row.free),
        (Limits(rpd=500_000, tpm=250_000), row.developer),
        (Limits(rpd=7, tpm=77), Limits(rpd=7, tpm=77)),
    ):
        found = with_accounts(Catalog.load(), [with_limits(listed, MODEL, stated)]).get("groq", MODEL)
        assert found is not None
        assert found.free == wanted
        assert found.developer == row.developer


def test_a_list_is_kept_for_its_key_while_it_is_fresh(tmp_path: Path) -> None:
    env, catalog = {"MIXTURA_HOME": str(tmp_path)}, Catalog.load()
    listed = with_limits(read_list("groq", [{"id": MODEL, "context_window": 5}], DAY), MODEL, Limits(tpm=5))
    keep_list(listed, HERE, catalog, env)
    assert kept_list(HERE, catalog, env, DAY) == listed
    assert kept_list(HERE, catalog, env, DAY + FRESH) == listed
    assert kept_list(HERE, catalog, env, DAY + FRESH + dt.timedelta(1)) is None
    assert kept_list(HERE, catalog, env, DAY - dt.timedelta(1)) is None  # of a clock that was wrong
    assert kept_list(msgspec.structs.replace(HERE, key=Secret("gsk_other")), catalog, env, DAY) is None
    (file,) = (tmp_path / "models").iterdir()
    assert b"gsk_secret" not in file.read_bytes() + file.name.encode()
    keep_list(read_list("groq", [{"id": MODEL, "context_window": 6}], DAY), HERE, catalog, env)
    again = kept_list(HERE, catalog, env, DAY)
    assert again is not None
    assert again.models == (ListedModel(id=MODEL, window=6, limits=Limits(tpm=5)),)
    file.write_bytes(b"{")
    assert kept_list(HERE, catalog, env, DAY) is None


def test_a_folder_that_cannot_be_written_loses_the_list_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = {"MIXTURA_HOME": str(tmp_path / "file")}
    keep_list(read_list("groq", [{"id": MODEL}], DAY), HERE, Catalog.load(), env)
    assert msgspec.json.encode(kept_list(HERE, Catalog.load(), env, DAY)) == b"null"


def test_a_model_is_found_in_a_list_by_its_id() -> None:
    listed = read_list("groq", [{"id": "a", "context_window": 5}, {"id": "b", "context_window": 6}], DAY)
    assert listed.get("b") == ListedModel(id="b", window=6)
    assert listed.get("c") is None


def test_of_several_places_the_first_figure_that_can_be_a_size_counts() -> None:
    most = 10**8
    rows: list[dict[str, Any]] = [
        {"context_window": most, "max_model_len": 5, "max_completion_tokens": 7, "max_output_tokens": 9},
        {"context_window": most + 1, "max_model_len": 1, "max_output_tokens": 9},
        {"max_context_length": 3, "meta": {"n_ctx": {"deep": 4}}, "top_provider": {"max_completion_tokens": 2}},
    ]
    listed = read_list("groq", [{"id": str(place), **row} for place, row in enumerate(rows)], DAY)
    assert [(model.window, model.max_output) for model in listed.models] == [(most, 7), (1, 9), (3, 2)]
    assert (listed.provider, listed.asked) == ("groq", DAY)


def test_a_size_that_a_list_does_not_give_is_the_catalogues() -> None:
    catalog = Catalog.load()
    before = catalog.get("groq", MODEL)
    assert before is not None
    assert before.window is not None
    assert before.max_output is not None
    row = with_accounts(catalog, [read_list("groq", [{"id": MODEL}], DAY)]).get("groq", MODEL)
    assert row is not None
    assert (row.window, row.max_output, row.free) == (before.window, before.max_output, before.free)
    assert (row.released, row.shut_down, row.enterprise_since) == (None, None, None)
    small = with_accounts(catalog, [read_list("groq", [{"id": MODEL, "context_window": 99}], DAY)]).get("groq", MODEL)
    assert small is not None
    assert (small.window, small.max_output) == (99, 99), "no reply is longer than what a model reads and writes"
    new = with_accounts(catalog, [read_list("groq", [{"id": "brand/new"}], DAY)]).get("groq", "brand/new")
    assert new is not None
    assert (new.id, new.provider, new.checked) == ("brand/new", "groq", DAY)
    assert (new.window, new.max_output, new.source) == (None, None, "the server's list of models")


def test_limits_of_one_model_leave_the_others_of_its_list_as_they_are() -> None:
    listed = read_list("groq", [{"id": "a"}, {"id": "b"}], DAY)
    found = with_limits(listed, "b", Limits(tpm=5))
    assert found.models == (ListedModel(id="a"), ListedModel(id="b", limits=Limits(tpm=5)))
    assert (found.provider, found.asked) == ("groq", DAY)


def test_limits_that_are_stated_anew_replace_those_that_were_kept(tmp_path: Path) -> None:
    env, catalog = {"MIXTURA_HOME": str(tmp_path)}, Catalog.load()
    rows: list[dict[str, Any]] = [{"id": "a"}, {"id": "b"}]
    keep_list(with_limits(read_list("groq", rows, DAY), "a", Limits(tpm=5)), HERE, catalog, env)
    keep_list(with_limits(read_list("groq", rows, DAY), "a", Limits(tpm=6)), HERE, catalog, env)
    kept = kept_list(HERE, catalog, env, DAY)
    assert kept is not None
    assert [model.limits for model in kept.models] == [Limits(tpm=6), None]
    later = DAY + FRESH + dt.timedelta(1)
    keep_list(read_list("groq", rows, later), HERE, catalog, env)
    anew = kept_list(HERE, catalog, env, later)
    assert anew is not None
    assert [model.limits for model in anew.models] == [None, None], "what is stale is not taken over"
