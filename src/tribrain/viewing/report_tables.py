"""Tables of numbers in pages: intervals, p values, what is not defined."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

STYLE = """<style>
td.n, th.n { text-align: right; } .wide td { white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } .wide table { font-size: 13px; }
.wide th { vertical-align: bottom; } .wide tr + tr td { border-top: 1px solid #eee; }
.warning { background: #fde2e1; border-left: 4px solid #c62828; padding: .5rem .8rem; }
details { margin: .5rem 0; } pre { white-space: pre-wrap; font-size: 12px; }
</style>"""
"""Comes first in a page that has such tables."""
MOST_ROWS = 60
"""Rows of a table that is long in a page; files have all."""
FEW = 10
"""Regions at each end of a table."""


def number(value: Any, digits: int = 3, *, sign: bool = False) -> str:
    """A number in a table, a count with 0 digits; a dash for what is not defined."""
    if value is None or not np.isfinite(value):
        return "–"
    value = round(float(value), digits) + 0.0  # what rounds to 0 has no sign
    return f"{value:{'+' if sign and value else ''}{'' if digits else ','}.{digits}f}"


def probability(value: Any) -> str:
    """A p value: its digits, or that it is below 0.001."""
    if value is None or not np.isfinite(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def with_interval(value: float, low: float, high: float, *, sign: bool = False) -> str:
    """A number with its interval in brackets, where there is one."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return number(value, sign=sign)
    return f"{number(value, sign=sign)} [{number(low, sign=sign)}, {number(high, sign=sign)}]"


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table; all columns but the first `words` hold numbers and stand to the right."""

    def line(kind: str, cells: Sequence[str]) -> str:
        inner = "".join(
            f"<{kind}{'' if place < words else ' class=n'}>{escape(cell)}</{kind}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{inner}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f'<div class="wide"><table>{line("th", header)}{body}</table></div>'
