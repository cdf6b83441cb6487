"""Renders the studies: one self-contained HTML file with its charts, or Markdown with the charts in files beside it.

Equal studies give equal bytes. All text from studies is escaped.
"""

import re
from collections.abc import Iterator, Sequence

from mixtura.room.draw.charts import svg
from mixtura.room.draw.ink import escape
from mixtura.room.studies.study import Study

_TITLE = "Claims about GPUs, LPUs and wafers, checked"
_LEAD = (
    "Each claim below was checked by a program that runs Mixtura's step models of GPUs, LPUs and wafers and compares "
    "them with published measurements. Each verdict names the assumption that decides it. Predictions have a range in "
    "brackets that should hold eight of ten real values, as estimated by the fits."
)
_VERDICTS = {
    "holds": "the figures support the claim",
    "holds when": "the figures support it under the condition that the finding states",
    "does not hold": "the figures contradict it",
    "cannot be checked": "the figures that would decide it are not published",
}
_COLOUR = {"holds": "yes", "holds when": "when", "does not hold": "no", "cannot be checked": "open"}
_STYLE = """
:root{color-scheme:light dark;--ground:#fff;--text:#1f2328;--soft:#57606a;--line:#d0d7de;--shade:#f6f8fa;
--yes:#15703a;--when:#8a5a00;--no:#b42318;--open:#57606a}
@media(prefers-color-scheme:dark){:root{--ground:#0d1117;--text:#e6edf3;--soft:#9da7b3;--line:#30363d;--shade:#161b22;
--yes:#5fd38a;--when:#e3b94a;--no:#ff8f85;--open:#9da7b3}}
body{font:16px/1.55 system-ui,-apple-system,'Segoe UI',sans-serif;color:var(--text);background:var(--ground);
max-width:62rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.25}h2{font-size:1.3rem;margin:3rem 0 .5rem}
section{border-top:1px solid var(--line)}a{color:inherit}
blockquote{margin:.6rem 0;padding:.1rem 1rem;border-left:4px solid var(--line);color:var(--soft)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;margin:1rem 0;min-width:60%}
th,td{padding:.35rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{background:var(--shade)}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.v{font-weight:600;white-space:nowrap}.yes{color:var(--yes)}.when{color:var(--when)}.no{color:var(--no)}
.open{color:var(--open)}figure{margin:1rem 0}small,.s{color:var(--soft);font-size:.88rem}
@media print{section{break-inside:avoid}}
"""
_NUMBER = re.compile(r"[<>~$x]?-?\d[\d,.]*\b")
_SENTENCES = re.compile(r"(?<=[.!?]) (?=[A-Z0-9])")


def gist(study: Study) -> str:
    """Return the first sentence of a study's finding."""
    return _SENTENCES.split(study.sentence, maxsplit=1)[0]


def html(studies: Sequence[Study]) -> str:
    """Return one self-contained page: the verdicts, then each study with its charts and figures."""
    body = "\n".join(
        [
            f"<h1>{escape(_TITLE)}</h1>",
            f"<p>{escape(_LEAD)}</p>",
            _verdicts(studies),
            f'<p class="s">{" ".join(f"<b>{name}</b>: {said}." for name, said in _VERDICTS.items())}</p>',
            *map(_section, studies),
            f'<section><h2>Made with</h2><p class="s">{escape(_made_with(studies))}</p></section>',
        ]
    )
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(_TITLE)}</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _made_with(studies: Sequence[Study]) -> str:
    what = "mixtura studies" if len(studies) != 1 else f"mixtura studies {studies[0].name}"
    return f"{what}. The same version gives the same page."


def _verdicts(studies: Sequence[Study]) -> str:
    rows = [
        f'<tr><td><a href="#{escape(study.name)}">{escape(study.title)}</a><br>'
        f"<small>{escape(study.who)}</small></td>"
        f'<td class="v {_COLOUR[study.verdict]}">{study.verdict}</td><td>{escape(gist(study))}</td></tr>'
        for study in studies
    ]
    head = "<tr><th>claim</th><th>verdict</th><th>finding</th></tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _section(study: Study) -> str:
    figures = "\n".join(f"<figure>{svg(chart)}</figure>" for chart in study.charts)
    sources = "".join(f"<li>{escape(source)}</li>" for source in study.sources)
    return "\n".join(
        [
            f'<section id="{escape(study.name)}"><h2>{escape(study.title)}</h2>',
            f"<blockquote><p>{escape(study.claim)} <small>({escape(study.who)})</small></p></blockquote>",
            f'<p><span class="v {_COLOUR[study.verdict]}">{study.verdict}</span>. {escape(study.sentence)}</p>',
            f"<p><b>What decides it.</b> {escape(study.assumption)}</p>",
            figures,
            _table(study),
            f'<p class="s"><b>Method.</b> {escape(study.method)}</p>',
            f'<ul class="s">{sources}</ul></section>',
        ]
    )


def _table(study: Study) -> str:
    right = _right(study)
    head = "".join(f"<th{_class(at in right)}>{escape(name)}</th>" for at, name in enumerate(study.table.headers))
    rows = "".join(
        f"<tr>{''.join(f'<td{_class(at in right)}>{escape(cell)}</td>' for at, cell in enumerate(row))}</tr>"
        for row in study.table.rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _class(numbers: bool) -> str:
    return ' class="n"' if numbers else ""


def _right(study: Study) -> set[int]:
    """Return the columns, except the first, whose cells mostly begin with a number: they are right-aligned."""
    columns = zip(*study.table.rows, strict=True)
    return {
        at
        for at, cells in enumerate(columns)
        if at and sum(bool(_NUMBER.match(cell)) for cell in cells) * 2 > len(cells)
    }


def markdown(studies: Sequence[Study], charts: str = "studies") -> dict[str, str]:
    """Return the page as Markdown, and its charts as SVG files in a folder beside it.

    Args:
        studies: at least one, in the order of the page.
        charts: the name of the charts' folder.

    Returns:
        The content of each file: `machine-room.md` and `<charts>/<study>-<number>.svg`.
    """
    lines = [
        "# The machine room",
        "",
        *_LEAD.replace(". ", ".\n").split("\n"),
        "This page and its charts are generated (`make studies`); a test compares them with the code.",
        "[The fit](fit.md) reports the errors of the step models on data left out of the fit.",
        "",
        "## Verdicts",
        "",
        "| claim | said by | verdict | finding |",
        "|---|---|---|---|",
        *(
            f"| [{_cell(study.title)}](#{_anchor(study.title)}) | {_cell(study.who)} | **{study.verdict}** "
            f"| {_cell(gist(study))} |"
            for study in studies
        ),
        "",
        *(f"- **{name}**: {said}." for name, said in _VERDICTS.items()),
        "",
        "```console",
        "$ mixtura studies",
        f"$ mixtura studies {studies[0].name} --json",
        "```",
        "",
    ]
    files: dict[str, str] = {}
    for study in studies:
        pictures = {f"{charts}/{study.name}-{at}.svg": chart for at, chart in enumerate(study.charts, start=1)}
        files |= {name: svg(chart) + "\n" for name, chart in pictures.items()}
        images = [f"![{_cell(chart.title)}]({name})\n" for name, chart in pictures.items()]
        lines += _markdown_section(study, images)
    return {"machine-room.md": "\n".join(lines).rstrip() + "\n", **files}


def _markdown_section(study: Study, images: list[str]) -> Iterator[str]:
    yield from (f"## {study.title}", "", f"> {_plain(study.claim)}", f"> ({_plain(study.who)})", "")
    yield from (f"**{study.verdict}.**", *_SENTENCES.split(_plain(study.sentence)), "")
    yield from (f"What decides it: {_plain(study.assumption)}", "", *images)
    right = _right(study)
    yield f"| {' | '.join(map(_cell, study.table.headers))} |"
    yield f"|{'|'.join('---:' if at in right else '---' for at in range(len(study.table.headers)))}|"
    yield from (f"| {' | '.join(map(_cell, row))} |" for row in study.table.rows)
    yield from ("", f"Method: {_plain(study.method)}", "")
    yield from (f"Sources: {_plain('; '.join(study.sources))}.", "")


def _plain(text: str) -> str:
    """Return a text escaped for Markdown, except for back-quotes, which mark names on both pages."""
    parts = text.split("`")
    quoted = len(parts) % 2  # with an odd number of back-quotes none of them marks a name
    return "`".join(
        part if at % 2 and quoted else re.sub(r"([*_<>\[\]\\~$])", r"\\\1", part) for at, part in enumerate(parts)
    )


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("\n", " ")


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
