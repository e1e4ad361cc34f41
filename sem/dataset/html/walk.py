"""One pass over a parsed page, in document order, that feeds a Writer."""

import re
from dataclasses import dataclass, replace
from typing import Any

from sem.dataset import text
from sem.dataset.config import TaskOptions
from sem.dataset.html import raised, words
from sem.dataset.html.line import Address, PageLine
from sem.dataset.html.traits import has_contact
from sem.dataset.html.writer import INLINE_HINTS, PageWriter

# What form fields and images say, as short bracketed pieces of text.

Given = dict[str, str | None]

HIDDEN_FIELD_HINTS = frozenset(("price", "sku", "brand", "currency", "availability"))
MAX_OPTIONS = 600
MAX_FIELD_LABEL = 120
MAX_TEXTAREA = 2_000
TINY = ("0", "1", "2")
SIZES = re.compile(r"\s*,\s+")
BACKGROUND = re.compile(r"background(?:-image)?\s*:[^;{}]*url\(\s*[\"']?([^\"')]{8,500})", re.I)
SOURCES = ("src", "data-src", "data-original", "data-lazy-src", "data-lazy", "data-image")


def is_hidden(attributes: Given) -> bool:
    """Return whether an element with `attributes` is not shown to anybody."""
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    style = attributes.get("style")
    if not style or ("none" not in style and "hidden" not in style):
        return False
    packed = style.replace(" ", "").lower()
    return "display:none" in packed or "visibility:hidden" in packed


def form_description(attributes: Given) -> str:
    """Return `form NAME ACTION method`, as far as the page says."""
    names = [
        attributes.get("id"),
        attributes.get("name"),
        attributes.get("class"),
        attributes.get("action"),
    ]
    parts = list(dict.fromkeys(text.single_line(name)[:60] for name in names if name))
    method = "post" if (attributes.get("method") or "").lower() == "post" else ""
    return " ".join(part for part in ("form", *parts, method) if part)


def describe_control(node: Any, tag: str, attributes: Given) -> str | None:
    """Return the piece for an input, select or textarea; '' for one that says nothing.

    Else None.
    """
    if tag == "input":
        return _input(attributes)
    if tag == "select":
        return _select(node, attributes)
    if tag == "textarea":
        return _piece("textarea", {**attributes, "value": node.text()[:MAX_TEXTAREA]})
    return None


def _input(attributes: Given) -> str:
    kind = (attributes.get("type") or "text").lower()
    value = text.single_line(attributes.get("value") or "")[:MAX_FIELD_LABEL]
    if kind == "hidden":
        name = attributes.get("name") or ""
        return (
            f"[{name}={value}]"
            if value and words.hint_of_label(name) in HIDDEN_FIELD_HINTS
            else ""
        )
    if kind in ("submit", "button", "reset", "image"):
        return f"[{kind} {value or attributes.get('alt') or ''}".rstrip() + "]"
    if kind in ("checkbox", "radio"):
        return f"[{kind}*]" if "checked" in attributes else f"[{kind}]"
    return _piece(kind, attributes)


def _piece(kind: str, attributes: Given) -> str:
    name = attributes.get("name") or attributes.get("id") or ""
    label = (
        attributes.get("placeholder")
        or attributes.get("aria-label")
        or attributes.get("title")
        or ""
    )
    value = attributes.get("value") or ""
    parts = dict.fromkeys(
        text.single_line(part) for part in (name[:60], label[:MAX_FIELD_LABEL], value) if part
    )
    return "[" + " ".join((kind, *parts)) + "]"


def _select(node: Any, attributes: Given) -> str:
    options = node.css("option")
    labels = []
    for option in options[:MAX_OPTIONS]:
        label = text.single_line(option.text())[:MAX_FIELD_LABEL]
        if label:
            labels.append(label + "*" if "selected" in option.attributes else label)
    for option in options[MAX_OPTIONS:]:
        if "selected" in option.attributes:
            labels.append(text.single_line(option.text())[:MAX_FIELD_LABEL] + "*")
    labels = list(dict.fromkeys(labels))
    if len(options) > MAX_OPTIONS:
        labels.append(f"… {len(options)} options")
    name = text.single_line(attributes.get("name") or attributes.get("id") or "")[:60]
    return f"[select {name}: {', '.join(labels)}]"


def image_source(attributes: Given) -> str:
    """Return the address of the picture, not of its placeholder.

    '' when there is none worth keeping.
    """
    if attributes.get("width") in TINY or attributes.get("height") in TINY:
        return ""
    for name in SOURCES:
        value = (attributes.get(name) or "").strip()
        if value and value[0] != "#" and not words.TRACKER.search(value):
            return value
    last = SIZES.split((attributes.get("srcset") or attributes.get("data-srcset") or "").strip())[
        -1
    ]
    address = last.split(" ")[0]
    return "" if words.TRACKER.search(address) else address


def background_image_url(attributes: Given) -> str:
    """Return the address of the picture behind an element, '' for none."""
    style = attributes.get("style")
    match = BACKGROUND.search(style) if style and "url(" in style else None
    return "" if match is None or words.TRACKER.search(match[1]) else match[1].strip()


def image_element_rank(attributes: Given, hint: str, section: str) -> int:
    """Return how likely the picture is what the page is about: larger is likelier."""
    rank = {"": 2, "main": 3, "header": 1}.get(section, 0) * 10
    rank += 20 if attributes.get("itemprop") == "image" else 0
    label = f"{attributes.get('class') or ''} {attributes.get('id') or ''}".lower()
    rank += 10 if re.search(r"main|primary|hero|product|featured|large|zoom", label) else 0
    rank -= 20 if re.search(r"logo|icon|avatar|sprite|thumb|flag", label) else 0
    rank -= 10 if hint in ("related", "comments") else 0
    for name in ("width", "height"):
        size = (attributes.get(name) or "").removesuffix("px")
        if size.isdigit() and len(size) < 6:
            rank += 8 if int(size) >= 200 else -15 if int(size) < 60 else 0
    return rank


MAX_LABEL = 300
MAX_VALUE = 80
# What scripts write where they have no value: `data-brand="None"`.
NOTHING = frozenset(("", "none", "null", "nil", "undefined", "nan", "n/a", "[]", "{}"))
BOXES = frozenset("▢□☐◻")
# Hidden by script until somebody clicks, or until the page has loaded: content, not clutter.
REVEALED = frozenset(("tab", "tabs", "panel", "pane", "panes", "accordion", "tabpanel"))
HIDDEN_CHARS = 60
# Levels below its element at which a hint is still about the text.
HINT_DEPTH = 5
# Blocks whose lines are one thing to a reader, and up to how many characters: `2`, `cups`.
ITEMS = {"li": 240, "tr": 240, "dd": 240, "div": 90}


@dataclass
class Frame:
    """An element whose children are being read."""

    tag: str
    # The sibling to go on with.
    after: Any
    given: Given
    # Section, hint, shape and item that its text gets.
    at: PageLine
    muted: bool
    # How many pieces of text there were before its children.
    said: int
    written: int  # how many characters
    place: tuple[int, int]  # where the writer was
    # How its text is raised.
    raised: str = ""


class Walk:
    """State of the pass."""

    def __init__(self, options: TaskOptions) -> None:
        self.out = PageWriter()
        self.hidden = 0
        self._options = options
        self._frames: list[Frame] = []
        self._marks = 0
        self._seen: set[str] = set()

    def down(self, top: Any) -> None:
        """Read everything below `top`. A loop, because pages nest deeper than Python."""
        self._frames.append(Frame("body", None, {}, PageLine("text", ()), False, 0, 0, (0, 0)))
        node = top.child
        while self._frames:
            if node is None:
                frame = self._frames.pop()
                self._leave(frame)
                node = frame.after
            elif node.tag == "-text":
                value = node.text_content
                if value and not self._frames[-1].muted and value.strip() not in BOXES:
                    self.out.say(value, self._frames[-1].at)
                node = node.next
            else:
                node = self._enter(node)
        self.out.flush()

    def _enter(self, node: Any) -> Any:
        """Open `node`; the node to read next."""
        tag = node.tag
        if not tag or tag in words.DROPPED or tag[0] in "-_!":
            return node.next
        if tag == "meta" and "itemprop" not in node.attributes:
            return node.next
        frame = self._frame(node, tag)
        if frame.raised == "cents" and not frame.muted:
            self.out.resume()
        elif tag in words.BLOCKS:
            self._open_block(frame)
        elif tag not in words.GLUE:
            self.out.apart = True
        piece = describe_control(node, tag, frame.given)
        if piece is not None:
            self._field(frame, piece)
        elif tag == "img":
            self._image(frame)
        elif tag == "br":
            self._break(frame)
        else:
            self._attributes(frame)
            self._frames.append(frame)
            if frame.raised:
                self.out.open_raised(frame.raised)
            return node.child
        return frame.after

    def _frame(self, node: Any, tag: str) -> Frame:
        parent = self._frames[-1]
        attributes = node.attributes
        label = attributes.get("class") or attributes.get("id") or ""
        muted = parent.muted
        at = self._at(node, tag, attributes, label, parent.at)
        if not muted and attributes and is_hidden(attributes):
            self.hidden += 1
            muted = not self._is_revealed(node, label, at)
            at = at if muted else replace(at, section="hidden")
        out = self.out
        kind = raised.raised_kind(tag, label, attributes.get("style"))
        return Frame(tag, node.next, attributes, at, muted, out.said, out.written, out.place, kind)

    def _is_revealed(self, node: Any, label: str, at: PageLine) -> bool:
        if self._options.hidden == "drop":
            return False
        if at.section not in ("", "main", "hidden"):
            # The address in a drop-down menu.
            content = node.text()
            return has_contact(content, content.lower())
        if node.attributes.get("role") == "tabpanel" or REVEALED & set(words.label_words(label)):
            return True
        return len(node.text()) > HIDDEN_CHARS

    def _at(self, node: Any, tag: str, attributes: Given, label: str, above: PageLine) -> PageLine:
        """Return what `above` says of a line, as changed by an element with `tag` and `label`."""
        section, hint, mark, depth = above.section, above.hint, above.mark, len(self._frames)
        if section in ("", "main", "header"):
            section = _section(node, tag, attributes, label) or section
        if hint and depth - above.depth > HINT_DEPTH:
            hint, mark = "", 0
        if hint not in words.WHOLE:
            own = words.hint_of_label(attributes.get("itemprop") or "") or (
                words.hint_of_label(label) if label else ""
            )
            if own and own != hint:
                self._marks += 1
                hint, mark = own, self._marks
        shape = f"{tag}.{label[:40]}" if label else above.shape
        if (section, hint, mark, shape) == (above.section, above.hint, above.mark, above.shape):
            return above
        depth = above.depth if mark == above.mark else depth
        return PageLine("text", (), section, hint, shape, mark=mark, depth=depth)

    def _open_block(self, frame: Frame) -> None:
        tag = frame.tag
        if tag in ("td", "th"):
            if not self.out.is_empty:
                self.out.put(" | ", frame.at)
            return
        if not (tag == "dd" and self.out.awaits_value):
            self.out.flush()
        if tag in words.HEADINGS:
            self.out.prefix = words.HEADINGS[tag] + " "
        elif tag == "li":
            self.out.prefix = "- "
        elif tag == "form":
            form_line = PageLine("field", (form_description(frame.given),), frame.at.section)
            self.out.add(form_line)

    def _attributes(self, frame: Frame) -> None:
        """Say what `frame`'s attributes add to its text."""
        if frame.muted:
            return
        at = frame.at
        is_new = at.mark != self._frames[-1].at.mark
        within = not self.out.is_empty and not self.out.prefix.startswith("#")
        within = within and frame.raised != "cents"
        if within and is_new and at.hint in INLINE_HINTS:
            self.out.put(f" {at.hint}: ", at)
        for name, value in frame.given.items():
            if value and name.startswith("data-") and words.DATA.match(name):
                self._fact(frame, name.removeprefix("data-"), value)
        if source := background_image_url(frame.given):
            self._picture(frame, source)
        if content := frame.given.get("content"):
            self._fact(frame, frame.given.get("itemprop") or "content", content)

    def _fact(self, frame: Frame, name: str, value: str) -> None:
        if value.strip().lower() in NOTHING:
            return
        piece = f" [{name}={text.single_line(value)[:MAX_VALUE]}] "
        if piece not in self._seen:
            self._seen.add(piece)
            self.out.put(piece, frame.at)

    def _leave(self, frame: Frame) -> None:
        out, tag = self.out, frame.tag
        if not frame.muted and out.said == frame.said:
            label = frame.given.get("aria-label") or frame.given.get("title")
            if label:
                out.say(label[:MAX_LABEL], frame.at)
        if frame.raised:
            out.close_raised()
        if tag == "a":
            self._link(frame)
        elif tag == "time" and frame.given.get("datetime") and not frame.muted:
            self._fact(frame, "time", frame.given["datetime"] or "")
        elif tag == "button" and out.said > frame.said and not out.is_empty:
            out.put(" [button]", frame.at)
        elif tag == "dt":
            out.put(": ", frame.at)
        elif tag in words.BLOCKS and tag not in ("td", "th"):
            out.flush()
            if tag in ITEMS:
                out.unite(frame.place[0], ITEMS[tag], tag == "tr")
            if tag == "li" or tag in words.HEADINGS:
                out.prefix = ""
        elif tag not in words.GLUE:
            out.apart = True

    def _field(self, frame: Frame, piece: str) -> None:
        is_form = any(above.tag == "form" for above in self._frames)
        # Lists to tick off, of ingredients or filters, are no forms.
        if piece and (is_form or piece not in ("[checkbox]", "[radio]")):
            self.out.put(f" {piece} ", frame.at)
            self.out.said += 1

    def _break(self, frame: Frame) -> None:
        if self.out.prefix.startswith("#"):
            self.out.say(" ", frame.at)
        else:
            self.out.flush()

    def _image(self, frame: Frame) -> None:
        if frame.muted:
            return
        alt = text.single_line(frame.given.get("alt") or frame.given.get("title") or "")[
            :MAX_LABEL
        ]
        if alt:
            self.out.apart = True
            self.out.say(alt, frame.at)
            self.out.apart = True
        self._picture(frame, image_source(frame.given))

    def _picture(self, frame: Frame, source: str) -> None:
        source = text.single_line(source)
        if source and source not in self._seen and frame.at.section not in ("nav", "footer"):
            self._seen.add(source)
            rank = image_element_rank(frame.given, frame.at.hint, frame.at.section)
            self.out.put(Address("image", source, rank), frame.at)

    def _link(self, frame: Frame) -> None:
        out = self.out
        out.apart = True
        if frame.muted:
            return
        label = out.since(frame.place)
        out.linked(out.written - frame.written)
        address = self._address(frame, label)
        if address is None:
            return
        if not out.is_empty or len(out.lines) == frame.place[0]:
            out.put(address, frame.at)
        else:
            out.attach(address)

    def _address(self, frame: Frame, label: str) -> Address | None:
        href = text.single_line(frame.given.get("href") or "")
        if not href or href.startswith("#") or href.lower().startswith(("javascript:", "data:")):
            return None
        scheme, _, rest = href.partition(":")
        if scheme.lower() in ("mailto", "tel", "callto", "sms", "fax"):
            return None if rest in label else Address("contact", rest)
        policy, section = self._options.links, frame.at.section
        if policy != "none" and _is_paging(frame, label, href):
            return Address("paging", href)
        is_content = policy == "content" and section in ("", "main")
        if href in self._seen or not (policy == "all" or is_content):
            return None
        self._seen.add(href)
        return Address("link", href)


def _section(node: Any, tag: str, attributes: Given, label: str) -> str:
    named = words.SECTION_TAGS.get(tag) or words.ROLES.get(attributes.get("role") or "")
    if not named and tag == "header":
        named = "header"
    if not named and label and tag in words.BLOCKS:
        named = words.landmark_of_label(label)
    # A wrapper called "has-sidebar" holds the main heading; a sidebar does not.
    if named and named != "main" and node.css_first("h1") is not None:
        return ""
    return named or ""


def _is_paging(frame: Frame, label: str, href: str) -> bool:
    if frame.at.hint in ("pager", "next", "prev"):
        return True
    if (frame.given.get("rel") or "").lower() in ("next", "prev"):
        return True
    last = label.casefold()
    if words.PAGING_HREF.search(href):
        return len(last) < 40
    return last in words.PAGING_WORDS or (last.isdecimal() and len(last) < 5)
