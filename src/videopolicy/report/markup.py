"""The templates that every page is made of, in `templates/`: whatever is filled in there is escaped."""

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Drawing:
    """A plot on a page.

    Attributes:
        svg: as `videopolicy.report.plots` draws it.
        words: its numbers, for those who do not see it.
        caption: what stands under it.
        keys: what each line is, and in which CSS colour.
    """

    svg: str
    words: str
    caption: str = ""
    keys: tuple[tuple[str, str], ...] = ()


def decibels(value: float) -> str:
    """A PSNR: one decimal, infinity by its sign; the unit stays on the number's line."""
    return "∞\N{NO-BREAK SPACE}dB" if value == float("inf") else f"{value:.1f}\N{NO-BREAK SPACE}dB"


_ENVIRONMENT = Environment(
    loader=PackageLoader("videopolicy.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["decibels"] = decibels


def render(template: str, **values: Any) -> str:
    """A file of `templates/` with these values filled in; every text is escaped."""
    return _ENVIRONMENT.get_template(template).render(values)
