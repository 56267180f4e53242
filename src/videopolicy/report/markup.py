"""Small pieces of HTML; every text is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", kind: str = "") -> str:
    """A table that scrolls sideways on a narrow screen; the first cell of a row names the row."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = f"<thead><tr>{top}</tr></thead>" if heads else ""
    return f'<div class="scroll"><table class="{kind}">{title}{head}<tbody>{body}</tbody></table></div>'


def section(title: str, *parts: str) -> str:
    """A section with its heading; an empty title leaves the heading out."""
    heading = f"<h2>{escape(title)}</h2>" if title else ""
    return f"<section>{heading}{''.join(parts)}</section>"


def plot(svg: str, words: str, caption: str = "") -> str:
    """A plot, with its numbers in words for those who do not see it; the caption is HTML."""
    under = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><div role="img" aria-label="{escape(words)}">{svg}</div>{under}</figure>'


def outcome(success: bool) -> str:
    """The outcome as a sign and a word, for those who do not see its colour."""
    return '<span class="outcome">✓ success</span>' if success else '<span class="outcome">✕ failure</span>'


def decibels(value: float) -> str:
    """A PSNR: one decimal, infinity by its sign; the unit stays on the number's line."""
    return "∞\N{NO-BREAK SPACE}dB" if value == float("inf") else f"{value:.1f}\N{NO-BREAK SPACE}dB"
