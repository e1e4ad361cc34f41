"""The vocabulary of web pages that cleaning knows: tags, hints, sections, addresses.

Generic words only (schema.org, landmarks, common class names); nothing here names a site.
"""

import re
from functools import lru_cache

# Elements of a drawing that show no text of their own.
UNDRAWN = "svg title, svg desc, svg defs, svg symbol, svg metadata, svg style"


def to_set(spelled: str) -> frozenset[str]:
    """Return the words of `spelled`."""
    return frozenset(spelled.split())


DROPPED = to_set(
    "script style template iframe object embed canvas video audio source track param math "
    "link base head"
)
BLOCKS = to_set(
    "address article aside blockquote body caption center dd details dialog dir div dl dt "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li "
    "main menu nav ol optgroup p pre section summary table tbody td tfoot th thead tr ul"
)
# Neighbours of these are one word in the source and one word on the screen: <b>W</b>ord.
GLUE = to_set("b i em strong u small sup sub font mark wbr bdi bdo ruby rb q")
HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
KNOWN_TAGS = (
    "!doctype|html|head|body|title|meta|div|p|a|span|table|tr|td|ul|ol|li|h[1-6]|br|img|form|"
    "input|select|option|button|b|i|em|strong|section|article|nav|script|style|dl|dt|dd|font|"
    "center|label|header|footer|main|figure|pre|blockquote|small|time"
)
HTML = re.compile(rf"<(?:{KNOWN_TAGS})(?=[\s/>])[^<>]*>", re.I)

# Word in a class, id or itemprop -> hint written before the text.
_HINTS = {
    "price": "price prices pricing preis prix precio prezzo prijs cena msrp",
    "old price": "oldprice wasprice strike listprice rrp uvp",
    "sale": "sale discount saving savings offer deal",
    "currency": "currency pricecurrency",
    "availability": "availability avail stock instock outofstock delivery lieferbar",
    "brand": "brand manufacturer marke vendor hersteller",
    "sku": "sku mpn gtin gtin13 gtin8 ean isbn upc asin artnr artikelnummer productid modelnumber",
    "title": "title headline productname entrytitle posttitle",
    "name": "name fn",
    "author": "author byline writer creator",
    "date": "date datetime published pubdate datepublished timestamp posted updated",
    "rating": "rating ratings ratingvalue stars score bewertung",
    "reviews": "reviews review reviewcount ratingcount votes",
    "breadcrumb": "breadcrumb breadcrumbs crumb crumbs bread",
    "category": "category categories cuisine kategorie",
    "tags": "tags tag keywords taglinks",
    "description": "description desc summary teaser lead excerpt intro subtitle",
    "ingredients": "ingredient ingredients recipeingredient zutaten",
    "instructions": "instruction instructions directions method steps recipeinstructions "
    "preparation zubereitung",
    "yield": "yield yields servings serving serves portions recipeyield portionen",
    "time": "preptime cooktime totaltime duration",
    "prep time": "prep",
    "cook time": "cook",
    "nutrition": "nutrition calories nutritional kcal",
    "address": "address adr street streetaddress location",
    "city": "locality city addresslocality",
    "state": "region addressregion",
    "zip": "postal postalcode zip zipcode",
    "country": "country countryname addresscountry",
    "phone": "phone tel telephone mobile",
    "fax": "fax faxnumber",
    "email": "email mail",
    "hours": "hours openinghours opening",
    "pager": "pagination pager paging pagenav paginator pagelinks wppagenavi pagenumbers",
    "next": "next nextpage",
    "prev": "prev previous prevpage",
    "current": "current active selected",
    "color": "color colour colors farbe",
    "size": "size sizes",
    "specs": "specs specifications attributes details features",
    "event": "event events vevent",
    "publisher": "publisher verlag",
    "comments": "comments comment",
    "related": "related recommended similar upsell crosssell",
    "cookies": "cookie cookies consent gdpr",
    "login": "login signin",
    "search": "search searchform",
    "newsletter": "newsletter subscribe",
}
# Beside these, `color` and `size` in a class are about the look: `has-text-color size-full`.
STYLING = to_set(
    "text font bg background has full large medium small tiny thumbnail thumb theme primary "
    "secondary dark light img image button btn link icon border fixed auto inline wp attachment "
    "screen accent style"
)
# Their parts (amount, unit, name) are read as one: nothing inside them gets another hint.
WHOLE = frozenset(("ingredients", "instructions"))
HINT_OF = {word: hint for hint, words in _HINTS.items() for word in words.split()}

_SECTIONS = {
    "nav": "nav navigation menu navbar topnav mainnav submenu megamenu sitenav",
    "header": "header masthead topbar",
    "footer": "footer colophon copyright impressum legal",
    "aside": "aside sidebar widget widgets related recommended upsell social share sharing promo "
    "banner advert ads cookie cookies consent gdpr newsletter popup modal comments",
}
SECTION_OF = {word: section for section, words in _SECTIONS.items() for word in words.split()}
SECTION_TAGS = {"nav": "nav", "footer": "footer", "aside": "aside", "main": "main"}
ROLES = {
    "navigation": "nav",
    "banner": "header",
    "contentinfo": "footer",
    "complementary": "aside",
    "main": "main",
}

META = re.compile(
    r"author|date|publish|modif|description|keyword|title|price|brand|sku|product|article|og:|"
    r"^dc|citation|section|tag|categor|image|site_?name|language|geo|availab|currency|rating|"
    r"isbn|book|retailer|condition",
    re.I,
)
NOT_META = re.compile(
    r"viewport|verif|robots|generator|theme|csrf|token|app[-_:]|fb:|tile|width|height|og:locale|"
    r"secure_url|image:type|updated_time|twitter:(?:card|site|creator|app)|og:type:|msapplication|"
    r"format-detection|pinterest|updateTitle",
    re.I,
)
DATA = re.compile(
    r"^data-(?:.*-)?(?:price|sku|brand|rating|currency|availability|stock|datetime|date|mpn|gtin|"
    r"ean|isbn|color|colour|score|average|count|votes|email|phone)$"
)
PAGING_WORDS = to_set(
    "next prev previous first last older newer weiter zurück vor nächste vorherige erste letzte "
    "suivant suivante précédent précédente premier dernier siguiente anterior primera última "
    "próximo próxima último seguinte avanti successiva precedente volgende vorige nästa "
    "föregående далее назад следующая предыдущая вперед 次 次へ 前 前へ 下一页 上一页 下页 上页 "
    "следующий предыдущий näytä seuraava edellinen következő előző następna poprzednia další "
    "předchozí sonraki önceki التالي السابق הבא הקודם »  « › ‹ > < >> << → ← … more"
)
PAGING_HREF = re.compile(
    r"(?:[?&/;](?:page|p|pg|paged|pageno|pagenum|start|offset|seite|pagina|sivu|strona)[=/_-]?\d+)|"
    r"[?&;][\w.%-]*(?:page|start|offset|from)[\w.%-]*=\d+|[-_/](?:page|p)[-_]?\d+(?:[./?]|$)",
    re.I,
)
TRACKER = re.compile(
    r"doubleclick|googletag|google-analytics|facebook\.com/tr|pixel|/track|beacon|counter|"
    r"scorecard|1x1|spacer|blank\.gif|transparent\.|placeholder|/loading\.|data:",
    re.I,
)
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")


@lru_cache(maxsize=20_000)
def label_words(label: str) -> tuple[str, ...]:
    """Return the words of a class or id label, whole parts first: 'productPrice big' -> …"""
    words: list[str] = []
    for part in label.split()[:12]:
        small = [word.lower() for word in WORDS.findall(part[:60])]
        words.extend(("".join(small), *small))
    return tuple(words)


@lru_cache(maxsize=20_000)
def hint_of_label(label: str) -> str:
    """Return the hint of a class, id or itemprop label, '' when it says nothing known."""
    spelled = label_words(label)
    is_styled = not STYLING.isdisjoint(spelled)
    for word in spelled:
        candidate = HINT_OF.get(word)
        if candidate and not (is_styled and candidate in ("color", "size")):
            return candidate
    return ""


# What a text must hold for its hint to be shown; a class often says something else.
_PLAUSIBLE = {
    "email": re.compile(r"@|\(at\)|\[at\]|mail", re.I),
    "phone": re.compile(r"\d(?:\D{0,3}\d){4}"),
    "fax": re.compile(r"\d(?:\D{0,3}\d){4}"),
    **dict.fromkeys(("price", "old price", "rating", "zip"), re.compile(r"\d")),
    "date": re.compile(r"\d|\[time="),
    "color": re.compile(r"\A.{1,60}\Z"),
    "size": re.compile(r"\A.{1,60}\Z"),
    "sku": re.compile(r"\d|[A-Z]{2}"),
    "currency": re.compile(r"\A.{1,12}\Z"),
}


def is_plausible(hint: str, text: str) -> bool:
    """Return True if `text` may be what `hint` says: `email: 3` is not an address."""
    pattern = _PLAUSIBLE.get(hint)
    return pattern is None or pattern.search(text) is not None


@lru_cache(maxsize=20_000)
def landmark_of_label(label: str) -> str:
    """Return the landmark a class or id label names, '' for none."""
    return next((SECTION_OF[word] for word in label_words(label) if word in SECTION_OF), "")
