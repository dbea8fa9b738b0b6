# SPDX-License-Identifier: Apache-2.0
"""How an adapter is set up: memory, partitions and table, from a TOML file, checked.

A file has these tables; keys without a default must be there::

    [adapter]
    config = "default"          # one of the named configurations

    [memory]
    bytes = 1048576             # a multiple of 4096, up to 256 MiB

    [[partition]]
    id = 0
    name = "camera"             # default "partition 0"
    enabled = true              # default true
    max_count = 65536           # MAX_COUNT in bytes; default 65536
    wait_limit_cycles = 0       # WAIT_LIMIT; default 0: none
    weight = 0                  # default 0

    [[entry]]
    id = 1
    owner = 0
    base = 0x10000              # a multiple of 64 bytes
    length = 0x1000             # a multiple of 64 bytes
    rights = ["send", "receive"]
    senders = [0]               # who may send to it; default none
    ring = false                # default false: messages are appended

Entries of different owners must not overlap: it would take their isolation away. Two entries of
one owner may.

The files are those of the simulator's scenarios, which have keys and tables besides that tell what
then goes on in the system; they are taken here and mean nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..config import CONFIGS, ENTRY_UNIT_BYTES, AdapterConfig
from ..driver import TableEntry

__all__ = ["SETUP_TABLES", "Checker", "Entry", "Kinds", "Memory", "Partition", "ScenarioError",
           "Setup", "SetupRules", "load_setup", "parse_setup", "read_tables", "read_text"]

PAGE_BYTES = 4096
MEMORY_BYTES_MAX = 256 << 20
WORD_MAX = (1 << 32) - 1
WEIGHT_MAX = 15
RIGHTS = ("send", "receive")

#: Tables that say what goes on in a simulated system.
_OTHER_TABLES = ("traffic", "route", "service", "manager")


class ScenarioError(ValueError):
    """A scenario is not right. `problems`: each as `file:line: key: rule, not value`."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The memory. Latency and stalls (so many percent of each channel's cycles) are simulated."""

    bytes: int
    latency_cycles: int = 10
    stall_percent: int = 0


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition as the manager sets it up. `max_count` in bytes."""

    id: int
    name: str = ""
    enabled: bool = True
    hostile: bool = False
    max_count: int = 65536
    wait_limit_cycles: int = 0
    weight: int = 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of the table; `base` and `length` in bytes."""

    id: int
    owner: int
    base: int
    length: int
    rights: tuple[str, ...]
    senders: tuple[int, ...] = ()
    ring: bool = False

    @property
    def table_entry(self) -> TableEntry:
        """The same for a manager's driver."""
        return TableEntry(base=self.base, length=self.length, owner=self.owner,
                          senders=frozenset(self.senders), may_send="send" in self.rights,
                          may_receive="receive" in self.rights, ring=self.ring)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How an adapter is set up. `config_name` is a named configuration."""

    config_name: str
    memory: Memory
    partitions: tuple[Partition, ...]
    entries: tuple[Entry, ...]

    @property
    def config(self) -> AdapterConfig:
        return AdapterConfig.named(self.config_name)

    @property
    def table(self) -> dict[int, TableEntry]:
        """The entries for a manager's driver, by network ID."""
        return {one.id: one.table_entry for one in self.entries}


@dataclass(frozen=True, kw_only=True)
class _Adapter:
    config: str


#: Tables of a file: name, class, whether there are several, whether there must be one.
Kinds = Mapping[str, tuple[type, bool, bool]]

SETUP_TABLES: Kinds = {
    "adapter": (_Adapter, False, True),
    "memory": (Memory, False, True),
    "partition": (Partition, True, True),
    "entry": (Entry, True, True),
}

#: Kinds of values by their annotation: what to call them, and a test.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("an integer", lambda value: type(value) is int),
    "bool": ("true or false", lambda value: type(value) is bool),
    "str": ("a string", lambda value: type(value) is str),
    "tuple[int, ...]": ("an array of integers", lambda value: type(value) is list
                        and all(type(item) is int for item in value)),
    "tuple[str, ...]": ("an array of strings", lambda value: type(value) is list
                        and all(type(item) is str for item in value)),
}


class _Lines:
    """Where tables and keys are in the text of a file, which tomllib does not tell.

    A place is named like `memory`, `memory.bytes`, `entry[2]` or `entry[2].base`. Keys of inline
    tables are not found by themselves, but by the line of their table.
    """

    HEADER = re.compile(r"\s*(\[\[?)\s*([\w-]+)\s*\]")
    KEY = re.compile(r"\s*([\w-]+)\s*=")
    TEXT = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*')

    def __init__(self, text: str) -> None:
        self._lines: dict[str, int] = {}
        seen: dict[str, int] = {}
        table = ""
        depth = 0       # of brackets: a value may go on over several lines
        for number, line in enumerate(text.splitlines(), 1):
            if depth == 0 and (match := self.HEADER.match(line)):
                brackets, table = match.groups()
                if brackets == "[[":
                    index = seen.get(table, 0)
                    seen[table] = index + 1
                    self._lines.setdefault(table, number)
                    table = f"{table}[{index}]"
                self._lines.setdefault(table, number)
                continue
            if match := self.KEY.match(line):
                key = match[1]
                self._lines.setdefault(f"{table}.{key}" if table else key, number)
            bare = self.TEXT.sub("", line)
            depth += sum(map(bare.count, "[{")) - sum(map(bare.count, "]}"))

    def of(self, place: str) -> int:
        """Line of a place, or of the table that it is in, or 1."""
        table, _, _ = place.partition(".")
        name, _, _ = table.partition("[")
        return next((self._lines[one] for one in (place, table, name) if one in self._lines), 1)


class Checker:
    """Collects what is wrong in a file."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._lines = _Lines(text)
        self._found: list[tuple[int, str]] = []

    def problem(self, place: str, rule: str, value: object = MISSING) -> None:
        line = self._lines.of(place)
        seen = "" if value is MISSING else f", not {_shown(value)}"
        self._found.append((line, f"{self._name}:{line}: {place}: {rule}{seen}"))

    def raise_problems(self) -> None:
        if self._found:
            found = sorted(self._found, key=lambda one: one[0])
            raise ScenarioError([message for _, message in found])

    def between(self, place: str, value: int, low: int, high: int) -> bool:
        if low <= value <= high:
            return True
        self.problem(place, f"must be between {low} and {high}", value)
        return False

    def known(self, place: str, value: int, ids: dict[int, Any], what: str) -> bool:
        if value in ids:
            return True
        self.problem(place, f"must be the id of {what}", value)
        return False

    def listed(self, place: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
        for value in values:
            if value not in allowed:
                self.problem(place, f"must be of {', '.join(allowed)}", value)
        if len(set(values)) != len(values):
            self.problem(place, "must not name anything twice", values)

    def read(self, place: str, kind: type, table: dict[str, Any]) -> Any:
        """An object of `kind` from a table; None if the table is not like it."""
        values: dict[str, Any] = {}
        known = {one.name: one for one in fields(kind)}
        for key in table.keys() - known.keys():
            self.problem(f"{place}.{key}", f"must be one of {', '.join(known)}", key)
        for name, one in known.items():
            if name not in table:
                if one.default is MISSING:
                    self.problem(f"{place}.{name}", "must be given")
                continue
            expected, test = _KINDS[str(one.type)]
            value = table[name]
            if not test(value):
                self.problem(f"{place}.{name}", f"must be {expected}", value)
            values[name] = tuple(value) if type(value) is list else value
        return None if self._found else kind(**values)


def _shown(value: object) -> str:
    """A value as it is written in a file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises
    ------
    ScenarioError
        It is no text.
    OSError
        It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ScenarioError([f"{path}:1: file: must be UTF-8 text, not {error.reason}"]) from None


def read_tables(text: str, name: str, kinds: Kinds,
                others: tuple[str, ...] = ()) -> tuple[Checker, dict[str, Any]]:
    """The tables of a file as objects of their kinds; None, or an empty list, for those left out.

    `others` are names of tables that may be there and are not read. The checker goes on with the
    rules that are left; `name` stands in its messages. Partitions without a name get one, and
    adapter.config names a configuration.

    Raises
    ------
    ScenarioError
        The file is not like that.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
        line = int(match[2]) if match else max(1, len(text.splitlines()))
        column = f"column {match[3]}" if match else "end"
        reason = match[1] if match else str(error).removesuffix(" (at end of document)")
        raise ScenarioError([f"{name}:{line}: {column}: must be TOML: {reason}"]) from None

    check = Checker(text, name)
    tables: dict[str, Any] = {}
    for key in document.keys() - {*kinds, *others}:
        check.problem(key, f"must be one of {', '.join((*kinds, *others))}", key)
    for key, (kind, several, needed) in kinds.items():
        if key not in document:
            if needed:
                check.problem(key, "must be given")
            tables[key] = [] if several else None
            continue
        table = document[key]
        if several:
            if type(table) is not list or not all(type(one) is dict for one in table):
                check.problem(key, f"must be tables that start with [[{key}]]")
                continue
            tables[key] = [check.read(f"{key}[{index}]", kind, one)
                           for index, one in enumerate(table)]
        elif type(table) is not dict:
            check.problem(key, f"must be a table that starts with [{key}]")
        else:
            tables[key] = check.read(key, kind, table)
    check.raise_problems()

    if tables["adapter"].config not in CONFIGS:
        check.problem("adapter.config", f"must be one of {', '.join(CONFIGS)}",
                      tables["adapter"].config)
        check.raise_problems()
    tables["partition"] = [_named(one) for one in tables["partition"]]
    return check, tables


def _named(partition: Partition) -> Partition:
    """The partition with a name, if it has none."""
    return partition if partition.name else replace(partition, name=f"partition {partition.id}")


def load_setup(path: Path, *, config_name: str | None = None,
               memory_bytes: int | None = None) -> Setup:
    """Read how an adapter is set up from a file; the rest is as for `parse_setup`.

    Raises
    ------
    ScenarioError
        It is not right.
    OSError
        It cannot be read.
    """
    return parse_setup(read_text(path), str(path), config_name=config_name,
                       memory_bytes=memory_bytes)


def parse_setup(text: str, name: str = "scenario.toml", *, config_name: str | None = None,
                memory_bytes: int | None = None) -> Setup:
    """How an adapter is set up, from text; `name` stands in messages.

    `config_name` and `memory_bytes`: those of the board that it is for. Its entries must lie in
    that memory then, whatever size the file gives it.

    Raises
    ------
    ScenarioError
        It is not right.
    """
    check, tables = read_tables(text, name, SETUP_TABLES, _OTHER_TABLES)
    setup = Setup(config_name=tables["adapter"].config, memory=tables["memory"],
                  partitions=tuple(tables["partition"]), entries=tuple(tables["entry"]))
    SetupRules(check, setup).check_all()
    if config_name is not None and setup.config_name != config_name:
        check.problem("adapter.config", f'must be that of the board, "{config_name}"',
                      setup.config_name)
    for index, one in enumerate(setup.entries):
        if memory_bytes is not None and one.base + one.length > memory_bytes:
            check.problem(f"entry[{index}].length", f"base + length must be at most the board's "
                          f"{memory_bytes} bytes of memory", one.base + one.length)
    check.raise_problems()
    return setup


@dataclass
class SetupRules:
    """The rules of a setup whose tables and types are right."""

    check: Checker
    setup: Setup
    partitions: dict[int, Partition] = field(init=False)
    entries: dict[int, Entry] = field(init=False)

    def __post_init__(self) -> None:
        self.partitions = {one.id: one for one in self.setup.partitions}
        self.entries = {one.id: one for one in self.setup.entries}

    def check_all(self) -> None:
        """Check everything; what builds on wrong parts only if they are right, and what is found
        then is not yet raised.

        Raises
        ------
        ScenarioError
            A rule is broken.
        """
        self._memory()
        self._partitions()
        self._entries()
        self.check.raise_problems()
        self._overlaps()

    def _memory(self) -> None:
        memory = self.setup.memory
        if self.check.between("memory.bytes", memory.bytes, PAGE_BYTES, MEMORY_BYTES_MAX):
            if memory.bytes % PAGE_BYTES:
                self.check.problem("memory.bytes", f"must be a multiple of {PAGE_BYTES}",
                                   memory.bytes)
        self.check.between("memory.latency_cycles", memory.latency_cycles, 1, 255)
        self.check.between("memory.stall_percent", memory.stall_percent, 0, 90)

    def _partitions(self) -> None:
        check, config = self.check, self.setup.config
        ids: set[int] = set()
        names: set[str] = set()
        for index, one in enumerate(self.setup.partitions):
            place = f"partition[{index}]"
            check.between(f"{place}.id", one.id, 0, config.partitions - 1)
            if one.id in ids:
                check.problem(f"{place}.id", "must differ from those of the other partitions",
                              one.id)
            if one.name in names:
                check.problem(f"{place}.name", "must differ from those of the other partitions",
                              one.name)
            ids.add(one.id)
            names.add(one.name)
            check.between(f"{place}.max_count", one.max_count, 1, WORD_MAX)
            check.between(f"{place}.wait_limit_cycles", one.wait_limit_cycles, 0, WORD_MAX)
            check.between(f"{place}.weight", one.weight, 0, WEIGHT_MAX)

    def _entries(self) -> None:
        check, config = self.check, self.setup.config
        ids: set[int] = set()
        for index, one in enumerate(self.setup.entries):
            place = f"entry[{index}]"
            check.between(f"{place}.id", one.id, 0, config.entries - 1)
            if one.id in ids:
                check.problem(f"{place}.id", "must differ from those of the other entries", one.id)
            ids.add(one.id)
            check.known(f"{place}.owner", one.owner, self.partitions, "a partition")
            whole = True
            for name, low in (("base", 0), ("length", ENTRY_UNIT_BYTES)):
                value = getattr(one, name)
                whole &= check.between(f"{place}.{name}", value, low,
                                       WORD_MAX + 1 - ENTRY_UNIT_BYTES)
                if value % ENTRY_UNIT_BYTES:
                    check.problem(f"{place}.{name}",
                                  f"must be a multiple of {ENTRY_UNIT_BYTES} bytes", value)
            if whole and one.base + one.length > self.setup.memory.bytes:
                check.problem(f"{place}.length",
                              f"base + length must be at most the memory's "
                              f"{self.setup.memory.bytes} bytes", one.base + one.length)
            check.listed(f"{place}.rights", one.rights, RIGHTS)
            for sender in one.senders:
                check.known(f"{place}.senders", sender, self.partitions, "a partition")
            if len(set(one.senders)) != len(one.senders):
                check.problem(f"{place}.senders", "must not name anything twice", one.senders)
            if one.senders and "receive" not in one.rights:
                check.problem(f"{place}.senders", 'must be empty without the right "receive"',
                              one.senders)
            if one.ring and "receive" not in one.rights:
                check.problem(f"{place}.ring", 'must be false without the right "receive"', True)

    def _overlaps(self) -> None:
        entries = self.setup.entries
        for index, one in enumerate(entries):
            for earlier, other in enumerate(entries[:index]):
                if (one.owner != other.owner and one.base < other.base + other.length
                        and other.base < one.base + one.length):
                    self.check.problem(
                        f"entry[{index}].base", f"must not overlap entry[{earlier}] of partition "
                        f"{other.owner}, [{other.base}, {other.base + other.length})", one.base)
