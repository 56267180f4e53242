"""Results as Markdown."""

from collections.abc import Sequence
from typing import Any

Results = Sequence[tuple[str, str, dict[str, Any] | None]]


def failed(found: dict[str, Any]) -> bool:
    """Whether an item, or a row of it, went wrong."""
    return found["state"] == "failed" or any("error" in row for row in found["rows"])


def text(results: Results) -> str:
    """One table of all items, and one of each item's rows."""
    lines = ["| item | what | state | s | rows | went wrong |", "|---|---|---|---|---|---|"]
    for name, what, found in results:
        cells = [name, what, "waiting", "", "", ""]
        if found:
            cells[2:] = [found["state"], f"{found['seconds']:.0f}", str(len(found["rows"])), _wrong(found)]
        lines.append("| " + " | ".join(cells) + " |")
    for name, what, found in results:
        if found and found["rows"]:
            lines += ["", f"## {name}: {what}", "", _measured_on(found), "", *_table(found["rows"])]
    return "\n".join(lines) + "\n"


def _wrong(found: dict[str, Any]) -> str:
    errors = [row["error"] for row in found["rows"] if "error" in row]
    told = [f"{found['error']} ({found['log']})"] if found["error"] else []
    told += [f"{len(errors)} rows: {errors[0]}"] if errors else []
    return "; ".join(told).replace("|", "/")


def _measured_on(found: dict[str, Any]) -> str:
    place = ", ".join(str(found[key]) for key in ("device", "torch", "commit") if found.get(key))
    return f"{place}, sources {found['sources']}" + (", at toy size" if found["dry"] else "")


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """All columns that any row has, in the order in which they first come."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return lines + ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return (f"{value:.4g}" if isinstance(value, float) else str(value)).replace("|", "/")
