"""What a person says of a data set where its files leave a choice."""

from dataclasses import dataclass, fields
from pathlib import Path

from videopolicy.errors import UserError


@dataclass(frozen=True)
class Reading:
    """How a data set is to be read; a format refuses what has no meaning in it."""

    action_columns: tuple[str, ...] = ()
    """Columns that make up the action, in this order, where none is called so."""
    state_columns: tuple[str, ...] = ()
    """The same of the state."""
    mask: str | None = None
    """HDF5 of robomimic's format: read the demonstrations that this filter key names, no others."""
    swap_red_blue: bool = False
    """HDF5: red and blue change places in compressed pictures; ALOHA's own recorder writes them the wrong way round."""
    strict: bool = False
    """Refuse a data set of which anything cannot be read, or not as its files say, instead of using what is left."""

    def refuse_all_but(self, path: Path, *known: str) -> None:
        """Raises UserError if anything is said that a format has no use for.

        Args:
            path: the data set.
            known: names of fields that the format heeds.
        """
        for field in fields(self):
            if field.name not in (*known, "strict") and getattr(self, field.name) != field.default:
                option = f"--{field.name.replace('_', '-')}"
                raise UserError(f"{path}: {option} has no meaning for a data set of this format; leave it out")


# Nothing is said.
AS_IT_IS = Reading()
