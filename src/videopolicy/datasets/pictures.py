"""Pictures that are stored as files in memory."""

from io import BytesIO

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP")


class DamagedPictureError(ValueError):
    """A picture is cut short, damaged, or of another format."""


def opened(content: bytes, formats: tuple[str, ...] = FORMATS, *, pixels: bool = True) -> Image.Image:
    """A picture, closed again.

    Args:
        content: a file's.
        formats: which it may have, as Pillow calls them.
        pixels: whether they are decoded; else size and mode are all that can be asked for.

    Raises:
        DamagedPictureError: it cannot be read.
    """
    try:
        with Image.open(BytesIO(content), formats=formats) as picture:
            if pixels:
                picture.load()
            return picture
    # Each format's decoder fails in a way of its own.
    except Exception as error:
        raise DamagedPictureError from error


def is_deep(picture: Image.Image) -> bool:
    """Whether it has 16 bits or more a colour, as depth maps have."""
    return picture.mode.startswith(("I", "F"))
