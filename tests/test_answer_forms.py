"""An answer as one line, as Markdown in a notebook, as a dict."""

import html
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import World
from mixtura import Answer, ConfigError, Draft
from mixtura.answer_forms import clipped, safe_markdown

OURS = {"pre", "code"}
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "`<b>` <i>",
    "``` \n<b>\n```\n<i>",
    "~~~\n<b>",
    "- a\n  ```\n  <b>\n",
    "> ```\n<b>",
    "$$a\n```\n$$\n<img src=x>\n```",
    "`` a ` <b> `` <i>",
    "<!-- <b> -->",
    "<https://x.example>",
    "\\<b>",
    "```\n</code></pre><script>\n```",
    "`</code><script>`",
    '```x" onclick="y\n```',
]


class Tags(HTMLParser):
    """Collects the elements and comments of a text, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", []))

    def handle_decl(self, decl: str) -> None:
        self.found.append(("declaration", []))


def check_inert(text: str) -> None:
    for tag, attributes in Tags(text).found:
        assert tag in OURS, text
        assert all(name == "class" and re.fullmatch(r"language-[\w+#.-]+", value or "") for name, value in attributes)
    assert "![" not in text
    for found in re.finditer(r"\](\(|:)\s*(\S*)", text):
        assert re.match(r"https?://|mailto:|#|/", found[2]), text


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_of_a_model_becomes_no_html_of_its_own(text: str) -> None:
    check_inert(safe_markdown(text))


@given(
    st.lists(
        st.one_of(
            st.sampled_from([*HOSTILE, "\n", "`", "```", "~~~~", "    ", "](", "![", "]:", "javascript:", "\\", "> "]),
            st.text(max_size=6),
        ),
        max_size=12,
    ).map("".join)
)
def test_no_text_becomes_html(text: str) -> None:
    check_inert(safe_markdown(text))


@pytest.mark.parametrize(
    "text",
    ["![x](http://t/?q=secret)", "\\![x](u)", "[a](javascript:alert(1))", "[a](&#106;avascript:x)", "[a]: data:x"],
)
def test_nothing_is_loaded_and_no_link_runs_anything(text: str) -> None:
    check_inert(safe_markdown(text))


def test_prose_and_code_read_as_they_were_written() -> None:
    text = (
        "# Title\n\n- a **b** [c](https://x.example)\n\nif `a < b & c`:\n\n"
        '```python\nif a < b:\n\n    c = "&lt;"\n```\n'
    )
    shown = safe_markdown(text)
    assert "# Title\n\n- a **b** [c](https://x.example)" in shown
    assert "a < b & c" in html.unescape(shown)
    code = re.search(r'<pre><code class="language-python">(.*?)</code></pre>', shown, re.DOTALL)
    assert code is not None
    assert html.unescape(code[1]).replace("\n \n", "\n\n") == 'if a < b:\n\n    c = "&lt;"\n'


def test_a_notebook_gets_the_answer_its_warnings_and_a_row_a_draft(world: World) -> None:
    answer = world(reply=world.by_model(llama="A | <b>", gemma="Another.", seventy="Whole.")).answer
    shown = answer._repr_markdown_()
    assert shown.startswith("Whole.\n\n")
    assert shown.count("\n| ") == 1 + len(answer.drafts) - shown.startswith("|")
    assert f"{answer.n_calls} calls" in shown
    check_inert(shown)
    failed = Answer(error="no <b>model</b>", warnings=["two <i>"])
    assert "**No answer**: no" in failed._repr_markdown_()
    check_inert(failed._repr_markdown_())


def test_repr_is_one_short_line(world: World) -> None:
    answer = world(reply=world.by_model(llama="word\n" * 5000, gemma="x", seventy="\x1b[2J" + "long " * 9000)).answer
    for shown in (repr(answer), repr(answer.drafts[0])):
        assert len(shown) < 240
        assert shown.isprintable()
    assert repr(answer).startswith("Answer(")
    assert "drafts=" in repr(answer)


@given(st.text(max_size=2000))
def test_what_is_clipped_says_so(text: str) -> None:
    shown = clipped(text)
    assert len(shown) <= 60
    assert "\n" not in shown
    assert shown == " ".join(text.split()) or shown.endswith("…")


def test_a_dict_is_json_and_gives_the_answer_back(world: World) -> None:
    answer = world(faults="500@1").answer
    told = answer.to_dict()
    assert json.loads(json.dumps(told)) == told == json.loads(answer.to_json())
    assert told["n_calls"] == answer.n_calls
    assert Answer.from_dict(told) == answer
    assert Answer.from_dict({**told, "of_a_newer_version": 1}) == answer
    assert isinstance(answer.drafts[0], Draft)
    assert json.loads(json.dumps(answer.drafts[0].to_dict()))["text"] == answer.drafts[0].text


@pytest.mark.parametrize("told", [{"text": 5}, {"drafts": [{"type": "x"}]}, {"status": "fine"}])
def test_what_is_no_answer_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="not an answer"):
        Answer.from_dict(told)
