"""Charts: numbers as the paths of small SVG drawings. Pure functions."""

from collections.abc import Sequence


def bars(values: Sequence[float], top: float, height: float, below: Sequence[float] = ()) -> str:
    """Return the path of bars, one unit wide with a gap of a fifth.

    Args:
        values: The bars' values, from left to right.
        top: The value of the full height.
        height: That height.
        below: Values on which the bars stand.
    """
    found = []
    for place, value in enumerate(values):
        if value and top:
            base = height - height * (below[place] if below else 0) / top
            tall = max(height * value / top, 0.5)
            found.append(f"M{place + 0.1:g} {base:.4g}v{-tall:.4g}h.8v{tall:.4g}z")
    return "".join(found)


def line(values: Sequence[float | None], top: float, height: float) -> str:
    """Return the path of a line with a break where a value is missing; a lone value is a short dash.

    Args:
        values: The values, from left to right, one unit apart.
        top: The value of the full height.
        height: That height.
    """
    found, drawn = [], False
    for place, value in enumerate(values):
        if value is None:
            drawn = False
            continue
        y = height - height * min(value, top) / top if top else height
        found.append(f"L{place + 0.5:g} {y:.4g}" if drawn else f"M{place + 0.1:g} {y:.4g}h.4")
        drawn = True
    return "".join(found)
