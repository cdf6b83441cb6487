"""What is known of one call while it is under way."""

from collections.abc import Sequence

from mixtura.chat import Delta, Usage
from mixtura.engine.progress import Progress


class Arrived:
    """A reader of pieces that have come and that are not parsed yet."""

    def __init__(self, *texts: str) -> None:
        self._left = [(0.1, Delta(text)) for text in texts]

    def read(self) -> Sequence[tuple[float, Delta]]:
        found, self._left = self._left, []
        return found


def test_the_pieces_of_a_failed_attempt_are_not_counted_again_for_the_next() -> None:
    progress = Progress("groq", "m")
    progress.begin(0.0)
    progress.attach(Arrived("one ", "two"))
    progress.waste(Usage(prompt_tokens=9, completion_tokens=2, estimated=True))
    progress.pause()
    progress.begin(1.0)
    progress.catch_up()
    assert progress.pieces == 0
    assert progress.wasted == Usage(prompt_tokens=9, completion_tokens=2, estimated=True)
    assert progress.text == "one two", "it may be all that ever comes"
    progress.attach(Arrived("three"))
    progress.catch_up()
    assert (progress.pieces, progress.text) == (1, "three")
