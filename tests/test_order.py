"""No result, message or job depends on the order of a set, which is another one in each process (PYTHONHASHSEED)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import undo_hpc

PACKAGE = Path(undo_hpc.__file__).parent
# What an unordered iterable may be given to: the order is lost there, or made.
_CARELESS = {"set", "frozenset", "sorted", "any", "all", "sum", "min", "max", "len", "Counter"}
_SET_METHODS = {"union", "intersection", "difference", "symmetric_difference"}


def is_set(node: ast.expr, names: set[str]) -> bool:
    """Whether an expression is a set, as far as its text tells. `names`: local names of sets."""
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Name(id=name):
            return name in names
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Call(func=ast.Attribute(value=of, attr=attr)) if attr in _SET_METHODS:
            return is_set(of, names) or (isinstance(of, ast.Name) and of.id in ("set", "frozenset"))
        case ast.BinOp(op=ast.Sub() | ast.BitAnd() | ast.BitOr() | ast.BitXor(), left=left, right=right):
            return any(is_set(side, names) or is_keys(side) for side in (left, right))
    return False


def is_keys(node: ast.expr) -> bool:
    """`x.keys()`, which becomes a set by an operator."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys"


def sets_of(function: ast.AST) -> set[str]:
    """Local names that are given sets."""
    names: set[str] = set()
    for node in ast.walk(function):
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if isinstance(target, ast.Name) and is_set(node.value, names):  # type: ignore[attr-defined]
            names.add(target.id)
    return names


def unordered(text: str) -> Iterator[tuple[int, str]]:
    """Lines in which the order of a set reaches something, with the expression."""
    tree = ast.parse(text)
    careless = {
        id(argument)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and (call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")) in _CARELESS
        for argument in call.args
    }
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions or [tree]:
        names = sets_of(function)
        for node in ast.walk(function):
            found: list[ast.expr] = []
            if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp) and id(node) not in careless:
                found = [generator.iter for generator in node.generators]
            elif isinstance(node, ast.Call) and id(node) not in careless and node.args:
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                found = (
                    [node.args[0]] if called in ("list", "tuple", "join", "enumerate", "iter", "dict") else []
                )
            elif isinstance(node, ast.For) and _tells(node):
                found = [node.iter]
            yield from ((each.lineno, ast.unparse(each)) for each in found if is_set(each, names))


def _tells(loop: ast.For) -> bool:
    """Whether what a loop does may depend on the order: it raises, returns, yields, appends or writes under a name."""
    return any(
        isinstance(node, ast.Raise | ast.Return | ast.Yield | ast.YieldFrom | ast.Subscript | ast.Call)
        for node in ast.walk(ast.Module(loop.body, []))
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def f(a, b):\n    for x in a.keys() - b:\n        print(x)", 1),
        ("def f(a):\n    b = {x for x in a}\n    return [y for y in b]", 1),
        ("def f(a):\n    return ', '.join(set(a))", 1),
        ("def f(a):\n    return ', '.join(sorted(set(a)))", 0),
        ("def f(a):\n    return sorted(x for x in set(a)), any(x for x in {*a})", 0),
        ("def f(a):\n    return {x: 1 for x in set(a) & {1}}", 1),
        ("def f(a):\n    return sorted({x for x in a})[0], len(set(a))", 0),
    ],
)
def test_the_search_finds_what_it_is_for(text: str, found: int) -> None:
    assert len(list(unordered(text))) == found


def test_no_order_of_a_set_reaches_a_result() -> None:
    lines = [
        f"{path.relative_to(PACKAGE)}:{line}: {what}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, what in unordered(path.read_text(encoding="utf-8"))
    ]
    assert not lines, "sorted(...) or dict.fromkeys(...):\n" + "\n".join(lines)
