"""Mutation testing of the optimisers: how many small errors in their formulas do the tests notice?

    python tests/mutate.py                 # 100 mutants of all modules below
    python tests/mutate.py --n 20 ridge    # 20 of those whose path has "ridge" in it

A mutant is a copy of the package with one change within one function: an operator, a term, a sign,
a number, a comparison, min for max, one axis for the other, a name for one like it. It is killed if
the tests of its module fail, or take far too long. The working tree stays as it is. What survives
is printed as a diff; it is a gap in the tests, or a change that makes no difference.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "dstdh/_alm.py": "test_alm.py",
    "graphs.py": "test_graphs.py",
    "_ridge.py": "test_ridge.py",
    "supervised/_ksh.py": "test_supervised.py",
    "unsupervised/_admm.py": "test_sadh.py",
    "unsupervised/_itq.py": "test_unsupervised.py",
    "unsupervised/_sgh.py": "test_sgh.py",
    "unsupervised/_uhbdnn.py": "test_uhbdnn.py",
    "weakly/_joint.py": "test_weakly.py",
}
OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
NAMES = {"min": "max", "argmin": "argmax", "minimum": "maximum", "sum": "mean", "rows": "columns"}
NAMES |= {other: name for name, other in NAMES.items()}
SKIPPED = (ast.Raise, ast.Assert, ast.JoinedStr)  # what is said, not what is computed


@dataclass(frozen=True)
class Mutant:
    """One change of a module."""

    module: str
    line: int
    source: str
    changed: str

    @property
    def diff(self) -> str:
        """The lines that differ, as of patches."""
        old, new = self.source.splitlines(), self.changed.splitlines()
        while old and new and old[-1] == new[-1]:
            del old[-1], new[-1]
        gone, come = old[self.line - 1 :], new[self.line - 1 :]
        lines = [*(f"- {text.strip()}" for text in gone), *(f"+ {text.strip()}" for text in come)]
        return "\n    ".join([f"skhash/{self.module}:{self.line}", *lines])


def mutants_of(module: str) -> list[Mutant]:
    """All mutants of a module that differ from it and from each other."""
    source = (ROOT / "skhash" / module).read_text(encoding="utf-8")
    found: dict[str, Mutant] = {}
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and function.name != "__init__":
            for node in _computing(function):
                for other in _changes(node, function):
                    changed = _replaced(source, node, other)
                    found[changed] = Mutant(module, node.lineno, source, changed)  # type: ignore[attr-defined]
    tree = ast.dump(ast.parse(source))
    return [m for text, m in sorted(found.items()) if ast.dump(ast.parse(text)) != tree]


def _computing(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes within the body of a function that decide what it computes."""
    # Functions within functions come by themselves.
    skipped = (*SKIPPED, ast.FunctionDef)
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, skipped):
            continue
        yield node
        for field, value in ast.iter_fields(node):
            if field != "annotation":
                values = value if isinstance(value, list) else [value]
                waiting += [child for child in values if isinstance(child, ast.AST)]


def _changes(node: ast.AST, function: ast.FunctionDef) -> Iterator[ast.AST]:
    """What may stand in place of a node."""
    if isinstance(node, ast.BinOp):
        yield from (_with(node, op=new()) for new in OPERATORS.get(type(node.op), ()))
        if isinstance(node.op, ast.Add | ast.Sub):
            yield node.left
            yield node.right
    elif isinstance(node, ast.Compare):
        yield from (_with(node, ops=[new()]) for new in OPERATORS.get(type(node.ops[0]), ()))
    elif isinstance(node, ast.BoolOp):
        yield from (_with(node, op=new()) for new in OPERATORS[type(node.op)])
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.AugAssign):
        yield ast.Pass()
        yield from (_with(node, op=new()) for new in OPERATORS.get(type(node.op), ()))
    elif isinstance(node, ast.keyword) and node.arg == "axis":
        if isinstance(node.value, ast.Constant) and node.value.value in (0, 1):
            yield _with(node, value=ast.Constant(1 - node.value.value))
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value * 2)
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield _with(node, attr=NAMES[node.attr])
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from (ast.Name(name, ast.Load()) for name in _names_like(node.id, function))


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    vars(changed).update(fields)
    return changed


def _names_like(name: str, function: ast.FunctionDef) -> list[str]:
    """Variables of a function easily taken for another: Z1 for Z2, one matrix for another."""

    def kind(word: str) -> str:
        return "matrix" if len(word) == 1 and word.isupper() else re.sub(r"\d", "0", word)

    others = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            others.add(node.id)
    alike = [NAMES[name]] if name in NAMES and NAMES[name] in others | {"min", "max"} else []
    if name in others:
        alike += [other for other in others if other != name and kind(other) == kind(name)]
    return sorted(alike)


def _replaced(source: str, node: ast.AST, other: ast.AST) -> str:
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
    end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
    text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(other)))
    if isinstance(node, ast.expr) and not isinstance(node, ast.Name | ast.Constant):
        text = f"({text})"
    content = source.encode()
    return (content[:begin] + text.encode() + content[end:]).decode()


def run_tests(folder: Path, tests: str, timeout: float | None) -> bool:
    """Whether the tests pass on the copy in a folder, in time."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, f"tests/{tests}"],
            cwd=folder,
            env=environment,
            timeout=timeout,
            capture_output=True,
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1, 2):  # passed, failed, could not even be imported
        raise RuntimeError(done.stdout.decode() + done.stderr.decode())
    return done.returncode == 0


def main() -> None:
    """Draw mutants, test them, print what survives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="parts of the paths of modules; all if none")
    parser.add_argument("--n", type=int, default=100, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="draws them")
    options = parser.parse_args()
    chosen = [m for m in TESTS if not options.modules or any(p in m for p in options.modules)]
    mutants = [mutant for module in chosen for mutant in mutants_of(module)]
    drawn = random.Random(options.seed).sample(mutants, min(options.n, len(mutants)))
    drawn.sort(key=lambda mutant: (mutant.module, mutant.line))
    survivors = []
    with tempfile.TemporaryDirectory(prefix="skhash-mutants-") as name:
        folder = Path(name)
        for part in ("skhash", "tests"):
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "pyproject.toml", folder)
        limits: dict[str, float] = {}
        for module in sorted({mutant.module for mutant in drawn}):
            started = time.monotonic()
            if not run_tests(folder, TESTS[module], None):
                sys.exit(f"{TESTS[module]} fails without any change; mend that first.")
            limits[module] = 60 + 5 * (time.monotonic() - started)
        for mutant in drawn:
            file = folder / "skhash" / mutant.module
            file.write_text(mutant.changed, encoding="utf-8")
            survives = run_tests(folder, TESTS[mutant.module], limits[mutant.module])
            file.write_text(mutant.source, encoding="utf-8")
            print("survived" if survives else "killed  ", mutant.diff, flush=True)
            survivors += [mutant] * survives
    print(f"\n{len(drawn) - len(survivors)} of {len(drawn)} mutants killed ({len(mutants)} in all)")
    for mutant in survivors:
        print(mutant.diff)


if __name__ == "__main__":
    main()
