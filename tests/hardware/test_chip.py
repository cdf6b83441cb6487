"""Chips: figures in SI units, names, and the user's own file."""

import pickle
from pathlib import Path

import pytest

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip, chip, chips, read_chips

# memory GB, bandwidth TB/s, peak TFLOP/s of one format, link GB/s one way, W: the project's stored table of devices.
STORED = {
    "a100_sxm": (80, 2.039, ("bf16", 312), 300, 400),
    "h100_sxm": (80, 3.35, ("fp8", 1978), 450, 700),
    "h200_sxm": (141, 4.8, ("fp8", 1978), 450, 700),
    "b200_sxm": (180, 7.7, ("fp4", 9000), 900, 1000),
    "gb200": (186, 8.0, ("fp4", 10000), 900, 1200),
    "b300_sxm": (288, 7.75, ("fp4", 14000), 900, 1100),
    "gb300": (288, 8.0, ("fp4", 15000), 900, 1400),
    "mi300x": (192, 5.3, ("bf16", 1307), None, 750),
    "mi325x": (256, 6.0, ("bf16", 1307), None, 1000),
    "mi355x": (288, 8.0, ("bf16", 2500), None, 1400),
    "tpu_v5e": (16, 0.82, ("bf16", 197), None, None),
    "tpu_v5p": (95, 2.77, ("bf16", 459), None, None),
    "tpu_v6e": (32, 1.64, ("bf16", 918), None, None),
    "tpu_v7": (192, 7.37, ("fp8", 4614), None, None),
    "lpu_v1": (0.23, 80, ("int8", 750), 240, 215),
    "lp30": (0.5, 150, ("fp8", 1200), 1250, None),
    "wse3": (44, 21000, ("bf16", 125000), 150, 23000),
    "sn40l": (64, None, ("bf16", 638), None, None),
}
MINE = """
[[chips]]
name = "mine"
aliases = ["H100"]
kind = "gpu"
memory = 24
bandwidth = 1.0
peak = { bf16 = 100 }
link = 32
"""


@pytest.mark.parametrize("name", STORED)
def test_a_chip_has_the_stored_figures_in_si_units(name: str) -> None:
    memory, bandwidth, (form, peak), link, power = STORED[name]
    found = chip(name)
    assert found.memory == pytest.approx(memory * 1e9)
    assert found.flops(form) == pytest.approx(peak * 1e12)
    if bandwidth is not None:
        assert found.bandwidth == pytest.approx(bandwidth * 1e12)
    if link is not None:
        assert found.link == pytest.approx(link * 1e9)
    if power is not None:
        assert found.power == power


@pytest.mark.parametrize("found", chips(), ids=lambda found: found.name)
def test_every_chip_has_a_source_and_lists_its_unverified_figures(found: Chip) -> None:
    assert found.source
    assert found.date >= "2026"
    for field in found.unverified:
        name, _, form = field.partition(".")
        assert getattr(found, name) is not None
        assert not form or form in found.peak
    # Prices are hearsay, except for the one list price.
    assert found.price is None or "price" in found.unverified or found.name == "lpu_v1"
    assert pickle.loads(pickle.dumps(found)) == found


def test_the_catalogue_has_all_devices_of_the_stored_table() -> None:
    assert {found.name for found in chips()} == {*STORED, "h20_sxm"}


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("h100", "h100_sxm"),
        ("H100-SXM", "h100_sxm"),
        ("h100_sxm", "h100_sxm"),
        ("b200_sxm", "b200_sxm"),
        ("GB200 NVL72", "gb200"),
        ("lpu", "lpu_v1"),
        ("groq", "lpu_v1"),
        ("groq-3", "lp30"),
        ("wse3", "wse3"),
        ("WSE-3", "wse3"),
        ("cerebras", "wse3"),
        ("TPU v6e", "tpu_v6e"),
        ("ironwood", "tpu_v7"),
    ],
)
def test_a_chip_is_found_by_each_of_its_names(asked: str, name: str) -> None:
    assert chip(asked).name == name


def test_the_error_for_an_unknown_chip_lists_the_closest_names() -> None:
    with pytest.raises(ConfigError, match=r"^unknown chip 'h1000_sxm': nearest are h100_sxm"):
        chip("h1000_sxm")
    with pytest.raises(ConfigError, match="unknown chip '': known are a100_sxm, b200_sxm"):
        chip("")


def test_a_format_without_units_runs_in_the_next_wider_format() -> None:
    assert chip("b200").flops("nvfp4") == 9000e12
    assert chip("h100").flops("mxfp4") == 1978e12
    assert chip("a100").flops("fp8") == 312e12
    assert chip("a100").flops("int8") == 624e12
    assert chip("b200").flops("int4") == chip("b200").flops("fp16") == 2250e12
    assert chip("lp30").flops("bf16") == 1200e12
    with pytest.raises(ConfigError, match="unknown precision 'fp5'"):
        chip("b200").flops("fp5")


def test_a_chip_in_a_fabric_has_ascending_latencies() -> None:
    reach = chip("lp30").reach
    assert reach[0] == pytest.approx((8e9, 0.35e-6))
    assert reach[-1] == pytest.approx((1152e9, 2.95e-6))


def test_a_users_chips_are_searched_before_the_shipped_ones(tmp_path: Path) -> None:
    file = tmp_path / "chips.toml"
    file.write_text(MINE)
    own = read_chips(file)
    assert chip("mine", own).memory == 24e9
    assert chip("h100", own).title == "mine"
    assert chip("h100").title == "NVIDIA H100 SXM"
    assert chip("lpu", own) is chip("lpu")
    with pytest.raises(ConfigError, match="nearest are mine"):
        chip("miner", own)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINE.replace("24", "0"), "mine: memory is 0, expected a number above 0"),
        (MINE.replace("1.0", "-1.0"), "mine: bandwidth is -1"),
        (MINE.replace("1.0", "inf"), "mine: bandwidth is inf"),
        (MINE.replace("1.0", "nan"), "mine: bandwidth is nan"),
        (MINE.replace("32", "0"), "mine: link is 0"),
        (MINE.replace("bf16 = 100", ""), "mine: peak is empty"),
        (MINE.replace("bf16", "bf17"), "Invalid enum value 'bf17'"),
        (MINE.replace('"gpu"', '"npu"'), "Invalid enum value 'npu'"),
        (MINE + "node = 0", "mine: node is 0"),
        (MINE + "power = 0", "mine: power is 0"),
        (MINE + "price = [2, 1]", r"mine: price is \[2.0, 1.0\], expected the lowest first"),
        (MINE + "sram = -1", "mine: sram is -1"),
        (MINE + "reach = [[2, 1], [1, 1]]", "mine: reach is not ascending"),
        (MINE + "bandwith = 1", "unknown field `bandwith`"),
        (MINE.replace("memory", "# "), "missing required field `memory`"),
        (MINE + MINE, "mine: mine already has the name 'mine'"),
        ("chips = 3", "Expected `array`"),
        ("[[chips]", "Expected"),
    ],
)
def test_an_invalid_file_of_chips_raises_a_one_sentence_error(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "chips.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_chips(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_file_of_chips_that_is_not_there_raises_a_one_sentence_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such file$"):
        read_chips(tmp_path / "none.toml")
