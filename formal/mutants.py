# SPDX-License-Identifier: Apache-2.0
"""Planted faults: a copy of a module of the RTL with one text changed, and what a proof says."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType

from .run import Result

__all__ = ["EVERY_FAILURE", "broken", "mutated"]

#: Engine for a bounded proof that finds every assertion that can fail, not only the first.
EVERY_FAILURE = "smtbmc --keep-going yices"


def mutated(module: ModuleType, old: str, new: str) -> ModuleType:
    """A copy of `module` with `old` replaced by `new` in its source. `module` is left alone.

    Raises
    ------
    ValueError
        `old` is not in the source exactly once: the fault would be planted elsewhere, or nowhere.
    """
    source = inspect.getsource(module)
    if source.count(old) != 1:
        raise ValueError(f"the text to change must occur once in {module.__name__}, not "
                         f"{source.count(old)} times: {old!r}")
    copy = ModuleType(f"{module.__name__}_mutant")
    copy.__package__ = module.__package__
    copy.__file__ = module.__file__
    exec(compile(source.replace(old, new), f"<mutant of {module.__name__}>", "exec"),
         copy.__dict__)
    return copy


def broken(result: Result) -> set[str]:
    """What a failed proof found broken: the message of each assertion, or its text if it has none.

    SymbiYosys names an assertion by its place only: file and line, and for those of a checker,
    which all have one line, the path of modules, whose last is the rule.
    """
    found = set()
    for failure in result.failures:
        place = re.search(r"Assert failed in (\S+): (.+?):(\d+)", failure)
        flattened = re.search(r"check_flatten_(\w+)__\d+\)", failure)
        if flattened is not None:
            found.add(flattened[1].split("__")[-1])
        elif place is not None and "." in place[1]:
            found.add(place[1].split(".")[-1])
        elif place is not None:
            found |= _messages(Path(place[2]), int(place[3]))
    return found


def _messages(path: Path, line: int) -> set[str]:
    """The messages of the assertions that begin in that line."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
             and node.func.id == "Assert" and node.lineno == line]
    return {str(call.args[1].value) if len(call.args) > 1 and isinstance(call.args[1], ast.Constant)
            else ast.unparse(call.args[0]) for call in calls}
