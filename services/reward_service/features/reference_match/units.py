"""Units of measurement: what they measure, and their size in the base unit of that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: `value × factor + offset` is the value in the base unit of `dimension`."""

    dimension: str
    factor: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)


_TABLE: dict[str, dict[str, str]] = {
    # dimension: {names: "factor" or "factor offset"}
    "length": {
        "m metre metres meter meters": "1", "km kilometre kilometres kilometer kilometers": "1000",
        "cm centimetre centimetres centimeter centimeters": "1/100",
        "mm millimetre millimetres millimeter millimeters": "1/1000",
        "nm nanometre nanometres nanometer nanometers": "1/1000000000", "mi mile miles": "1609.344",
        "ft foot feet": "0.3048", "inch inches": "0.0254", "yd yard yards": "0.9144",
    },
    "mass": {
        "kg kilogram kilograms kilo kilos": "1", "g gram grams": "1/1000", "mg milligram milligrams": "1/1000000",
        "t tonne tonnes": "1000", "lb lbs pound pounds": "0.45359237", "oz ounce ounces": "0.028349523125",
    },
    "time": {
        "s sec second seconds": "1", "ms millisecond milliseconds": "1/1000", "min mins minute minutes": "60",
        "h hr hrs hour hours": "3600", "day days": "86400", "week weeks": "604800",
    },
    "months": {"month months": "1", "year years yr yrs": "12"},
    "area": {"m^2 m2 sqm": "1", "cm^2 cm2": "1/10000", "km^2 km2": "1000000", "ha hectare hectares": "10000"},
    "volume": {
        "l litre litres liter liters": "1", "ml millilitre millilitres milliliter milliliters": "1/1000",
        "m^3 m3": "1000", "cm^3 cm3": "1/1000",
    },
    "speed": {"m/s": "1", "km/h kmh kph": "5/18", "mph": "0.44704"},
    "temperature": {"K kelvin": "1", "°C": "1 273.15", "°F fahrenheit": "5/9 459.67", "celsius": "1 273.15"},
    "angle": {"rad radians": "1"},
    "energy": {"J joule joules": "1", "kJ": "1000", "kWh": "3600000", "kcal": "4184", "cal calories": "4.184"},
    "power": {"W watt watts": "1", "kW": "1000", "MW": "1000000"},
    "force": {"N newton newtons": "1", "kN": "1000"},
    "pressure": {"Pa pascal pascals": "1", "kPa": "1000", "bar": "100000", "atm": "101325"},
    "frequency": {"Hz hertz": "1", "kHz": "1000", "MHz": "1000000", "GHz": "1000000000"},
    "voltage": {"V volt volts": "1", "kV": "1000", "mV": "1/1000"},
    "current": {"A amp amps ampere amperes": "1", "mA": "1/1000"},
    "data": {"byte bytes": "1", "kB": "1000", "MB": "1000000", "GB": "1000000000", "TB": "1000000000000"},
    "USD": {"$ USD dollar dollars": "1", "cent cents": "1/100"},
    "EUR": {"€ EUR euro euros": "1"},
    "GBP": {"£ GBP": "1"},
    "JPY": {"¥ JPY yen": "1"},
    "INR": {"₹ INR rupee rupees": "1"},
    "percent": {"% percent per-cent": "1"},
}  # fmt: skip

CURRENCIES = "$€£¥₹"


def _unit(dimension: str, size: str) -> Unit:
    factor, _, offset = size.partition(" ")
    return Unit(dimension, Fraction(factor), Fraction(offset or 0) * Fraction(factor))


UNITS = {
    name: _unit(dimension, size)
    for dimension, group in _TABLE.items()
    for names, size in group.items()
    for name in names.split()
}
_FOLDED = {name.casefold(): unit for name, unit in UNITS.items() if len(name) > 2}

_NAME = re.compile(
    r"\s?(?P<power>square\s|cubic\s)?(?P<degrees>deg(?:rees?)?\.?\s?(?=[CF]\b|celsius|fahrenheit))?"
    r"(?P<name>km/h|m/s|per cent|[A-Za-z°]{1,12}(?:\^?[23])?(?![\w/^])|[%$€£¥₹])"
    r"(?:\sper\s(?P<per>hour|second)\b)?",
    re.IGNORECASE,
)
_POWERS = {"square": ("area", 2), "cubic": ("volume", 3)}


def unit_at(text: str, place: int) -> tuple[Unit | None, int]:
    """The unit that starts at `place` of `text`, after a space or a hyphen, and its end; None if none does."""
    hyphen = text[place : place + 1] == "-"
    found = _NAME.match(text, place + hyphen)
    unit = _named(found) if found else None
    return (unit, found.end()) if found and unit else (None, place)


def _named(found: re.Match[str]) -> Unit | None:
    name = found["name"].replace(" ", "-")
    if found["degrees"]:
        name = f"°{name[0].upper()}"
    unit = UNITS.get(name) or _FOLDED.get(name.casefold())
    if unit and unit.dimension == "length":
        if found["per"]:
            return Unit("speed", unit.factor / (3600 if found["per"].lower() == "hour" else 1))
        if found["power"]:
            dimension, power = _POWERS[found["power"].strip().lower()]
            return Unit(dimension, unit.factor**power * (1000 if power == 3 else 1))
    return unit
