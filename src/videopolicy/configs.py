"""Every configuration file of ours, as frozen dataclasses: written as plain JSON values, and read strictly.

`from_json` reads what `to_json` wrote, or what somebody wrote in TOML. A value has exactly the type of its field (but a
whole number does for any number), and what does not fit is refused by its path: "training.batch_size is true".
A plug-in's configuration says which it is: {"plugin": "backbones/unet", "layers": 2}.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from inspect import isabstract
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from videopolicy import registry
from videopolicy.errors import UserError, check_range, unknown

T = TypeVar("T")
# The key that names a plug-in: "backbones/unet".
PLUGIN = "plugin"
# What a plug-in's configuration is called, and the kinds of plug-ins that have one.
CONFIG = "Config"
CONFIGURED = tuple(name for name, kind in registry.KINDS.items() if kind.entry == CONFIG)
# What a field's metadata calls the least and the most that it may be.
LIMITS = "limits"
# As many characters of a wrong value are shown.
SHOWN = 60

_PLAIN = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", NoneType: "null"}
_LISTS, _MAPS = (tuple, list), (dict, Mapping)


def limited(default: Any, least: float, most: float) -> Any:
    """A dataclass field and the range that `check_limits` holds it to, or each of its items; None is always within.

    Args:
        default: of the field; `dataclasses.MISSING` if it has none.
        least: the smallest that is right.
        most: the largest.
    """
    return field(default=default, metadata={LIMITS: (least, most)})


def check_limits(config: Any, at: str | None = None) -> None:
    """Refuses a dataclass of which a field is out of its range; call it from `__post_init__`.

    Args:
        config: the dataclass.
        at: what it is called in a file, such as "sampling"; None if its fields are options.

    Raises:
        UserError: names the field, as an option ("--batch-size") or in a file ("sampling.steps"), and its range.
    """
    for known in fields(config):
        name = f"--{known.name.replace('_', '-')}" if at is None else f"{at}.{known.name}"
        _check_limits(known, getattr(config, known.name), name)


def _check_limits(about: Field, value: Any, name: str) -> None:
    if LIMITS in about.metadata and value is not None:
        for index, item in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
            check_range(name if index is None else f"{name}[{index}]", item, *about.metadata[LIMITS])


def to_json(config: Any) -> Any:
    """A dataclass as plain JSON values; a plug-in's configuration carries the plug-in's name.

    Raises:
        UserError: the configuration of something that is no plug-in stands where a plug-in's belongs, so that nobody
            could read it again.
    """
    if is_dataclass(config) and not isinstance(config, type):
        values = {known.name: _written(known, getattr(config, known.name)) for known in fields(config)}
        plugin = registry.plugin_of(type(config))
        return {PLUGIN: "/".join(plugin), **values} if plugin else values
    if isinstance(config, list | tuple):
        return [to_json(value) for value in config]
    if isinstance(config, dict):
        return {name: to_json(value) for name, value in config.items()}
    return config


def from_json(kind: type[T], values: Any, at: str = "", file: Path | None = None) -> T:
    """The dataclass that `to_json` wrote.

    Args:
        kind: what it is, such as a dataclass; of a plug-in's configuration, the class that is meant where the values
            name none. They may name any plug-in of the same kind.
        values: plain values, as JSON and TOML are read.
        at: the values' path in their file, such as "model".
        file: where they were read, for the message.

    Raises:
        UserError: a field that is unknown, missing, of another type or out of its range, or a plug-in that is unknown;
            the message gives the field's path.
    """
    try:
        return _read(kind, values, at)
    except UserError as error:
        if file is None:
            raise
        raise UserError(f"{file}: {error}") from error


def _read(hint: Any, value: Any, at: str) -> Any:
    """The value as its type wants it."""
    origin, options = get_origin(hint) or hint, get_args(hint)
    if hint is Any:
        return _plugin(value, at, CONFIGURED) if isinstance(value, dict) and PLUGIN in value else value
    if _is_config(hint):
        kinds = _kinds_below(hint)
        named = isinstance(value, dict) and PLUGIN in value
        return _plugin(value, at, kinds) if kinds and (named or isabstract(hint)) else _config(hint, value, at)
    if origin in (Union, UnionType):
        return _one_of(hint, value, at)
    if origin is Literal and any(type(value) is type(option) and value == option for option in options):
        return value
    if origin in _LISTS and isinstance(value, list):
        return cast(type, origin)(_items(hint, value, at))
    if origin in _MAPS and isinstance(value, dict):
        of = options[1] if options else Any
        return {name: _read(of, item, _join(at, name)) for name, item in value.items()}
    if hint is float and type(value) is int:
        return _as_float(value, at)
    if hint in _PLAIN and type(value) is hint:
        return value
    raise _wrong(hint, value, at)


def _config(cls: type, values: Any, at: str) -> Any:
    """A dataclass from the map of its fields."""
    if not isinstance(values, dict):
        raise _wrong(cls, values, at)
    hints, known = get_type_hints(cls), {field.name: field for field in fields(cls) if field.init}
    for name in values:
        if name not in known:
            raise _within(at, unknown("field", name, known))
    for name, about in known.items():
        if name not in values and about.default is MISSING and about.default_factory is MISSING:
            raise UserError(f"{_join(at, name)} is missing; it takes {_said(hints[name])}")
    read = {name: _field(known[name], hints[name], value, _join(at, name)) for name, value in values.items()}
    try:
        return cls(**read)
    except UserError as error:
        raise _within(at, error) from error


def _field(about: Field, hint: Any, value: Any, at: str) -> Any:
    """The value of one field, within its range."""
    kind = _kind(about)
    if kind and not (value is None and NoneType in get_args(hint)):
        return _plugin(value, at, (kind,))
    read = _read(hint, value, at)
    _check_limits(about, read, at)
    # A range says more of a value that is out of it than that it is no number.
    if LIMITS not in about.metadata:
        _check_finite(read, at)
    return read


def _check_finite(value: Any, at: str) -> None:
    if isinstance(value, float) and not isfinite(value):
        raise UserError(f"{at} is {value}; it takes a finite number")
    if isinstance(value, tuple | list):
        for index, item in enumerate(value):
            _check_finite(item, f"{at}[{index}]")


def _kind(about: Field) -> str | None:
    """The kind of plug-in whose configuration a field holds, as its default tells; None for any other field."""
    default = about.default if about.default_factory is MISSING else about.default_factory()
    plugin = registry.plugin_of(type(default))
    return plugin[0] if plugin else None


def _is_config(hint: Any) -> bool:
    """Whether a type is a dataclass, or the base of a kind's configurations, which itself has no fields."""
    return isinstance(hint, type) and (is_dataclass(hint) or bool(_kinds_below(hint)))


def _kinds_below(cls: type) -> tuple[str, ...]:
    """The kind of plug-in of which a class is the configuration, or the base of all configurations; or none."""
    plugin = registry.plugin_of(cls)
    if plugin or not isabstract(cls):
        return plugin[:1] if plugin else ()
    folders = {kind: f"{registry.OURS}.{registry.KINDS[kind].folder.replace('/', '.')}." for kind in CONFIGURED}
    return tuple(kind for kind, folder in folders.items() if cls.__module__.startswith(folder))


def _written(about: Field, value: Any) -> Any:
    kind = _kind(about)
    if kind and value is not None and registry.plugin_of(type(value)) is None:
        cls = type(value)
        raise UserError(
            f"{cls.__module__}.{cls.__qualname__} is the configuration of no {registry.KINDS[kind].singular} that can "
            f"be found again; declare its module as an entry point of the group videopolicy.{kind}"
        )
    return to_json(value)


def _plugin(value: Any, at: str, kinds: tuple[str, ...]) -> Any:
    """A plug-in's configuration, of one of these kinds."""
    if not isinstance(value, dict):
        takes = f'a map such as {{"{PLUGIN}": "{kinds[0]}/NAME"}}'
        raise UserError(f"{at} is {_shown(value)}; it takes {takes}")
    named = value.get(PLUGIN)
    where = _join(at, PLUGIN)
    if not isinstance(named, str):
        wrong = "is missing" if PLUGIN not in value else f"is {_shown(named)}"
        raise UserError(f'{where} {wrong}; it takes a name such as "{kinds[0]}/NAME"')
    kind, _, name = named.partition("/")
    if kind not in kinds:
        raise _within(where, unknown("kind of plug-in here", kind, kinds))
    try:
        cls = registry.entry(kind, name)
    except UserError as error:
        raise _within(where, error) from error
    return _config(cls, {name: given for name, given in value.items() if name != PLUGIN}, at)


def _one_of(hint: Any, value: Any, at: str) -> Any:
    """Of a union: None, where it may be, or the first option that the value fits."""
    options = get_args(hint)
    if value is None and NoneType in options:
        return None
    others = [option for option in options if option is not NoneType]
    if len(others) == 1:
        return _read(others[0], value, at)
    if isinstance(value, dict) and all(is_dataclass(option) for option in others):
        return _read(_most_alike(others, value), value, at)
    # Its very own type goes first, so that a whole number stays one where either would do.
    for option in sorted(others, key=lambda option: option is not type(value)):
        try:
            return _read(option, value, at)
        except UserError:
            continue
    raise _wrong(hint, value, at)


def _most_alike(options: list[Any], values: dict[str, Any]) -> Any:
    """The dataclass whose fields the values name best, so that a mistake in one of them is told of that field."""

    def strangers(option: Any) -> int:
        return len({known.name for known in fields(option)} ^ set(values))

    return min(options, key=strangers)


def _items(hint: Any, values: list[Any], at: str) -> list[Any]:
    """The items of a list: all of one type, or, of a tuple of fixed length, each of its own."""
    options = get_args(hint)
    if (get_origin(hint) or hint) is list or not options or options[-1] is Ellipsis:
        of = [options[0] if options else Any] * len(values)
    elif len(options) == len(values):
        of = list(options)
    else:
        raise _wrong(hint, values, at)
    return [_read(one, value, f"{at}[{index}]") for index, (one, value) in enumerate(zip(of, values, strict=True))]


def _as_float(value: int, at: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise UserError(f"{at} is too large a number") from error


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _within(at: str, error: UserError) -> UserError:
    return UserError(f"{at}: {error}") if at else error


def _wrong(hint: Any, value: Any, at: str) -> UserError:
    return UserError(f"{at or 'the whole'} is {_shown(value)}; it takes {_said(hint)}")


def _shown(value: Any) -> str:
    """As the file has it, in one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _said(hint: Any) -> str:
    """What a field takes, in words."""
    origin, options = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_said(option) for option in options if option is not NoneType))
    if origin is Literal:
        return f"one of {', '.join(map(_shown, options))}"
    if origin in _LISTS:
        fixed = origin is tuple and options and options[-1] is not Ellipsis
        if fixed:
            return f"a list of {len(options)} values"
        return f"a list, each item {_said(options[0])}" if options else "a list"
    if origin in _MAPS:
        return f"a map, each value {_said(options[1])}" if options else "a map"
    if hint is Any:
        return "anything"
    if _is_config(hint):
        return "a map of its fields"
    if hint in _PLAIN:
        return _PLAIN[hint]
    raise TypeError(f"no configuration can have a field of type {hint}")
