"""Numbers as text: decimals according to the interval, a typographic minus sign, durations."""

import math

_MAX_DECIMALS = 6


def decimals_for(low: float | None, high: float | None, default: int = 3) -> int:
    """Return the decimals that show two significant digits of the interval's half-width.

    One more where a bound that is not zero would be shown as zero, so that its side can be seen.
    """
    if low is None or high is None or round(high - low, _MAX_DECIMALS) <= 0:
        return default
    decimals = min(_MAX_DECIMALS, max(0, 1 - math.floor(math.log10((high - low) / 2))))
    return decimals + any(bound != 0 and round(bound, decimals) == 0 for bound in (low, high))


def plain(value: float | None, decimals: int = 2) -> str:
    """Return `−0.25`; a dash for None."""
    if value is None:
        return "–"
    text = f"{value:.{decimals}f}"
    is_zero = not text.strip("-0.")
    return text.removeprefix("-") if is_zero else text.replace("-", "−")


def signed(value: float | None, decimals: int = 2) -> str:
    """Return `+0.25` or `−0.25`, and `0.00` without a sign."""
    text = plain(value, decimals)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def interval(low: float | None, high: float | None, *, with_sign: bool = False) -> str:
    """Return `0.10 to 0.30`; a dash for an undefined interval."""
    if low is None or high is None:
        return "–"
    show, decimals = (signed if with_sign else plain), decimals_for(low, high)
    return f"{show(low, decimals)} to {show(high, decimals)}"


def percent(share: float | None) -> str:
    """Return `12 %`; a dash for None."""
    return "–" if share is None else f"{plain(100 * share, 0)} %"


def duration(seconds: float) -> str:
    """Return a readable duration: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
