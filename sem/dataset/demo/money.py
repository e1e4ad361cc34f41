"""Markets, and how a market writes an amount of money."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal


@dataclass(frozen=True)
class Market:
    """A country's shop conventions."""

    locale: str
    currency: str
    rate: int
    """Units of the currency for one euro, roughly, so that prices look right."""
    thousands: tuple[str, ...]
    decimal: str
    patterns: tuple[str, ...]
    phone: str

    @property
    def language(self) -> str:
        return self.locale[:2]

    @property
    def whole(self) -> bool:
        """Return whether prices carry no decimals."""
        return self.currency in {"JPY", "SEK"}


NBSP, THIN = "\u00a0", "\u202f"
EURO = ("{} €", f"{{}}{NBSP}€", "{} EUR", "€ {}")

# Neighbours 0, 3, 7 and 14 apart speak different languages: a template meets four of them.
MARKETS = (
    Market("en-US", "USD", 1, (",",), ".", ("${}", "US${}", "{} USD"), "+1 202 555 01{:02}"),
    Market("de-DE", "EUR", 1, (".", ""), ",", EURO, "030 23125 0{:02}"),
    Market(
        "fr-FR",
        "EUR",
        1,
        (NBSP, THIN),
        ",",
        ("{} €", f"{{}}{NBSP}€", "{} EUR"),
        "01 99 00 10 {:02}",
    ),
    Market("es-ES", "EUR", 1, (".", ""), ",", EURO, "900 555 0{:02}"),
    Market(
        "sv-SE", "SEK", 11, (" ", NBSP), ",", ("{} kr", "{} SEK", "{} kronor"), "08-465 004 {:02}"
    ),
    Market("it-IT", "EUR", 1, (".",), ",", EURO, "02 5550 01{:02}"),
    Market(
        "de-CH", "CHF", 1, ("'", "’"), ".", ("CHF {}", "Fr. {}", "SFr. {}"), "044 555 01 {:02}"
    ),
    Market("nl-NL", "EUR", 1, (".",), ",", ("€ {}", "€{}", "{} euro"), "020 555 01{:02}"),
    Market("pl-PL", "PLN", 4, (" ", NBSP), ",", ("{} zł", "{} PLN", "{} zł"), "22 555 01 {:02}"),
    Market("ja-JP", "JPY", 150, (",",), "", ("¥{}", "{}円", "￥{}"), "03-5550-01{:02}"),
    Market("en-GB", "GBP", 1, (",", ""), ".", ("£{}", "£{}", "GBP {}"), "01632 9600{:02}"),
    Market("pt-BR", "BRL", 6, (".",), ",", ("R$ {}", "R${}", "R$ {}"), "(11) 5555-01{:02}"),
    Market(
        "es-MX",
        "MXN",
        20,
        (",",),
        ".",
        ("${} MXN", "MX${}", "{} pesos mexicanos"),
        "55 5555 01{:02}",
    ),
    Market("fr-CH", "CHF", 1, ("'",), ".", ("CHF {}", "{} CHF", "Fr. {}"), "022 555 01 {:02}"),
    Market("en-CA", "CAD", 1, (",",), ".", ("C${}", "CA${}", "{} CAD"), "+1 613 555 01{:02}"),
    Market("de-AT", "EUR", 1, (".", " "), ",", EURO, "01 555 01 {:02}"),
    Market("pt-PT", "EUR", 1, (".", " "), ",", EURO, "211 555 0{:02}"),
    Market("en-IE", "EUR", 1, (",",), ".", ("€{}", "€{}", "EUR {}"), "020 91 555 {:02}"),
)


@dataclass(frozen=True)
class Style:
    """The one way a shop writes money."""

    market: Market
    thousands: str
    pattern: str

    def digits(self, amount: Decimal) -> str:
        """Return `amount` as the shop groups it, without a currency."""
        whole, _, cents = f"{amount:.2f}".partition(".")
        grouped = f"{int(whole):,}".replace(",", self.thousands)
        if self.market.whole and cents == "00":
            return grouped
        return f"{grouped}{self.market.decimal}{cents}"

    def text(self, amount: Decimal) -> str:
        """Return `amount` with its currency."""
        return self.pattern.format(self.digits(amount))

    @property
    def sign(self) -> str:
        """Return the currency part of the pattern."""
        return self.pattern.replace("{}", "").strip(f" {NBSP}")


def market_price(amount: Decimal, market: Market) -> Decimal:
    """Return `amount` as a price of `market`: whole kronor, tens of yen, else cents."""
    step = {"JPY": Decimal(10), "SEK": Decimal(1)}.get(market.currency, Decimal("0.01"))
    return (amount / step).quantize(Decimal(1), ROUND_HALF_UP) * step
