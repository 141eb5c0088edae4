"""Plain columns, which people read and other programs cut."""

from collections.abc import Sequence


def plain(text: str) -> str:
    """One line without what would steer a terminal: names and messages come from other programs, too."""
    return "".join(_shown(sign) for sign in text)


def _shown(sign: str) -> str:
    if sign.isspace():
        return " "
    return sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}"


def columns(rows: Sequence[Sequence[str]], *, indent: str = "  ") -> list[str]:
    """Each row as a line, its cells under those of the others."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]


def size(count: int) -> str:
    """Bytes as people count them: 4.7 GB."""
    amount, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if units[0] in ("B", "kB", "MB") else f"{amount:.1f} {units[0]}"
