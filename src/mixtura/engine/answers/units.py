"""What stands behind a number: a scale ("million"), a unit ("cm^2", "dollars a day"), or the thing that is counted."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple


class Measure(NamedTuple):
    """What is said behind a number: a factor of it, and a unit as it is compared ("" for none)."""

    scale: Fraction
    unit: str


# One unit a line, first as it is compared and shown, then as it is written. Symbols have their case: mW is not MW.
_TABLE = """
% percent pct per_cent ％ \u066a
‰ permille
° degree degrees deg
°C celsius ℃ degrees_celsius
°F fahrenheit ℉ degrees_fahrenheit
dollars dollar $ bucks
USD usd us$
euros euro € eur
GBP £ sterling quid pounds_sterling
pounds pound
lb lbs
rupees rupee ₹ ₨ rs rs. inr re.
yen ¥ jpy 円
yuan cny rmb 元
won ₩ krw
rubles ₽ ruble rouble roubles rub
cents cent ¢
pence penny
CAD c$ ca$
AUD a$ au$
HKD hk$
SGD s$
reais r$ brl real
francs franc chf fr.
pesos peso mxn
naira ₦ ngn
taka ৳ bdt
lira ₺ try
shekels ₪ ils
km kilometer kilometers kilometre kilometres kms KM Km 公里
m meter meters metre metres 米
cm centimeter centimeters centimetre centimetres CM 厘米
mm millimeter millimeters millimetre millimetres
µm micrometer micrometers micron microns um
nm nanometer nanometers
mi mile miles
ft foot feet
in inch inches
yd yard yards yds
kg kilogram kilograms kilo kilos kgs Kg KG 公斤
g gram grams gr 克
mg milligram milligrams
oz ounce ounces
ton tons
t tonne tonnes
l liter liters litre litres L
ml milliliter milliliters millilitre millilitres mL
gal gallon gallons
cups cup
tsp teaspoon teaspoons
tbsp tablespoon tablespoons
s sec secs second seconds 秒
ms millisecond milliseconds
min mins minute minutes 分钟
h hr hrs hour hours 小时
day days 天
week weeks wk wks
month months
year years yr yrs 年
mph
km/h kmh kph kmph
m/s mps
W watt watts
kW kilowatt kilowatts kw
MW megawatt megawatts
mW milliwatt milliwatts
kWh kwh
J joule joules
kJ kj
V volt volts
A amp amps ampere amperes
N newton newtons
Hz hz hertz
kHz khz
MHz mhz
GHz ghz
Pa pascal pascals
kPa kpa
K kelvin kelvins
mol mole moles
B byte bytes
KB kB kilobyte kilobytes
MB megabyte megabytes
GB gigabyte gigabytes
TB terabyte terabytes
bits bit
Mb
Gb
rad radian radians
Ω ohm ohms
acres acre
hectares hectare ha
"""
# Words and signs of more than one meaning are the same as each of them, and those stay different from each other.
_MAY_BE = {"pounds": {"lb", "GBP"}, "°": {"°C", "°F"}, "dollars": {"USD", "CAD", "AUD", "HKD", "SGD"}}

_KNOWN: dict[str, str] = {}
for _line in _TABLE.split("\n"):
    for _written in _line.split():
        _KNOWN[_written.replace("_", " ")] = _line.split()[0]
_UNITS = frozenset(_KNOWN.values())

SIGNS = "$€£¥₹₨₩₽¢₦৳₺₪"
CURRENCY = (
    rf"(?:(?:US|us|CA|C|AU|A|HK|S|R)?\$|[{SIGNS[1:]}]"
    rf"|(?:Rs\.?|RS\.?|rs\.|USD|EUR|GBP|INR|JPY|CNY|CHF|CAD|AUD)(?=\s?[-+\d.]))"
)

_SCALES: dict[str, int] = {}
for _factor, _names in {
    12: "dozen",
    100: "hundred hundreds cien cent cento hundert сто सौ শত مائة 百",
    1000: "thousand thousands mil mille tausend тысяча тысячи тысяч हज़ार हजार হাজার ألف آلاف ہزار ribu 千",
    10_000: "万 萬",
    100_000: "lakh lakhs lac लाख লাখ لاکھ",
    1_000_000: "million millions mn mio mln millón millones milhão milhões millionen миллион миллиона "
    "миллионов मिलियन মিলিয়ন مليون ملايين juta 百万",
    10**7: "crore crores करोड़ কোটি کروڑ",
    10**8: "亿 億",
    1_000_000_000: "billion billions bn mrd mld milliard milliards milliarde milliarden миллиард миллиарда "
    "миллиардов مليار miliar 十亿",
    10**12: "trillion trillions tn 万亿 兆",
}.items():
    for _written in _names.split():
        _SCALES.setdefault(_written, _factor)
del _SCALES["cent"]  # A cent is money.
# Letters right behind the digits; m is a metre there, and K behind a space a kelvin.
_LETTERS = {"k": 1000, "K": 1000, "M": 10**6, "B": 10**9, "T": 10**12}
_CJK_SCALE = re.compile(r"(?:十亿|百万|万亿|[百千万萬亿億兆])")

# Words behind a number that make it another number, a time, a list or a comparison.
_NOT_UNITS = frozenset(
    "am pm a.m p.m o'clock and or to x times plus minus divided over squared cubed factorial pi january february march "  # noqa: SIM905
    "april may june july august september october november december jan feb mar apr jun jul aug sep sept oct nov dec "
    "bc ad bce ce half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh sevenths "
    "eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths than not but if unless "
    "modulo mod root less more fewer except point zero one two three four five six seven eight nine ten eleven twelve "
    "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty "
    "ninety hundred thousand million billion base choose score repeating recurring ago below above".split()
)
# Words that say nothing of what is counted.
_FILLERS = frozenset(
    "in total altogether of the all a an is are was were will be left remaining now per each every overall exactly "  # noqa: SIM905
    "only there he she they it you we i has have had his her their who that at on for by from".split()
)
_ORDINAL = frozenset(("st", "nd", "rd", "th"))
_WORD = re.compile(r"[^\W\d_]+(?:['’.-][^\W\d_]+)*\.?")
_TERM = re.compile(
    r"(%|[°‰℃℉'\"′″]|[^\W\d_²³]+\.?|[" + re.escape(SIGNS) + r"])(?:\s?\^?\{?\(?([-\u207b]?[23²³])\)?\}?(?![\d.]))?"
)
_PER = re.compile(r"\s*/\s*|\s+(?:per|an?|each|every)\s+")
_AREAS = {"square": "^2", "sq": "^2", "sq.": "^2", "cubic": "^3", "cu": "^3", "cu.": "^3"}
_MOST_WORDS = 6
_FIRST_WITHOUT_SPACES = "\u0900"


def read(behind: str, *, attached: bool, money: str = "") -> Measure | None:
    """Return the scale and the unit that `behind` says, None where it makes the number no plain quantity.

    Args:
        behind: the text behind the digits, without white space around it.
        attached: whether it follows the digits without a space: then a letter may be a scale, and a word is none.
        money: the currency before the digits, "" for none.
    """
    if not behind:
        return Measure(Fraction(1), unit_of_sign(money))
    scale, rest = _scale(behind, attached, bool(money))
    if not rest:
        return Measure(scale, unit_of_sign(money))
    unit = _priced(unit_of_sign(money), rest) if money else known(rest)
    if unit is None and not money:
        # Letters right behind the digits are a variable's; other scripts write what they count without a space.
        unit = _counted(rest) if not attached or scale != 1 or rest[0] >= _FIRST_WITHOUT_SPACES else None
    return None if unit is None else Measure(scale, unit)


def _priced(sign: str, behind: str) -> str | None:
    """Return the unit of an amount of money: the sign's, or the word's where it is the more exact."""
    first, rest = _term(behind)
    if first == "in" and rest:
        return known(f"{sign} {behind}")  # "$18 in total"
    if first and first in (sign, *_MAY_BE.get(sign, ())):
        return known(f"{first}{rest}")
    return None if first else known(f"{sign} {behind}")


def known(text: str) -> str | None:
    """Return a unit of the table with its powers, "per ..." and what is said behind it; None for another text."""
    first, rest = _term(text)
    if not first:
        return None
    unit = first
    while per := _PER.match(rest):
        below, after = _term(rest[per.end() :])
        if not below:
            break
        unit, rest = f"{unit}/{below}", after
    if unit == "mi/h":
        unit = "mph"
    rest = rest.strip(" .,")
    if not rest:
        return unit
    if first == "in" and " " in text.strip():
        return None  # "5 in total"
    words = _counted(rest)
    return None if words is None else _joined(unit, words)


_RUNNING = re.compile(
    r"\s?(?:[^\W\d_]+\s(?:of\s)?)?(?:(?:square|sq\.?|cubic|cu\.?)\s)?(?:%|[°‰]\s?[CF]?\b|[^\W\d_]+|["
    + re.escape(SIGNS)
    + r"])"
    r"(?:\^?[23²³](?!\d)|\s(?:squared|cubed))?(?:(?:\s?/\s?|\s(?:per|an?|each|every)\s)[^\W\d_]+(?:\^?[23²³](?!\d))?)?"
)


def running(behind: str) -> Iterator[str]:
    """Yield what can be the scale and the unit of a number in a running text, the longest first."""
    found = _RUNNING.match(behind)
    said = found[0] if found else ""
    while said:
        measure = read(said.strip(), attached=not said[0].isspace())
        # What is counted is told by the question; words behind a number in a text are often of another clause.
        if measure and " " not in measure.unit and (not measure.unit or _parts(measure.unit)[0]):
            yield said
        said = said.rstrip().rpartition(" ")[0]


def unit_of_sign(sign: str) -> str:
    """Return the unit of a currency's sign or code, "" for none."""
    bare = sign.strip()
    return _KNOWN.get(bare) or _KNOWN.get(bare.lower()) or bare if bare else ""


def agree(one: str, other: str) -> bool:
    """Say whether two units can be one: equal, one missing, or one of them the less exact of the two."""
    if one == other or not one or not other:
        return True
    (first, more), (second, most) = _parts(one), _parts(other)
    if first != second and second not in _MAY_BE.get(first, ()) and first not in _MAY_BE.get(second, ()):
        return False
    if not (more <= most or most <= more) or (more ^ most) & _CHANGING:
        return False
    # What is counted is the last word: orange trees are no oranges.
    return not (more and most) or _stem(one.split(" ")[-1]) == _stem(other.split(" ")[-1])


# Words beside a unit that make it another amount, money of another country, or the other side of zero.
_CHANGING = frozenset(
    "loss profit gain debt deficit surplus later earlier before after pair box bag pack crate score negative "  # noqa: SIM905
    "positive minus canadian australian zealand singapore hong nzd cad aud hkd sgd mexican north south east west "
    "sugar flour".split()
)


def _parts(unit: str) -> tuple[str, frozenset[str]]:
    words = unit.split(" ")
    first = ""
    if re.split(r"[/^]", words[0])[0] in _UNITS or words[0] == "th":
        first = words.pop(0)
    return first, frozenset(_stem(word) for word in words if word not in _FILLERS)


def _stem(word: str) -> str:
    word = word.rstrip(".")
    for ending, instead in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + instead
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _scale(behind: str, attached: bool, money: bool) -> tuple[Fraction, str]:
    if found := _CJK_SCALE.match(behind):
        return Fraction(_SCALES[found[0]]), behind[found.end() :].strip()
    first, _, rest = behind.partition(" ")
    factor = _SCALES.get(first.lower().rstrip(".,"))
    if factor is None and (attached or money):
        letter = first.rstrip(".,")
        factor = _LETTERS.get(letter.upper() if money else letter)
    if factor is None:
        return Fraction(1), behind
    more, rest = _scale(rest.strip(), False, False) if rest.strip() else (Fraction(1), "")
    return factor * more, rest.removeprefix("of ").strip()


def _term(text: str) -> tuple[str, str]:
    """Return one unit with its power and the rest of `text`; "" where it begins with none."""
    area = ""
    first, _, rest = text.partition(" ")
    if first.lower() in _AREAS and rest:
        area, text = _AREAS[first.lower()], rest
    found = _TERM.match(text)
    if not found:
        return "", text
    unit, power, end = _name(found[1]), (found[2] or "").replace("²", "2").replace("³", "3"), found.end()
    longer = re.match(
        r"°\s?([CF])\b|degrees?\s(celsius|fahrenheit)\b|per\scent\b|pounds?\ssterling\b", text, re.IGNORECASE
    )
    if longer:
        said = longer[0].lower()
        unit = {"c": "°C", "f": "°F"}.get((longer[1] or longer[2] or "")[:1].lower()) or (
            "GBP" if "s" in said[5:] else "%"
        )
        power, end = "", longer.end()
    if not unit:
        return "", text
    after = text[end:]
    if behind := re.match(r"\s(squared|cubed)\b", after):
        power, after = "2" if behind[1] == "squared" else "3", after[behind.end() :]
    return unit + (area or (f"^{power}" if power else "")), after


def _name(written: str) -> str:
    bare = written.rstrip(".") if len(written) > 1 else written
    if bare in _ORDINAL:
        return "th"
    if found := _KNOWN.get(bare) or _KNOWN.get(written):
        return found
    # Words have no case; of symbols only the lower-case ones may be written with capitals.
    word = bare.islower() or bare.istitle() or (bare.isupper() and len(bare) > 3)
    found = _KNOWN.get(bare.lower()) if (word and len(bare) > 2) or bare.lower() in ("rs", "hr") else None
    return found or (bare if bare in "'\"′″" else "")


def _counted(text: str) -> str | None:
    """Return the words of what is counted, None where they are no such words."""
    words = text.replace(",", " ").split()
    if len(words) > _MOST_WORDS or not all(_WORD.fullmatch(word) for word in words):
        return None
    # Of symbols case says which: mV is not MV.
    lower = [word if len(word) <= 3 and not word.islower() else word.casefold().rstrip(".") for word in words]
    parts = {part for word in lower for part in word.casefold().rstrip(".").split("-")}
    if parts & _NOT_UNITS or (len(lower[0]) == 1 and lower[0] not in _FILLERS and lower[0] < _FIRST_WITHOUT_SPACES):
        return None  # One letter is a variable.
    return " ".join(lower)


def _joined(unit: str, words: str) -> str:
    return f"{unit} {words}" if words else unit
