"""The steps of a build: train each member, sample drafts, train the aggregator, export.

A step is skipped if the folder already has its result, so an interrupted build can be resumed.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch

from training.drafts import make_lessons, write_drafts
from training.export import export
from training.learn import Trainer, TrainingProgress, TrainingText
from training.model import ModelShape, ToyModel
from training.plan import AggregatorSpec, SolverSpec, TrainingPlan
from training.problems import lesson
from training.vocabulary import vocabulary

_CHUNK = 5_000  # problems per file of drafts
Say = Callable[[str], None]


class FamilyBuild(NamedTuple):
    """A training plan and the folder in which it is built."""

    plan: TrainingPlan
    folder: Path

    def weights(self, name: str) -> Path:
        """Return the path of a trained model's weights."""
        return self.folder / f"{name}.pt"

    def load(self, name: str) -> ToyModel:
        """Return a trained model."""
        kept = torch.load(self.weights(name), weights_only=True)
        model = ToyModel(ModelShape(**kept["shape"]))
        model.load_state_dict(kept["weights"])
        return model.eval()


def train(build: FamilyBuild, member: SolverSpec) -> None:
    """Train one member on its own problems."""
    if build.weights(member.name).is_file():
        return
    words = vocabulary()
    problems = [lesson(member.seed + place, member.mix) for place in range(member.problems)]
    texts = [TrainingText(words.prompt(problem.question), words.target(problem)) for problem in problems]
    torch.manual_seed(member.seed)
    model = ToyModel(dataclasses.replace(member.shape, vocabulary=len(words)))
    progress = Trainer(model).train(texts, size=build.plan.size, seed=member.seed, note=_progress_printer(member.name))
    _save_model(build, member.name, model, progress, len(texts))


def draft(build: FamilyBuild, member: SolverSpec) -> None:
    """Sample one proposer's drafts of all problems in the aggregator's training."""
    teaching, words, model = build.plan.aggregator, vocabulary(), build.load(member.name)
    for start in range(0, teaching.problems, _CHUNK):
        path = _drafts(build, member, start)
        if path.is_file():
            continue
        problems = [lesson(teaching.seed + place) for place in range(start, min(start + _CHUNK, teaching.problems))]
        texts = write_drafts(model, words, problems, temperature=teaching.temperature, seed=member.seed + start)
        path.write_text(json.dumps(texts), "utf-8")
        _say(f"{member.name}: drafts of {start + len(texts):,} problems")


def teach(build: FamilyBuild) -> None:
    """Train the aggregator on the proposers' drafts."""
    teaching = build.plan.aggregator
    if build.weights(teaching.name).is_file():
        return
    words = vocabulary()
    problems = [lesson(teaching.seed + place) for place in range(teaching.problems)]
    drafts: list[list[str]] = []
    for member in build.plan.proposers:
        parts = [_drafts(build, member, start) for start in range(0, teaching.problems, _CHUNK)]
        drafts.append([text for part in parts for text in json.loads(part.read_text("utf-8"))])
    texts = make_lessons(words, problems, drafts, seed=teaching.seed)
    model = build.load(teaching.base).train()
    torch.manual_seed(teaching.seed)
    learner = Trainer(model, rate=0.4)
    progress = learner.train(texts, size=build.plan.size, seed=teaching.seed, note=_progress_printer(teaching.name))
    _save_model(build, teaching.name, model, progress, len(texts))


def members(plan: TrainingPlan) -> Sequence[SolverSpec | AggregatorSpec]:
    """Return the specs of all models of a plan."""
    return (*plan.proposers, plan.aggregator, plan.single)


def write_files(build: FamilyBuild, folder: Path) -> list[Path]:
    """Write every model of the plan as a GGUF file into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for member in members(build.plan):
        path = folder / f"{member.name}.gguf"
        export(build.load(member.name), vocabulary(), path, title=member.title, kept=member.kept)
        paths.append(path)
    return paths


def run(build: FamilyBuild, jobs: int) -> None:
    """Run all steps. Independent steps run in parallel, in `jobs` processes of one thread each."""
    build.folder.mkdir(parents=True, exist_ok=True)
    plan = build.plan
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        proposers = [pool.submit(train, build, member) for member in plan.proposers]
        single = pool.submit(train, build, plan.single)
        for future in proposers:
            future.result()
        for future in [pool.submit(draft, build, member) for member in plan.proposers]:
            future.result()
        pool.submit(teach, build).result()
        single.result()


def write_cards(build: FamilyBuild, path: Path) -> None:
    """Write each model's card: its shape, its training data and the cost of its training."""
    cards = {}
    for member in members(build.plan):
        took: dict[str, Any] = json.loads((build.folder / f"{member.name}.json").read_text("utf-8"))
        shape = build.load(member.name).shape
        cards[member.name] = {
            "title": member.title,
            "layers": shape.layers,
            "width": shape.width,
            "experts": shape.experts,
            "used": shape.used,
            "seed": member.seed,
            "kept": member.kept,
            **{name: took[name] for name in ("weights", "active", "problems", "tokens", "operations")},
            "seconds": round(took["seconds"]),
            "loss": round(took["loss"], 4),
        }
    path.write_text(json.dumps(cards, indent=1) + "\n", "utf-8")


def _save_model(build: FamilyBuild, name: str, model: ToyModel, progress: TrainingProgress, problems: int) -> None:
    took = {**progress._asdict(), "problems": problems, "weights": model.shape.weights, "active": model.shape.active}
    (build.folder / f"{name}.json").write_text(json.dumps(took, indent=1) + "\n", "utf-8")
    kept = {"shape": dataclasses.asdict(model.shape), "weights": model.state_dict()}
    # Write atomically, so that an interrupted build can be resumed.
    part = build.weights(name).with_suffix(".part")
    torch.save(kept, part)
    part.replace(build.weights(name))
    _say(f"{name}: {progress.tokens:,} tokens in {progress.seconds:.0f} s, loss {progress.loss:.4f}")


def _drafts(build: FamilyBuild, member: SolverSpec, start: int) -> Path:
    return build.folder / f"drafts-{member.name}-{start}.json"


def _progress_printer(name: str) -> Callable[[TrainingProgress], None]:
    said = time.monotonic()

    def note(progress: TrainingProgress) -> None:
        nonlocal said
        if time.monotonic() - said > 30:
            said = time.monotonic()
            pace = progress.tokens / progress.seconds
            _say(f"{name}: {progress.share:.0%}, {pace:,.0f} tokens a second, loss {progress.loss:.4f}")

    return note


def _say(text: str) -> None:
    print(text, flush=True)
