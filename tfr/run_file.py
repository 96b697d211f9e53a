"""Run files: YAML of the flags of several commands, a section a command, checked with file and line."""

import csv
import difflib
import io
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import yaml

from tfr import files
from tfr.errors import UsageError
from tfr.flag_groups import CommandFlags, reason

_YES = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}


class Setting(NamedTuple):
    """A value as text, as it would stand behind `--flag=`, or several; and where it stands: 'config.yaml:7'."""

    value: str | list[str]
    where: str


Section = dict[str, Setting]


def read(path: str, sections: Iterable[str]) -> tuple[Section, dict[str, Section]]:
    """Reads a run file.

    Args:
      path: the file.
      sections: names of the keys that hold a mapping of flags.

    Returns:
      The settings at the top, and those of each section; a key without a value is left out.

    Raises:
      UsageError: no such file, or it is not of this shape; names the line.
    """
    if not files.exists(path) or files.is_dir(path):
        raise UsageError(f"No run file at {path}. `tfr run --init={path} --annotations=FILE` writes one.")
    with files.open_text(path) as file:
        try:
            root = yaml.compose(file, yaml.SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError) as err:
            raise UsageError(_why_no_yaml(path, err)) from err
    top: Section = {}
    found: dict[str, Section] = {name: {} for name in sections}
    for key, node in _items(root, path):
        if key in found:
            found[key] = {
                name: _setting(value, name, path) for name, value in _items(node, path) if not _is_empty(value)
            }
        elif not _is_empty(node):
            top[key] = _setting(node, key, path)
    return top, found


def _why_no_yaml(path: str, err: Exception) -> str:
    mark = getattr(err, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    problem = getattr(err, "problem", None) or str(err)
    return f"{path}{line}: not YAML: {' '.join(problem.split())}. Lines look like `key: value`."


def _items(node: yaml.Node | None, path: str) -> Iterable[tuple[str, yaml.Node]]:
    """Keys and values of a mapping; nothing of an empty file or section."""
    if node is None or _is_empty(node):
        return
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{_where(node, path)}: expected lines of `key: value` here, got {node.value!r}.")
    seen: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise UsageError(f"{_where(key, path)}: a key must be a name.")
        if key.value in seen:
            raise UsageError(
                f"{_where(key, path)}: {key.value!r} stands on line {seen[key.value].start_mark.line + 1} already."
            )
        seen[key.value] = key
        yield key.value, value


def _is_empty(node: yaml.Node) -> bool:
    return node.tag == "tag:yaml.org,2002:null"


def _settings(items: Iterable[tuple[str, yaml.Node]], path: str) -> Section:
    return {key: _setting(node, key, path) for key, node in items if not _is_empty(node)}


def _setting(node: yaml.Node, key: str, path: str) -> Setting:
    """A value as it is written: `version: 1.10` is no number here, and `no` may be a label."""
    if isinstance(node, yaml.ScalarNode):
        return Setting(node.value, _where(node, path))
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return Setting([item.value for item in node.value], _where(node, path))
    raise UsageError(f"{_where(node, path)}: {key!r} must be a value or a list of values.")


def _where(node: yaml.Node, path: str) -> str:
    return f"{path}:{node.start_mark.line + 1}"


def parse_assignment(text: str, sections: Iterable[str]) -> tuple[str, str, Setting]:
    """'train.epochs=5' as section, key and setting.

    Raises:
      UsageError: it is not of this shape.
    """
    target, equals, value = text.partition("=")
    section, dot, key = target.partition(".")
    if not (equals and dot and key) or section not in sections:
        raise UsageError(
            f"--set takes SECTION.FLAG=VALUE, such as train.epochs=5, with a section of {', '.join(sections)}. "
            f"Received: --set={text}"
        )
    return section, key, Setting(value, f"--set={text}")


def check_keys(settings: Section, known: Iterable[str], what: str, refused: Mapping[str, str] | None = None) -> None:
    """Raises UsageError for a key that is not known, or refused for a reason."""
    known = list(known)
    for key, setting in settings.items():
        if refused and key in refused:
            raise UsageError(f"{setting.where}: {key!r} cannot be set in {what}: {refused[key]}.")
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"{setting.where}: unknown key {key!r} in {what}.{hint} Known: {', '.join(known)}.")


def arguments(name: str, settings: Section, flags: CommandFlags, refused: Mapping[str, str]) -> list[str]:
    """The settings of a section as arguments of its command.

    Args:
      name: the section, which is the command's name.
      settings: what stands in it.
      flags: the command's flags.
      refused: flags that have no place in a run file, with the reason.

    Raises:
      UsageError: a key is no flag of the command, or its value cannot be one of the flag's; says where.
    """
    known = [flag for flag in flags.values if flag not in refused]
    check_keys(settings, known, f"section {name!r}", refused)
    found = []
    for key, setting in settings.items():
        text = _as_text(key, setting, flags)
        try:
            flags.values[key].parser.parse(text)
        except (ValueError, TypeError) as err:
            raise UsageError(f"{setting.where}: {name}.{key}: {reason(err)}. Received: {text}") from err
        found.append(f"--{key}={text}")
    return found


def _as_text(key: str, setting: Setting, flags: CommandFlags) -> str:
    flag: Any = flags.values[key]
    if isinstance(setting.value, list):
        if "list" not in flag.flag_type():
            raise UsageError(f"{setting.where}: {key!r} takes one value. Received: {setting.value}")
        csv.writer(line := io.StringIO(), lineterminator="").writerow(setting.value)
        return line.getvalue()
    return _YES.get(setting.value.lower(), setting.value) if flag.boolean else setting.value
