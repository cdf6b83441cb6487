"""`mixtura chat`: what its commands do, messages of several lines, and conversations kept in files."""

import json
from pathlib import Path

import pytest

from asking import LLAMA
from commands import at, run, sentence, until
from mixtura.chat import JsonObject
from mixtura.sim import SimOptions, simulated_cloud
from terminals import terminal

pytestmark = pytest.mark.slow


def numbered(_request: JsonObject, call: int) -> str:
    return f"Answer {call}."


TALK = SimOptions(unlimited=True, reply=numbered)


def asked(request: JsonObject) -> list[str]:
    return [turn["content"] for turn in request["messages"]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_retry_asks_the_last_question_again_in_place_of_its_answer() -> None:
    async with simulated_cloud(TALK) as cloud:
        lines = b"/retry\nOne?\n/retry\nTwo?\n"
        done = await run(at(cloud), "chat", "-m", LLAMA, stdin=lines)
        first, again, second = map(asked, cloud.requests)
        assert first == again == ["One?"]
        answers = done.out.splitlines()
        assert second == ["One?", answers[1], "Two?"]
        assert "there is no question to ask again yet" in done.err


async def test_retry_asks_a_question_that_failed_again() -> None:
    async with simulated_cloud(SimOptions(unlimited=True, reply=numbered, faults="401@2")) as cloud:
        done = await run(at(cloud), "chat", "-m", LLAMA, stdin=b"One?\nTwo?\n/retry\n")
        assert asked(cloud.requests[-1]) == ["One?", done.out.splitlines()[0], "Two?"]
        assert len(done.out.splitlines()) == 2


async def test_model_goes_on_with_one_model_or_several() -> None:
    async with simulated_cloud(TALK) as cloud:
        lines = b"/model\n/model openai/gpt-oss-20b\nOne?\n/model openai/gpt-oss-20b qwen/qwen3.8-27b\nTwo?\n"
        done = await run(at(cloud), "chat", "-r", "fast", stdin=lines)
        assert done.code == 0
        assert cloud.requests[0]["model"] == "openai/gpt-oss-20b"
        models = {request["model"] for request in cloud.requests[1:]}
        assert {"openai/gpt-oss-20b", "qwen/qwen3.8-27b"} <= models
        assert "recipe single with openai/gpt-oss-20b\n" in done.err
        assert asked(cloud.requests[1])[0] == "One?"  # what was said goes on


async def test_cost_tells_what_each_turn_took_those_that_failed_included() -> None:
    async with simulated_cloud(SimOptions(unlimited=True, reply=numbered, faults="401@2")) as cloud:
        done = await run(at(cloud), "chat", "-m", "openai/gpt-oss-20b", stdin=b"/cost\nOne?\nTwo?\nThree?\n/cost\n")
        assert "nothing was asked yet" in done.err
        table = [line.split() for line in done.err.splitlines()]
        turns = {row[0]: row for row in table if row and row[0] in ("1", "2", "3", "all")}
        assert turns["2"][2] == "failed"
        dollars = [float(row[-1].strip("$+~?") or 0) for row in turns.values()]
        assert dollars[0] > 0
        assert dollars[-1] == pytest.approx(sum(dollars[:-1]), abs=2e-6)


async def test_help_names_every_command() -> None:
    async with simulated_cloud(TALK) as cloud:
        done = await run(at(cloud), "chat", stdin=b"/help\n")
        for name in ("retry", "recipe", "model", "drafts", "cost", "system", "clear", "save", "help", "quit"):
            assert f"/{name}" in done.err


async def test_lines_between_fences_are_one_message() -> None:
    async with simulated_cloud(TALK) as cloud:
        lines = b'"""\nfirst\n\n  /quit\n"""\n"""one line"""\n"""begun\nended"""\n"""never closed\n'
        done = await run(at(cloud), "chat", "-m", LLAMA, stdin=lines)
        questions = [asked(request)[-1] for request in cloud.requests]
        assert questions == ["first\n\n  /quit", "one line", "begun\nended"]
        assert done.code == 2
        assert "the input ended before" in done.err


PASTE = "Why does this fail?\rfor i in range(3):\r  print(i)"
LINES = PASTE.replace("\r", "\n")


async def test_a_paste_is_one_question_where_the_terminal_marks_it() -> None:
    async with simulated_cloud(TALK) as cloud, terminal(cloud, "chat", "-m", LLAMA) as shown:
        await shown.until("\x1b[?2004h")
        shown.type(f"\x1b[200~{PASTE}\x1b[201~\r")
        await shown.until("Answer 1.")
        await shown.until("\x1b[?2004h", times=2)
        shown.type("\x1b[200~/quit\rnow\x1b[201~\r")
        await shown.until("Answer 2.")
        await shown.until("\x1b[?2004h", times=3)
        shown.type("\x04")
        assert await shown.end() == 0
        assert [asked(request)[-1] for request in cloud.requests] == [LINES, "/quit\nnow"]


async def test_a_paste_is_one_question_where_nothing_marks_it() -> None:
    async with simulated_cloud(TALK) as cloud, terminal(cloud, "chat", "-m", LLAMA, TERM="dumb") as shown:
        await shown.until("> ")
        shown.type(f"{PASTE}\r")
        await shown.until("Answer 1.")
        await shown.until("> ", times=2)
        shown.type("\x04")
        assert await shown.end() == 0
        assert [asked(request)[-1] for request in cloud.requests] == [LINES]


async def test_a_paste_while_an_answer_comes_is_one_question() -> None:
    slow = SimOptions(unlimited=True, reply=numbered, profile="fixed:2")
    async with simulated_cloud(slow) as cloud, terminal(cloud, "chat", "-m", LLAMA) as shown:
        await shown.until("\x1b[?2004h")
        shown.type("First?\r")
        await shown.until("○ llama")
        shown.type(f"{PASTE}\r")
        await shown.until("Answer 2.")
        await shown.until("> ", times=3)
        shown.type("\x04")
        assert await shown.end() == 0
        assert [asked(request)[-1] for request in cloud.requests] == ["First?", LINES]


async def test_a_conversation_is_kept_as_it_goes_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    async with simulated_cloud(TALK) as cloud:
        first = await run(at(cloud), "chat", "-m", LLAMA, "-s", "Be brief.", "--resume", str(file), stdin=b"One?\n")
        assert first.code == 0
        assert file.stat().st_mode & 0o077 == 0
        assert names(tmp_path) == [file.name]
        second = await run(at(cloud), "chat", "-m", LLAMA, "--resume", str(file), stdin=b"Two?\n/retry\n")
        said = ["Be brief.", "One?", first.out.strip(), "Two?"]
        assert asked(cloud.requests[1]) == asked(cloud.requests[2]) == said
        kept = json.loads(file.read_text())
        assert [turn["content"] for turn in kept] == [*said, second.out.splitlines()[1]]
        await run(at(cloud), "chat", "-m", LLAMA, "--resume", str(file), stdin=b"/retry\n")
        assert asked(cloud.requests[3]) == said


async def test_ctrl_c_stops_the_answer_and_what_was_said_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    hung = SimOptions(unlimited=True, reply=numbered, faults="silent@2")
    # On a busy machine the silent call would be tried a second time before the key is pressed.
    patient = ("--no-hedge", "--first-token", "0")
    async with simulated_cloud(hung) as cloud:
        async with terminal(cloud, "chat", "-m", LLAMA, *patient, "--resume", str(file)) as shown:
            await shown.until("> ")
            shown.type("One?\r")
            await shown.until("Answer 1.")
            await shown.until("\x1b[?2004h", times=2)
            kept = file.read_bytes()
            shown.type("Two?\r")
            await shown.until("Two?")
            await until(lambda: len(cloud.requests) == 2 and cloud.ledger.in_flight > 0)
            await shown.until("waiting for its first token", times=2)
            shown.type("\x03")
            await shown.until("\x1b[?2004h", times=3)
            assert file.read_bytes() == kept
            shown.type("/cost\r")
            await shown.until("stopped")
            shown.type("/retry\r")
            await shown.until("Answer 3.")
            await shown.until("\x1b[?2004h", times=5)
            shown.type("\x04")
            assert await shown.end() == 0
        assert [turn["content"] for turn in json.loads(file.read_text())][2:] == ["Two?", "Answer 3."]


@pytest.mark.parametrize(
    "content",
    [
        b'[{"role":',
        b"{}",
        b"5",
        b"\xff\xfe",
        b'[{"role": "robot", "content": "x"}]',
        b'[{"role": "user"}]',
        b'[{"role": "user", "content": [{"type": "text", "text": "x"}]}]',
        b'[{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]',
        b"## user\n\nhello\n",
        b"[" * 100_000,
    ],
)
async def test_a_broken_file_is_one_sentence_and_stays_as_it_is(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_bytes(content)
    async with simulated_cloud(TALK) as cloud:
        done = await run(at(cloud), "chat", "-m", LLAMA, "--resume", str(file), stdin=b"One?\n")
        assert done.code == 3
        assert f"{file} holds no conversation" in sentence(done)
        assert cloud.requests == []
    assert file.read_bytes() == content


async def test_a_file_that_cannot_be_kept_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    async with simulated_cloud(TALK) as cloud:
        for name in (tmp_path, tmp_path / "missing" / "talk.json"):
            done = await run(at(cloud), "chat", "-m", LLAMA, "--resume", str(name), stdin=b"One?\n")
            assert (done.code, cloud.requests) == (3, [])
            sentence(done)


async def test_what_another_program_wrote_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    async with simulated_cloud(TALK) as cloud, terminal(cloud, "chat", "-m", LLAMA, "--resume", str(file)) as shown:
        await shown.until("> ")
        shown.type("One?\r")
        # The second prompt stands behind the line that ends the first answer.
        await shown.until("1 call")
        await shown.until("> ", times=2)
        file.write_text("[]")
        shown.type("Two?\r")
        await shown.until("another")
        # A terminal that is not read at the moment swallows Ctrl-D.
        await shown.until("\x1b[?2004h", times=3)
        shown.type("\x04")
        assert await shown.end() == 0
    assert file.read_text() == "[]"
    assert len(json.loads((tmp_path / "talk-2.json").read_text())) == 4


async def test_a_link_to_a_conversation_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "real" / "talk.json", tmp_path / "talk.json"
    file.parent.mkdir()
    file.write_text("[]")
    link.symlink_to(file)
    async with simulated_cloud(TALK) as cloud:
        await run(at(cloud), "chat", "-m", LLAMA, "--resume", str(link), stdin=b"One?\n")
    assert link.is_symlink()
    assert len(json.loads(file.read_text())) == 2
