"""Configurations as JSON: frozen dataclasses in, the same dataclasses out; plug-ins are named by their file."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from videopolicy.errors import UserError, unknown
from videopolicy.registry import ENTRIES, entry

T = TypeVar("T")
# The key that names a plug-in: "backbones/unet".
PLUGIN = "plugin"


def to_json(config: Any) -> Any:
    """A dataclass as plain JSON values; a plug-in's `Config` carries the name of its file."""
    if is_dataclass(config) and not isinstance(config, type):
        values = {field.name: to_json(getattr(config, field.name)) for field in fields(config)}
        package, _, name = type(config).__module__.removeprefix("videopolicy.").rpartition(".")
        return {PLUGIN: f"{package}/{name}", **values} if ENTRIES.get(package) == type(config).__name__ else values
    if isinstance(config, list | tuple):
        return [to_json(value) for value in config]
    return config


def from_json(cls: type[T], values: Any) -> T:
    """The dataclass that `to_json` wrote.

    Raises:
        UserError: a field that is unknown or missing, or a plug-in that is.
    """
    if not isinstance(values, dict):
        raise UserError(f"a configuration of {cls.__name__} is a map of its fields, not {values!r}")
    if PLUGIN in values:
        values = dict(values)
        package, _, name = str(values.pop(PLUGIN)).partition("/")
        cls = entry(package, name)
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise unknown(f"setting of {cls.__module__}.{cls.__name__}", name, known)
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"a configuration of {cls.__module__}.{cls.__name__} lacks the field {name!r}")
    return cls(**{name: _value(hints[name], value) for name, value in values.items()})


def _value(hint: Any, value: Any) -> Any:
    if isinstance(value, dict) and (PLUGIN in value or is_dataclass(hint)):
        return from_json(hint, value)
    if isinstance(value, list):
        return tuple(_value(None, item) for item in value)
    return value
