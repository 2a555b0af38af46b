"""CloudWatch's metric math at one point in time, as far as the alarms use it.

moto evaluates no functions. What a missing datapoint (None) does stands on AWS's page "Using math
expressions with CloudWatch metrics": in arithmetic and comparisons it counts as 0 beside one that
is there; a division by zero gives none; IF gives none where its condition has none.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def names(expression: str) -> set[str]:
    """The ids that an expression reads."""
    tree = ast.parse(expression, mode="eval")
    calls = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n not in calls}


def value(
    expression: str, data: Mapping[str, float | None], *, fill_invents: bool = True
) -> float | None:
    """The expression's value; None: no datapoint.

    Args:
        expression: metric math with + - * / > IF FILL.
        data: the metrics' datapoints.
        fill_invents: whether FILL has something to fill for a metric that was never sent, which
            AWS does not say.
    """

    def of(node: ast.expr) -> float | None:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.Name(id=name):
                return data[name]
            case ast.BinOp(left=left, op=operation, right=right):
                return _arithmetic(_BINARY[type(operation)], of(left), of(right))
            case ast.Compare(left=left, ops=[ast.Gt()], comparators=[right]):
                a, b = of(left), of(right)
                return None if a is None else float(a > (b or 0))
            case ast.Call(func=ast.Name(id="FILL"), args=[series, by]):
                found = of(series)
                return of(by) if found is None and fill_invents else found
            case ast.Call(func=ast.Name(id="IF"), args=[condition, *branches]):
                met = of(condition)
                if met is None or (not met and len(branches) == 1):
                    return None
                return (of(branches[0]) or 0.0) if met else of(branches[1])
        raise AssertionError(f"not metric math: {ast.unparse(node)}")

    return of(ast.parse(expression, mode="eval").body)


def _arithmetic(
    operation: Callable[[float, float], float], a: float | None, b: float | None
) -> float | None:
    if a is None and b is None:
        return None
    try:
        return operation(a or 0.0, b or 0.0)
    except ZeroDivisionError:
        return None
