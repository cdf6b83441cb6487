"""The routers of the package's toy MoE models."""

import json
from pathlib import Path

import numpy as np
import pytest

from mixtura.errors import ConfigError
from mixtura.models.toy.provider import folder
from mixtura.room.experts import toy_routing

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "toy_golden.json").read_text("utf-8"))


def test_texts_become_the_tokens_that_the_models_were_trained_on() -> None:
    tokens = toy_routing.ToyRouter(folder() / "toy-moe-b.gguf").tokens
    for told in GOLDEN["tokens"]:
        assert tokens.encode(told["text"]) == told["tokens"]
    for told in GOLDEN["prompts"]:
        assert tokens.prompt(told["question"]) == told["alone"]


@pytest.mark.parametrize("model", toy_routing.MODELS)
def test_the_models_give_the_same_logits_in_numpy_as_in_training(model: str) -> None:
    router = toy_routing.ToyRouter(folder() / f"{model}.gguf")
    prompt, said = GOLDEN["prompts"][0], GOLDEN["models"][model][0]
    tokens = router.tokens.prompt(prompt["question"], said["text"])
    logits, chosen = router.run(tokens)
    assert chosen.shape == (router.sizes.layers, len(tokens), router.sizes.used)
    chances = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    chances -= logits.max(1, keepdims=True)
    for place, likeliest in enumerate(said["likeliest"][:10], len(prompt["alone"]) - 1):
        for token, chance in likeliest.items():
            assert float(chances[place, int(token)]) == pytest.approx(chance, abs=0.01)


@pytest.mark.slow
def test_real_routers_are_skewed_and_tokens_of_one_text_correlated() -> None:
    found = toy_routing.observe("toy-moe-b", problems=8)
    assert found.tokens > 8 * 30
    assert len(found.layers) == toy_routing.ToyRouter(folder() / "toy-moe-b.gguf").sizes.layers
    for layer in found.layers:
        assert sum(layer.shares) == pytest.approx(1.0)
        assert 0 < layer.entropy <= 1
    for batch in found.activated:
        assert found.used - 1e-9 <= batch.together <= found.experts
        assert batch.apart <= batch.even + 0.15
        assert batch.apart == pytest.approx(batch.popularity, rel=0.1)
        assert 0 <= batch.correlation <= 1
    assert found.activated[3].together < found.activated[3].even


def test_independent_choices_have_no_correlation_and_equal_ones_full_correlation() -> None:
    rng = np.random.default_rng(2)
    free = [np.argsort(rng.random((2, 60, 16)), axis=2)[:, :, :2] for _ in range(40)]
    found = toy_routing.describe("free", 16, free).activated[4]
    assert found.together == pytest.approx(found.even, rel=0.03)
    assert found.correlation < 0.1
    same = [np.repeat(each[:, :1], 60, axis=1) for each in free]
    assert toy_routing.describe("same", 16, same).activated[4].correlation == pytest.approx(1.0)


def test_other_files_raise_a_one_sentence_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not of the architecture qwen3moe"):
        toy_routing.ToyRouter(folder() / "toy-dense.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match=r"broken\.gguf cannot be read"):
        toy_routing.observe(str(tmp_path / "broken.gguf"))
    with pytest.raises(ConfigError, match="at least one problem"):
        toy_routing.observe("toy-moe-b", problems=0)
