"""What is odd in a data set that somebody else wrote, as one line for a person."""

from collections.abc import Iterator
from contextlib import contextmanager

from videopolicy.errors import UserError

# What odd values set off in readers of JSON, Parquet and arrays. RecursionError: JSON nested too deep;
# NotImplementedError: pyarrow's word for a column of another type.
_ODD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, NotImplementedError)


class OddError(ValueError):
    """Something in a data set is not what it should be; the message says what, for a person."""


@contextmanager
def sound(otherwise: str) -> Iterator[None]:
    """Whoever wrote the data set: what is odd in it makes each part of the reading fail in a way of its own.

    Raises:
        UserError: says `otherwise`, and what is known of the reason.
    """
    try:
        yield
    except _ODD as error:
        missing = isinstance(error, KeyError) and error.args and isinstance(error.args[0], str)
        said = f": {error.args[0]!r} is missing" if missing else f": {error}" if isinstance(error, OddError) else ""
        raise UserError(f"{otherwise}{said}") from error
