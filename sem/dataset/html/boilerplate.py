"""Lines that a page repeats without saying anything new: menus, controls, small print."""

import re
from collections.abc import Sequence

from sem.dataset.html import traits
from sem.dataset.html.line import Line

FRAME = frozenset(("header", "footer", "aside"))
# What pages say again and again to be clicked on; no fact of any record.
BOILERPLATE = re.compile(
    r"(?:\[?(?:submit|button)\b[^\]]*\]|[-–•»›→+ ]*(?:(?:add|save|move) to (?:cart|basket|bag|"
    r"wish ?list|favou?rites|compare)|(?:in den warenkorb|ajouter au panier|añadir al carrito|"
    r"aggiungi al carrello|in winkelwagen|do koszyka|dodaj do koszyka|добавить в корзину|"
    r"в корзину|купить|カートに入れる|加入购物车)|(?:buy|shop|order|book)(?: it)? now|"
    r"read (?:more|on)|continue reading|learn more|(?:show|view|see|load)(?: all| more| details)|"
    r"weiterlesen|mehr(?: lesen| erfahren)?|lire (?:la suite|plus)|leer más|leggi tutto|"
    r"lees (?:meer|verder)|czytaj więcej|подробнее|more(?: info(?:rmation)?| details)?|"
    r"quick (?:view|look|shop)|select options|choose options|reply|share(?: this)?|tweet|pin it|"
    r"print|report|permalink|edit|back to top|go to top|top|close|loading|advertisement|anzeige|"
    r"skip to (?:main )?content)[ .…»›→↑]*(?:\[button\])?)",
    re.I,
)


def drop_repeats(lines: Sequence[Line]) -> list[Line]:
    """Return `lines` less empty ones and repeats of navigation and boilerplate.

    Two people may have the same role, two branches the same hours: what a page says of a record
    stays, however often it says the same of others.
    """
    rest, texts = [], set()
    for line in lines:
        text = line.render()
        if text and (text not in texts or not _is_boilerplate(line, text)):
            texts.add(text)
            rest.append(line)
    return rest


def _is_boilerplate(line: Line, text: str) -> bool:
    if line.kind == "field":
        return False
    if line.section == "nav" or line.kind == "fact":
        return True
    if line.section in FRAME and (line.is_linked or traits.is_legal(text)):
        return True
    return BOILERPLATE.fullmatch(text) is not None or not any(map(str.isalnum, text))
