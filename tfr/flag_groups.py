"""Flags of one command: absl flags in a FlagValues of the command's own, grouped for its help text."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

# What Python's and absl's parsers say of a value, and how a person would.
_PLAINLY = {
    r"invalid literal for int\(\) with base 10: .*": "not a whole number",
    r"could not convert string to float: .*": "not a number",
    r"\('Non-boolean argument to boolean flag', .*\)": "neither true nor false",
}


def reason(err: Exception) -> str:
    """What is wrong with a flag or its value, in one line of plain words without a full stop."""
    text = " ".join(str(err).split())
    for pattern, plain in _PLAINLY.items():
        text = re.sub(pattern, plain, text)
    return text.rstrip(" .?")


class CommandFlags:
    """The flags of one command. Commands may share flag names, since none of them uses absl's global FLAGS."""

    def __init__(self) -> None:
        self.values = flags.FlagValues()
        self.values.set_gnu_getopt(True)  # flags may follow positional arguments
        common = self.group("Common")
        self._verbosity = common.integer("verbosity", 0, "0: results and progress; 1: warnings and tracebacks; 2: all.")

    def group(self, title: str) -> "Group":
        """A titled group to define flags in."""
        return Group(self.values, title)

    def parse(self, argv: Sequence[str]) -> list[str]:
        """Parses arguments (without the program's name); returns the positional ones. Raises flags.Error."""
        self.values.unparse_flags()  # a call does not inherit the values of the one before it
        return self.values(["tfr", *argv])[1:]

    def chosen_verbosity(self) -> int:
        """The value of --verbosity."""
        return self._verbosity.value

    def help_text(self) -> str:
        """All flags, by group, in the order of their definition; common ones last."""
        groups = self.values.flags_by_module_dict()
        titles = [title for title in groups if title != "Common"] + ["Common"]
        return "\n".join(line for title in titles for line in _group_lines(title, groups[title]))


class Group:
    """Defines flags under one title. Each method returns the flag's holder."""

    def __init__(self, flag_values: flags.FlagValues, title: str):
        self._where: dict[str, Any] = {"flag_values": flag_values, "module_name": title}

    def string(self, name: str, default: str | None, help: str, *, required: bool = False) -> Any:
        """A text flag."""
        return flags.DEFINE_string(name, default, help, required=required, **self._where)

    def integer(self, name: str, default: int | None, help: str, lower: int | None = None) -> Any:
        """An integer flag with an optional lower bound."""
        return flags.DEFINE_integer(name, default, help, lower_bound=lower, **self._where)

    def float(self, name: str, default: float | None, help: str, lower: float | None = None) -> Any:
        """A number flag with an optional lower bound."""
        return flags.DEFINE_float(name, default, help, lower_bound=lower, **self._where)

    def bool(self, name: str, default: bool | None, help: str) -> Any:
        """A yes/no flag: --name or --noname."""
        return flags.DEFINE_bool(name, default, help, **self._where)

    def optional_integer(self, name: str, bare: int, help: str) -> Any:
        """An integer that may be left out: --name is --name=`bare`, and without the flag, or with --noname, None."""
        flag = flags.Flag(_OptionalInteger(bare), None, name, None, help, boolean=True)
        return flags.DEFINE_flag(flag, **self._where)

    def enum(self, name: str, default: str | None, values: Iterable[str], help: str) -> Any:
        """A flag with a fixed set of values."""
        return flags.DEFINE_enum(name, default, list(values), help, **self._where)

    def list(self, name: str, default: Sequence[str], help: str) -> Any:
        """A comma-separated list."""
        return flags.DEFINE_list(name, list(default), help, **self._where)

    def multi(self, name: str, help: str) -> Any:
        """A text flag that may be given several times."""
        return flags.DEFINE_multi_string(name, [], help, **self._where)


class _OptionalInteger(flags.ArgumentParser):
    """Reads 'true' and 'false', which absl puts for --name and --noname, and whole numbers."""

    def __init__(self, bare: int):
        self._bare = bare

    def parse(self, argument: str | int | None) -> int | None:
        if argument is None or str(argument).lower() == "false":
            return None
        return self._bare if str(argument).lower() == "true" else int(argument)

    def flag_type(self) -> str:
        return "int"


def _group_lines(title: str, group: Iterable[flags.Flag]) -> Iterable[str]:
    yield f"\n{title}:"
    for flag in group:
        name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={_value_name(flag)}"
        default = "" if flag.default in (None, [], "") else f" (default: {flag.default_as_str.strip(chr(39))})"
        help_text = re.sub(r"^<[^>]*>: ", "", flag.help)  # absl repeats an enum's values there
        text = textwrap.wrap(f"{help_text}{default}", 88)
        yield f"  {name}"
        yield from (f"      {line}" for line in text)


def _value_name(flag: flags.Flag) -> str:
    values = getattr(flag.parser, "enum_values", None)
    if values and len(values) <= 8:
        return "|".join(values)
    return {"int": "N", "float": "X"}.get(flag.flag_type(), "...,..." if "list" in flag.flag_type() else "TEXT")
