"""The command on a real (pseudo) terminal: the live view, a narrow one, no colours, a chat, Ctrl-C."""

import asyncio
import re

import pytest

from mixtura.columns import display_width
from mixtura.sim import SimOptions, simulated_cloud
from terminals import ESCAPES, SLOW, terminal

pytestmark = pytest.mark.slow

LLAMA = "llama-3.1-8b-instant"


async def test_drafts_are_redrawn_in_place_then_the_answer_streams_and_one_line_ends_it() -> None:
    async with simulated_cloud(SLOW) as cloud, terminal(cloud, "ask", "-r", "classic", "Why?") as shown:
        await shown.until("○ llama")
        await shown.until("\x1b[2A")
        assert await shown.end() == 0
        assert "\x1b[32m✓\x1b[0m llama-3.1-8b-instant" in shown.text
        lines = shown.plain.splitlines()
        assert re.fullmatch(r"\d\.\ds · 4 calls · [\d,]+ in \+ [\d,]+ out tokens · \$[\d.]+", lines[-1])
        assert shown.text.rindex("✓") < shown.text.rindex(" out tokens")


async def test_a_terminal_of_forty_columns_is_never_wrapped_by_the_live_view() -> None:
    async with (
        simulated_cloud(SLOW) as cloud,
        terminal(cloud, "ask", "-r", "classic", "Why?", columns=40, NO_COLOR="1") as shown,
    ):
        assert await shown.end() == 0
        assert "\x1b[3" not in shown.text
        rows = [row for row in re.split(r"[\r\n]+|\x1b\[\d*A", shown.text) if row.lstrip("\x1b[2K")[:1] in ("○", "✓")]
        assert len(rows) > 6
        assert all(display_width(ESCAPES.sub("", row)) < 40 for row in rows)
        assert len(shown.plain.splitlines()[-1]) < 50


async def test_a_dumb_terminal_gets_no_escape_at_all() -> None:
    async with simulated_cloud() as cloud, terminal(cloud, "ask", "-r", "classic", "Why?", TERM="dumb") as shown:
        assert await shown.end() == 0
        assert "\x1b" not in shown.text
        assert shown.plain.count("✓") == 3


async def test_ctrl_c_on_the_terminal_tidies_the_screen_and_exits_with_130() -> None:
    hung = SimOptions(faults=f"silent@1-:{LLAMA}", unlimited=True)
    async with simulated_cloud(hung) as cloud, terminal(cloud, "ask", "-m", LLAMA, "Why?") as shown:
        await shown.until("○ llama")
        shown.type("\x03")
        assert await shown.end() == 130
        assert shown.plain.rstrip().endswith("stopped")
        async with asyncio.timeout(10):
            while cloud.ledger.in_flight:  # noqa: ASYNC110  # another process closes the connection
                await asyncio.sleep(0.02)


async def test_the_table_of_models_leaves_columns_out_where_they_do_not_fit() -> None:
    async with simulated_cloud() as cloud, terminal(cloud, "models", columns=80) as shown:
        assert await shown.end() == 0
        heading, first, *_ = shown.plain.splitlines()
        assert heading.split()[:3] == ["model", "key", "life"]
        assert "checked" not in heading
        assert max(len(heading), len(first)) < 80


async def test_a_question_is_missing_on_a_terminal() -> None:
    async with simulated_cloud() as cloud, terminal(cloud, "ask") as shown:
        assert await shown.end() == 2
        assert "mixtura: no question: write it after 'mixtura ask', or pipe it in" in shown.plain


async def test_in_a_chat_ctrl_c_stops_the_answer_and_ctrl_d_leaves() -> None:
    hung = SimOptions(reply=lambda request, call: "Noted.", faults="silent@2", unlimited=True)
    async with simulated_cloud(hung) as cloud, terminal(cloud, "chat", "-m", LLAMA) as shown:
        await shown.until("> ")
        shown.type("I am Ada.\r")
        await shown.until("Noted.")
        await shown.until("> ", times=2)
        shown.type("hang\r")
        async with asyncio.timeout(10):
            while cloud.ledger.in_flight == 0:  # noqa: ASYNC110  # another process makes the call
                await asyncio.sleep(0.02)
        shown.type("\x03")
        await shown.until("stopped")
        await shown.until("> ", times=3)
        # Python's readline does not see a signal between writing its prompt and waiting for keys; nobody types so fast.
        await asyncio.sleep(0.3)
        shown.type("\x03")
        await shown.until("> ", times=4)
        shown.type("Who am I?\r")
        async with asyncio.timeout(10):
            while len(cloud.requests) < 3:  # noqa: ASYNC110  # another process makes the call
                await asyncio.sleep(0.02)
        said = [turn["content"] for turn in cloud.requests[2]["messages"]]
        assert said == ["I am Ada.", "Noted.", "Who am I?"]
        await shown.until("> ", times=5)
        shown.type("\x04")
        assert await shown.end() == 0
        assert cloud.ledger.in_flight == 0
