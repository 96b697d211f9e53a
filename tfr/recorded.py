"""Settings on record: what a dataset or a run was made with, to be held against what is asked for now.

A version of tfr that has one setting more must go on with what earlier versions made. So a setting that comes later is
declared with `added`: its default means what was done before there was the setting, and records leave it out there.
"""

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

_ADDED = "added"


def added(default: Any) -> Any:
    """The field of a dataclass of settings that its first version did not have; at its default all is as without it.

    With another default than None it may not be None: that is how a setting looks that is not on record.
    """
    return dataclasses.field(default=default, metadata={_ADDED: True})


def values(settings: Any, *, without: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass as JSON values, as they go on record; of dataclasses within it too.

    Args:
      settings: the dataclass.
      without: names of fields of its own to leave out.
    """
    fields = {key: value for key, value in _fields(settings).items() if key not in without}
    return json.loads(json.dumps(fields, default=_fields))


def _fields(settings: Any) -> dict[str, Any]:
    found = [(field, getattr(settings, field.name)) for field in dataclasses.fields(settings)]
    for field, value in found:
        assert _ADDED not in field.metadata or value is not None or field.default is None, field.name
    return {field.name: value for field, value in found if not (_ADDED in field.metadata and value == field.default)}


def difference(before: Mapping[str, Any], now: Mapping[str, Any], show: Callable[[Any], str] = repr) -> str:
    """Settings that are not what they were, in words; empty where all are. None is one that is not on record."""
    keys = [*now, *(key for key in before if key not in now)]
    pairs = ((key, before.get(key), now.get(key)) for key in keys)
    return "; ".join(f"{key}: {show(old)} -> {show(new)}" for key, old, new in pairs if old != new)
