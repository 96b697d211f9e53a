"""Row filters: conditions on columns such as "type == 'product' and year >= 1990".

A condition is parsed to a syntax tree, of which only a few kinds of node are allowed, and turned into nested functions;
nothing is ever evaluated as Python. Allowed: column names (in backticks if they are no identifiers), text and numbers,
== != < <= > >=, `in` and `not in` with a list or a column, `and`, `or`, `not`, parentheses, and the methods
lower(), upper(), startswith(...) and endswith(...) of a column.

Cells are compared as text, with numbers as numbers: `year > 1990` is false for a cell that is no number.
"""

import ast
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from tfr.annotations import cells
from tfr.errors import AnnotationError, UsageError

Getter = Callable[[Sequence[Any]], Any]  # a row's values to one value

_COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
_METHODS = {"lower": 0, "upper": 0, "startswith": 1, "endswith": 1}  # name: number of arguments
_QUOTED = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|`([^`]+)`""")
_PLACEHOLDER = "column_in_backticks_"
_MAX_LENGTH = 10_000  # deep nesting could exhaust the parser's stack


def check(expression: str) -> None:
    """Raises UsageError where an expression cannot be a condition, whatever the columns."""
    _Compiler(expression, None, "").compile()


def compile_where(expression: str, names: Sequence[str], file: str) -> Callable[[Sequence[Any]], bool]:
    """Makes the function that says of a row's values whether to keep the row.

    Args:
      expression: the condition; see the module's text.
      names: the columns, in the order of the values.
      file: for messages.

    Raises:
      UsageError: not a condition.
      AnnotationError: there is no column of a name in it.
    """
    test = _Compiler(expression, {name: names.index(name) for name in names}, file).compile()
    return lambda values: bool(test(values))


class _Compiler:
    """Turns one expression into a function. Without columns it only checks."""

    def __init__(self, expression: str, index: dict[str, int] | None, file: str):
        self._expression, self._index, self._file = expression, index, file
        self._backticked: list[str] = []

    def compile(self) -> Getter:
        """The function of the whole expression."""
        if len(self._expression) > _MAX_LENGTH:
            raise UsageError(f"--where is longer than {_MAX_LENGTH} characters.")
        try:
            tree = ast.parse(_QUOTED.sub(self._name_backticked, self._expression).strip(), mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as err:
            raise self._error(f"cannot be read ({getattr(err, 'msg', err)})") from err
        return self._truth(tree.body)

    def _name_backticked(self, match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        self._backticked.append(match[2])
        return f"{_PLACEHOLDER}{len(self._backticked) - 1}"

    def _error(self, problem: str) -> UsageError:
        return UsageError(
            f"--where={self._expression!r}: {problem}. It takes columns, text, numbers, == != < <= > >= in, and, or, "
            "not, e.g. --where=\"type == 'product' and year >= 1990\"."
        )

    def _truth(self, node: ast.expr) -> Getter:
        if isinstance(node, ast.BoolOp):
            parts = [self._truth(value) for value in node.values]
            if isinstance(node.op, ast.And):
                return lambda row: all(part(row) for part in parts)
            return lambda row: any(part(row) for part in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            part = self._truth(node.operand)
            return lambda row: not part(row)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        value = self._value(node)
        return lambda row: _is_true(value(row))

    def _comparison(self, node: ast.Compare) -> Getter:
        operands = [node.left, *node.comparators]
        pairs = [self._pair(*triple) for triple in zip(operands, node.ops, operands[1:], strict=False)]
        return pairs[0] if len(pairs) == 1 else lambda row: all(pair(row) for pair in pairs)

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Getter:
        first, second = self._value(left), self._value(right)
        if isinstance(op, (ast.In, ast.NotIn)):
            wanted = isinstance(op, ast.In)
            return lambda row: _contains(second(row), first(row)) == wanted
        if type(op) not in _COMPARE:
            raise self._error(f"{type(op).__name__} is not allowed")
        compare = _COMPARE[type(op)]
        return lambda row: _compare(compare, first(row), second(row))

    def _value(self, node: ast.expr) -> Getter:
        if isinstance(node, ast.Name):
            return self._column(node.id)
        if isinstance(node, ast.Call):
            return self._method(node)
        try:
            constant = ast.literal_eval(node)
        except ValueError:
            raise self._error(f"{ast.unparse(node)!r} is not allowed") from None
        items = constant if isinstance(constant, (tuple, list)) else [constant]
        if not all(isinstance(item, (str, int, float)) for item in items):
            raise self._error(f"{ast.unparse(node)!r} is neither text nor a number nor a list of them")
        return lambda _: constant

    def _column(self, name: str) -> Getter:
        if name.startswith(_PLACEHOLDER):
            name = self._backticked[int(name.removeprefix(_PLACEHOLDER))]
        if self._index is None:
            return lambda _: ""
        if name not in self._index:
            raise AnnotationError(
                f"{self._file}: no column {name!r} (from --where). The columns are: {_some(self._index)}."
            )
        i = self._index[name]
        return lambda row: _cell(row[i])

    def _method(self, node: ast.Call) -> Getter:
        function = node.func
        if not isinstance(function, ast.Attribute) or function.attr not in _METHODS or node.keywords:
            raise self._error(f"{ast.unparse(node)!r} is not allowed")
        if len(node.args) != _METHODS[function.attr]:
            raise self._error(f"{function.attr}() takes {_METHODS[function.attr]} arguments")
        value, name = self._value(function.value), function.attr
        arguments = [self._value(argument) for argument in node.args]
        return lambda row: getattr(str(value(row)), name)(*(str(argument(row)) for argument in arguments))


def _cell(value: Any) -> Any:
    """A cell as text, or as a list of texts where it is a list."""
    if isinstance(value, (list, tuple)):
        return [cells.text(item) for item in value]
    return cells.text(value)


def _is_true(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() not in ("", "0", "false", "no")


def _compare(compare: Callable[[Any, Any], bool], first: Any, second: Any) -> bool:
    if isinstance(first, str) and isinstance(second, str):
        return compare(first, second)
    try:
        return compare(float(first), float(second))
    except (TypeError, ValueError):
        return compare is operator.ne


def _contains(container: Any, item: Any) -> bool:
    """`item in container`: an element of a list, or a part of a text."""
    if isinstance(container, (list, tuple)):
        return any(_compare(operator.eq, item, element) for element in container)
    return str(item) in str(container)


def _some(names: Any) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:40]) + (f", ... ({len(listed)} in all)" if len(listed) > 40 else "")
