"""The toy models' vocabulary: a token for each word of the problems, each digit and each sign, and bytes for the rest.

A GGUF file stores it as a byte-level BPE tokenizer of the pre-type `llama-bpe`. That tokenizer keeps a pre-token that
is in the vocabulary whole, and splits any other into single bytes, because no merge applies. The vocabulary contains
no numbers, so every digit is a token of its own.
"""

import functools
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import regex

from training.problems import WordProblem, make

CONTROL = ("<|pad|>", "<|end|>", "<|user|>", "<|drafts|>", "<|next|>", "<|assistant|>")
PAD, END, USER, DRAFTS, NEXT, ASSISTANT = range(len(CONTROL))

_PIECES = regex.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SAMPLED = 30_000  # the vocabulary is the words of this many problems


def _byte_letters() -> dict[int, str]:
    """Return the printable letter that represents each byte in a byte-level vocabulary, as in GPT-2's."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = itertools.count(256)
    return {byte: chr(byte if byte in plain else next(others)) for byte in range(256)}


BYTES = _byte_letters()


def spell(piece: str) -> str:
    """Return a pre-token in the byte letters of the vocabulary."""
    return "".join(BYTES[byte] for byte in piece.encode())


class Vocabulary:
    """The tokens by id: control tokens, the 256 bytes, then words and signs in alphabetical order."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self.tokens = [*CONTROL, *BYTES.values(), *self.words]
        self._of_word = {word: len(CONTROL) + 256 + place for place, word in enumerate(self.words)}
        self._of_byte = {letter: len(CONTROL) + place for place, letter in enumerate(BYTES.values())}
        self._known: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text. Names of control tokens in it are encoded as plain text."""
        found: list[int] = []
        for piece in _PIECES.findall(text):
            found += self._piece(piece)
        return found

    def _piece(self, piece: str) -> list[int]:
        known = self._known.get(piece)
        if known is None:
            word = spell(piece)
            known = [self._of_word[word]] if word in self._of_word else [self._of_byte[letter] for letter in word]
            self._known[piece] = known
        return known

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without control tokens."""
        letters = "".join(self.tokens[token] for token in tokens if token >= len(CONTROL))
        back = {letter: byte for byte, letter in BYTES.items()}
        return bytes(back[letter] for letter in letters).decode(errors="replace")

    def prompt(self, question: str, drafts: Sequence[str] = ()) -> list[int]:
        """Return the tokens before the solution, as the files' chat template renders them."""
        tokens = [USER, *self.encode(question)]
        for place, draft in enumerate(drafts):
            tokens += [NEXT if place else DRAFTS, *self.encode(draft)]
        return [*tokens, ASSISTANT]

    def target(self, problem: WordProblem) -> list[int]:
        """Return the tokens of a problem's solution."""
        return [*self.encode(problem.solution), END]


@functools.cache
def vocabulary() -> Vocabulary:
    """Return the vocabulary of all problems, trained and held out."""
    words = set()
    for seed in range(_SAMPLED):
        problem = make(seed, new_wordings=seed % 3 == 0)
        for piece in _PIECES.findall(problem.question) + _PIECES.findall(problem.solution):
            word = spell(piece)
            if len(word) > 1 and not any(letter.isdigit() for letter in word):
                words.add(word)
    return Vocabulary(sorted(words))


def write_words(path: Path) -> None:
    """Write the words of the vocabulary in plain letters, as JSON. They define the models' domain."""
    letters = {letter: byte for byte, letter in BYTES.items()}
    plain = {bytes(letters[letter] for letter in word).decode().strip() for word in vocabulary().words}
    plain.add("A")  # a one-letter word has no token besides its byte
    path.write_text(json.dumps(sorted(word for word in plain if word.isalpha()), indent=0) + "\n", "utf-8")
