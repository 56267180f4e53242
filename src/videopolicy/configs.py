"""Configurations as JSON: frozen dataclasses in, the same dataclasses out; plug-ins are named by their file."""

from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any, TypeVar, cast, get_args, get_type_hints

from videopolicy.errors import UserError, check_range, unknown
from videopolicy.registry import ENTRIES, PLACES, entry

T = TypeVar("T")
# The key that names a plug-in: "backbones/unet".
PLUGIN = "plugin"
# What such a plug-in's settings are called, and the packages that hold them.
CONFIG = "Config"
CONFIGURED = tuple(package for package, name in ENTRIES.items() if name == CONFIG)


# What a field's metadata calls the least and the most that it may be.
LIMITS = "limits"


def limited(default: Any, least: float, most: float) -> Any:
    """A dataclass field with a default and the range that `check_limits` holds it to; None is always within."""
    return field(default=default, metadata={LIMITS: (least, most)})


def check_limits(config: Any) -> None:
    """Refuses a dataclass of which a field is out of its range; call it from `__post_init__`.

    Raises:
        UserError: names the field as an option is named ("--batch-size"), and its range.
    """
    for known in fields(config):
        value = getattr(config, known.name)
        if LIMITS in known.metadata and value is not None:
            check_range(f"--{known.name.replace('_', '-')}", value, *known.metadata[LIMITS])


def to_json(config: Any) -> Any:
    """A dataclass as plain JSON values; a plug-in's `Config` carries the name of its file."""
    if is_dataclass(config) and not isinstance(config, type):
        values = {field.name: to_json(getattr(config, field.name)) for field in fields(config)}
        package, _, name = type(config).__module__.removeprefix("videopolicy.").rpartition(".")
        package = {place.replace("/", "."): kind for kind, place in PLACES.items()}.get(package, package)
        return {PLUGIN: f"{package}/{name}", **values} if ENTRIES.get(package) == type(config).__name__ else values
    if isinstance(config, list | tuple):
        return [to_json(value) for value in config]
    return config


def from_json(cls: type[T], values: Any) -> T:
    """The dataclass that `to_json` wrote.

    Raises:
        UserError: a field that is unknown, missing or of another type, or a plug-in that is unknown.
    """
    if not isinstance(values, dict):
        raise UserError(f"a configuration of {cls.__name__} is a map of its fields, not {values!r}")
    if PLUGIN in values:
        values = dict(values)
        package, _, name = str(values.pop(PLUGIN)).partition("/")
        if ENTRIES.get(package) != CONFIG:
            raise unknown("package of plug-ins with settings", package, CONFIGURED)
        cls = entry(package, name)
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise unknown(f"setting of {cls.__module__}.{cls.__name__}", name, known)
    for name, own in known.items():
        if name not in values and own.default is MISSING and own.default_factory is MISSING:
            raise UserError(f"a configuration of {cls.__module__}.{cls.__name__} lacks the field {name!r}")
    for name, value in values.items():
        if not _fits(hints[name], value):
            raise UserError(f"{cls.__module__}.{cls.__name__}.{name} takes {hints[name].__name__}, not {value!r}")
    return cls(**{name: _value(hints[name], value) for name, value in values.items()})


def _fits(hint: Any, value: Any) -> bool:
    """Whether a plain value has the type of its field; an integer does for a float."""
    return hint not in (int, float, str) or isinstance(value, hint) or (hint is float and isinstance(value, int))


def _value(hint: Any, value: Any) -> Any:
    if is_dataclass(hint) or (isinstance(value, dict) and PLUGIN in value):
        return from_json(cast(type[Any], hint), value)
    if isinstance(value, list):
        # Of `tuple[X, ...]`; the items of other tuples are plain values.
        item_hint = next((hint for hint in get_args(hint) if is_dataclass(hint)), None)
        return tuple(_value(item_hint, item) for item in value)
    return value
