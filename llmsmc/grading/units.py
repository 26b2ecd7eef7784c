"""Names of units, so that metres are no centimetres and `in` is `inches`."""

import re
from typing import Final

_UNITS: Final = {
    "m": "meter meters metre metres",
    "cm": "centimeter centimeters centimetre centimetres cms",
    "mm": "millimeter millimeters millimetre millimetres",
    "km": "kilometer kilometers kilometre kilometres kms",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard yards yds",
    "mi": "mile miles",
    "g": "gram grams",
    "kg": "kilogram kilograms kgs",
    "mg": "milligram milligrams",
    "lb": "pound pounds lbs",
    "oz": "ounce ounces",
    "l": "liter liters litre litres",
    "ml": "milliliter milliliters millilitre millilitres",
    "s": "sec secs second seconds",
    "min": "mins minute minutes",
    "h": "hr hrs hour hours",
    "day": "days",
    "week": "weeks wk",
    "month": "months",
    "year": "years yr yrs",
    "$": "dollar dollars usd",
    "\N{EURO SIGN}": "euro euros eur",
    "\N{POUND SIGN}": "gbp",
    "\N{YEN SIGN}": "yen jpy",
    "\N{INDIAN RUPEE SIGN}": "rs rupee rupees inr",
    "cent": "cents",
    "mi/h": "mph",
    "km/h": "kph kmph",
    "deg": "degree degrees",
    "rad": "radian radians",
    "%": "percent",
    "celsius": "",
    "fahrenheit": "",
}
"""What a unit is called here -> its other names; any other word is a unit that may be left out."""

_NAMES: Final = {name: unit for unit, names in _UNITS.items() for name in [unit, *names.split()]}


CURRENCIES: Final = tuple("$\N{EURO SIGN}\N{POUND SIGN}\N{YEN SIGN}\N{INDIAN RUPEE SIGN}")

TEMPERATURES: Final = {
    **{"c": "celsius", "celsius": "celsius"},
    **{"f": "fahrenheit", "fahrenheit": "fahrenheit"},
}
"""What may stand behind the sign of degrees -> the unit."""

SCALES: Final = {
    **{"dozen": 12, "hundred": 100, "thousand": 1000},
    **{"million": 10**6, "billion": 10**9, "trillion": 10**12},
}
"""Words that are no unit but a factor."""


def unit_name(word: str) -> str:
    """Return the one name of a unit of length, mass, time, money and so on; "" of other words."""
    return _NAMES.get(word.rstrip(".").casefold(), "")


_CHANGING: Final = re.compile(
    r"(?<![a-z])(?:or|and|not|more|less|fewer|least|most|over|under|above|below|than|times|"
    r"half|halves|thirds?|quarters?|(?:four|fif|six|seven|eigh|nin|ten|hundred|thousand)ths?|"
    r"north|south|east|west|up|down|left|right|bc|bce|ad|ce|k)(?![a-z])"
)


def changing_words(text: str) -> list[str]:
    """Return the words behind a number that change it, as in `5 or more`: they are no unit.

    >>> changing_words("or more"), changing_words("miles west"), changing_words("apples")
    (['or', 'more'], ['west'], [])
    """
    return _CHANGING.findall(text.casefold())


_DEGREES: Final = re.compile(r"degrees?\s+(?=celsius|fahrenheit)", re.IGNORECASE)
_POWERS: Final = {"square": "2", "sq": "2", "squared": "2", "cubic": "3", "cubed": "3", "cu": "3"}


def unit(text: str) -> str | None:
    """Return one spelling of a unit, None if a word of it is not in the table.

    >>> unit("square inches") == unit("in ^ 2") == "in^2", unit("miles per hour"), unit("apples")
    (True, 'mi/h', None)
    """
    found, power = "", ""
    text = _DEGREES.sub("", text.replace("^ -", "^-"))
    for word in re.findall(rf"[a-zA-Z.]+|[0-9]+|[/%{''.join(CURRENCIES)}-]", text):
        if word.rstrip(".").casefold() in _POWERS:
            power = _POWERS[word.rstrip(".").casefold()]
        elif word.isdigit():
            power = word
        elif word in ("/", "per"):
            found, power = found + (f"^{power}" if power else "") + "/", ""
        else:
            name = unit_name(word)
            if not name or (found and not found.endswith("/")):
                return None
            found += name
    return (found + (f"^{power}" if power else "")) or None
