"""Pages, by the project's own reader of pages; preformatted text keeps its lines."""

import html
import re

from sem.core import files
from sem.dataset.config import Clean, TaskOptions
from sem.dataset.html import bombs, markup
from sem.dataset.ingest import charset
from sem.forge.reading.refusals import DocumentText, RejectedDocumentError, Step, count_note

# A text is read for what it says: no addresses, and nothing that a reader cannot see.
OPTIONS = TaskOptions(input="html", links="none", images=0, hidden="drop")
PRE = re.compile(r"<pre\b[^<>]*>", re.I)
END = re.compile(r"</pre\b[^<>]*>", re.I)
TAG = re.compile(r"<[^<>]*>")
TICKS = re.compile(r"`{3,}+")
TIGHT = ("- ", "| ")


def read_html(data: bytes, step: Step) -> DocumentText:
    """Return the page `data` as lines, headings as Markdown."""
    step(len(data) / 1e6)
    decoded = charset.decode_page(data)
    document = page_document_lines(decoded.text)
    notes = () if decoded.encoding == "utf-8" else (f"read as {decoded.encoding}",)
    notes += count_note(decoded.replaced, "characters unreadable")
    return DocumentText(document.text, document.title, notes + document.notes)


def page_document_lines(page: str) -> DocumentText:
    """Return `page` as lines; what it shows twice or hides is left out and counted."""
    fault = bombs.page_fault(page, Clean())
    if fault:
        raise RejectedDocumentError(fault.replace("page_", "html_"))
    mark = f"preformatted{files.sha256_text(page)[:12]}"
    bare, blocks = _without_code(page, mark)
    plain_page = markup.simplify_page(bare, OPTIONS)
    text, lost = _with_code(_spaced(plain_page.text), mark, blocks)
    notes = count_note(plain_page.report.get("repeated_lines", 0), "repeated lines left out")
    notes += count_note(plain_page.report.get("hidden_nodes", 0), "hidden elements left out")
    notes += count_note(lost, "preformatted blocks were not shown")
    return DocumentText(text, "", notes)


def _without_code(page: str, mark: str) -> tuple[str, list[str]]:
    """Return `page` with each `<pre>` as one word that `mark` begins, and what stood there."""
    parts, blocks, position = [], [], 0
    while opened := PRE.search(page, position):
        closed = END.search(page, opened.end())
        if closed is None:
            break
        parts.append(f"{page[position : opened.start()]}<p>{mark}x{len(blocks):06}</p>")
        blocks.append(html.unescape(TAG.sub("", page[opened.end() : closed.start()])))
        position = closed.end()
    return "".join([*parts, page[position:]]), blocks


def _with_code(text: str, mark: str, blocks: list[str]) -> tuple[str, int]:
    """Return `text` with `blocks` put back as fences, and how many of them had no place any
    more.
    """
    used = set()

    def fence(match: re.Match[str]) -> str:
        number = int(match[1])
        used.add(number)
        code = blocks[number].strip("\r\n")
        ticks = "`" * max([3, *(len(run) + 1 for run in TICKS.findall(code))])
        return f"\n{ticks}\n{code}\n{ticks}\n"

    full_text = re.sub(rf"[ \t|]*+{mark}x([0-9]{{6}})[ \t|]*+", fence, text)
    return full_text, len(blocks) - len(used)


def _spaced(text: str) -> str:
    """Return `text` with an empty line between paragraphs.

    List items and table rows stay together.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        is_row = " | " in line
        markdown = f"| {line} |" if is_row and not line.startswith(("#", "- ")) else line
        if lines and not (markdown.startswith(TIGHT) and lines[-1].startswith(markdown[:2])):
            lines.append("")
        lines.append(markdown)
    return "\n".join(lines)
