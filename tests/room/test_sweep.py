"""Sweeps and frontiers: the same figures as single hosts, NaN for configurations that do not fit."""

import itertools

import numpy as np
import pytest

from mixtura.errors import ConfigError
from mixtura.hardware.gpu import SteadyLoad
from mixtura.hardware.host import host
from mixtura.models.registry import ModelRegistry
from mixtura.recipe import Recipe
from mixtura.room.plan.machines import place, read_spec
from mixtura.room.plan.sweep import SweepGrid, frontier, sweep
from mixtura.room.plan.work import work_of

GRID = SweepGrid(models=("gpt-oss-120b", "kimi-k2"), on=("h100", "lpu", "wse3"), chips=(1, 8), batches=(1, 32, 4096))


def test_a_sweep_agrees_with_single_hosts() -> None:
    found = sweep(GRID)
    assert found.token.shape == (2, 3, 2, 3, 4)
    assert GRID.size == found.token.size
    made = host("gpt-oss-120b", "h100", 8, context=912)
    load = SteadyLoad(32, 2048.0, 400.0)
    assert found.token[0, 0, 1, 1, 1] == pytest.approx(float(made.token(load).seconds))
    assert found.first[0, 0, 1, 1, 1] == pytest.approx(float(made.first(load).seconds))
    price = float(made.hour().middle) / 3600 * found.token[0, 0, 1, 1, 1] / 32 * 1e6
    assert found.dollars[0, 0, 1, 1, 1] == pytest.approx(price)


def test_a_configuration_that_does_not_fit_is_nan() -> None:
    found = sweep(GRID)
    assert not found.fits[1, 0].any()  # Kimi K2 on up to eight H100
    assert not found.fits[..., 2, :].any()  # batches beyond what engines allow
    assert found.fits[0, :, 1, 0, 0].all()
    assert np.isnan(found.token[~found.fits]).all()
    assert (found.token[found.fits] > 0).all()


def test_larger_batches_take_longer_and_cost_less() -> None:
    found = sweep(GRID)
    both = found.fits[..., 0, :] & found.fits[..., 1, :]
    assert (found.token[..., 1, :] >= found.token[..., 0, :])[both].all()
    assert (found.dollars[..., 1, :] < found.dollars[..., 0, :])[both].all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"models": ("gpt-5",)}, "unknown model shape"),
        ({"on": ("h10",)}, "unknown chip"),
        ({"chips": (0,)}, "chips of a sweep: expected numbers above 0"),
        ({"batches": ()}, "batches of a sweep"),
    ],
)
def test_an_invalid_grid_raises_a_one_sentence_error(wrong: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sweep(GRID._replace(**wrong))  # type: ignore[arg-type]


def test_no_point_of_a_frontier_beats_another() -> None:
    registry = ModelRegistry()
    work = work_of(Recipe.named("fast"), registry)
    fleets = [
        place(work, dict.fromkeys(work.models, read_spec(on)), registry, providers=registry.catalog.providers).machines
        for on in ("h100", "8xh100", "b200", "groq", "h20_sxm")
    ]
    points = frontier(work, fleets)
    assert len(points) > 3
    for one, next_one in itertools.pairwise(points):
        assert one.seconds < next_one.seconds
        assert one.high > next_one.high
    assert frontier(work, fleets[3:]) == []
