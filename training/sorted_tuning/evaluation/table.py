"""A table of measures."""

from __future__ import annotations

Table = dict[str, dict[str, dict[str, float]]]
"""variant -> exit -> measure -> value"""


def markdown(table: Table) -> str:
    """A row for each variant and exit."""
    names = list(dict.fromkeys(name for exits in table.values() for values in exits.values() for name in values))
    lines = ["| model | exit | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 2)]
    for variant, exits in table.items():
        for exit_, values in exits.items():
            cells = (f"{values[n]:.3f}" if n in values else "" for n in names)
            lines.append(f"| {variant} | {exit_} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
