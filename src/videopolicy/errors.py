"""The one error that a user can mend: the command line prints it as a single line and exits with 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input. The message says what was wrong, where, and what would be right, in one line."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the known ones, with the nearest one as a suggestion.

    Args:
        kind: what was looked for, as a user would call it ("task", "preset").
        name: what was asked for.
        known: every name that would have been right.
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"no {kind} {name!r}; {hint}known: {', '.join(known) or 'none'}")
