# SPDX-License-Identifier: Apache-2.0
"""Scenarios: a system in a TOML file, checked before anything runs.

A file has these tables; keys without a default must be there::

    [adapter]
    config = "default"          # one of the named configurations

    [memory]
    bytes = 1048576             # a multiple of 4096, up to 256 MiB
    latency_cycles = 10         # default 10
    stall_percent = 0           # of each channel's cycles; default 0

    [[partition]]
    id = 0
    name = "camera"             # default "partition 0"
    enabled = true              # default true
    hostile = false             # default false: its traffic must be granted by the table
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

    [[traffic]]
    partition = 0
    op = "send"                 # "send" (default) or "mvcl": a copy inside the partition
    src = 0                     # network IDs
    src_offset = 0              # default 0
    dst = 1
    dst_offset = 0              # of MVCL; default 0
    count = 64                  # bytes of a message
    messages = 100              # default 1
    pattern = "walk"            # "same" (default), "walk" or "random"
    flags = ["wait", "notify"]  # of wait, fence, event, notify; default none
    window = 8                  # messages under way; default 8

    [route]                     # the way of a file from partition to partition
    path = [0, 1, 2, 0]         # partitions
    entries = [0, 1, 2, 3]      # where the file lies in each of them
    message_bytes = 4096

    [service]                   # a partition answers requests of others; all lists by client
    server = 0
    clients = [1, 2]
    requests_from = [1, 2]      # an entry of each client
    requests_to = [3, 4]        # rings of the server; clients may share one
    replies_from = 5            # an entry of the server
    replies_to = [6, 7]         # a ring of each client
    requests = [100, 100]
    request_bytes = [256, 64]   # each request has 1 to so many
    window = [8, 8]             # requests of a client under way
    work = "reverse"            # "reverse" (default) or "sha256": what the answer is
    service_cycles = 100        # what the server takes for each; default 100
    seed = 1                    # default 1

    [manager]                   # the workload manager
    interval_cycles = 20000     # from a snapshot of the counters to the next
    clock_mhz = 100             # to tell bytes per second; default 100
    velocity_goal = 50          # in per cent; default 0: it only looks

A scenario has a route, a service or traffic alone. Traffic beside a service goes on until the
service is through, in partitions that have no part in it.

Entries of different owners must not overlap: it would take their isolation away. Two entries of
one owner may.

`python -m sim.scenario FILE` checks a file and prints what it describes.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from random import Random
from typing import Any

from mvxl.config import CONFIGS, ENTRY_UNIT_BYTES, AdapterConfig
from mvxl.messages import Op

from .model import Command, Row
from .work import WORKS

__all__ = ["Entry", "Manager", "Memory", "Partition", "Route", "Scenario", "ScenarioError",
           "Service", "Traffic", "load", "parse"]

PAGE_BYTES = 4096
MEMORY_BYTES_MAX = 256 << 20
WORD_MAX = (1 << 32) - 1
ID_MAX = (1 << 16) - 1

#: Messages that an entry between the ends of a route holds when it is cut down to their size.
ROUTE_MESSAGES = 16
WEIGHT_MAX = 15
RIGHTS = ("send", "receive")
FLAGS = ("wait", "fence", "event", "notify")
PATTERNS = ("same", "walk", "random")
OPERATIONS = {"send": Op.SEND, "mvcl": Op.MVCL}

#: Requests of a client under way have different tags.
WINDOW_MAX = 256
INTERVAL_CYCLES_MIN = 2000
SERVICE_CYCLES_MAX = 100_000


class ScenarioError(ValueError):
    """A scenario is not right. `problems`: each as `file:line: key: rule, not value`."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The simulated memory. Stalls: so many percent of each channel's cycles."""

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
    def row(self) -> Row:
        return Row(owner=self.owner, base=self.base, length=self.length,
                   may_send="send" in self.rights, may_receive="receive" in self.rights,
                   senders=sum(1 << sender for sender in self.senders), ring=self.ring)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Messages of one partition. `pattern` tells how their source offsets follow each other.

    same: all from `src_offset`. walk: each behind the one before, again from `src_offset` where
    the entry ends. random: anywhere in the entry, and 1 to `count` bytes.
    """

    partition: int
    op: str = "send"
    src: int
    src_offset: int = 0
    dst: int
    dst_offset: int = 0
    count: int
    messages: int = 1
    pattern: str = "same"
    flags: tuple[str, ...] = ()
    window: int = 8


@dataclass(frozen=True, kw_only=True)
class Route:
    """A file's way: from `entries[k]` of partition `path[k]` to `entries[k + 1]` of the next."""

    path: tuple[int, ...]
    entries: tuple[int, ...]
    message_bytes: int


@dataclass(frozen=True, kw_only=True)
class Service:
    """Partition `server` answers requests of the `clients`. Tuples have an item for each client.

    A client writes a request into `requests_from` and sends it to `requests_to`, a ring of the
    server; the server writes the answer into `replies_from` and sends it to `replies_to`, a ring
    of the client. `work` names what the server does with a request.
    """

    server: int
    clients: tuple[int, ...]
    requests_from: tuple[int, ...]
    requests_to: tuple[int, ...]
    replies_from: int
    replies_to: tuple[int, ...]
    requests: tuple[int, ...]
    request_bytes: tuple[int, ...]
    window: tuple[int, ...]
    work: str = "reverse"
    service_cycles: int = 100
    seed: int = 1

    def request_counts(self, client: int) -> list[int]:
        """Bytes of each request of the client with this index in `clients`."""
        random = Random(f"{self.seed} {client} counts")
        return [random.randint(1, self.request_bytes[client])
                for _ in range(self.requests[client])]

    @property
    def reply_bytes_max(self) -> int:
        """Bytes of the longest reply."""
        return max(WORKS[self.work].reply_bytes(count) for count in self.request_bytes)

    @property
    def total_bytes(self) -> int:
        """Bytes of all requests and replies."""
        return sum(count + WORKS[self.work].reply_bytes(count)
                   for client in range(len(self.clients))
                   for count in self.request_counts(client))


@dataclass(frozen=True, kw_only=True)
class Manager:
    """What the workload manager looks at, and when it acts. `velocity_goal` in per cent."""

    interval_cycles: int
    clock_mhz: int = 100
    velocity_goal: int = 0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A scenario that is right in itself."""

    config_name: str
    memory: Memory
    partitions: tuple[Partition, ...]
    entries: tuple[Entry, ...]
    traffic: tuple[Traffic, ...] = ()
    route: Route | None = None
    service: Service | None = None
    manager: Manager | None = None

    @property
    def config(self) -> AdapterConfig:
        return AdapterConfig.named(self.config_name)

    def partition(self, number: int) -> Partition:
        return next(one for one in self.partitions if one.id == number)

    def entry(self, network_id: int) -> Entry:
        return next(one for one in self.entries if one.id == network_id)

    @property
    def file_bytes_max(self) -> int:
        """Bytes of the longest file that the route can carry; 0 without a route.

        What lies between is filled and rewound, so only the ends of the route count.
        """
        if self.route is None:
            return 0
        return min(self.entry(self.route.entries[0]).length,
                   self.entry(self.route.entries[-1]).length)

    def with_message_bytes(self, message_bytes: int) -> Scenario:
        """The same with messages of another size on the route; it must divide the one before.

        The entries between the route's ends are cut down to 16 messages (or a multiple, if that is
        no length of an entry), so that they are filled and rewound for a short file too.
        """
        assert self.route is not None
        between = self.route.entries[1:-1]
        length = math.lcm(ROUTE_MESSAGES * message_bytes, ENTRY_UNIT_BYTES)
        return replace(
            self, route=replace(self.route, message_bytes=message_bytes),
            entries=tuple(replace(one, length=min(one.length, length)) if one.id in between
                          else one for one in self.entries))

    def sends(self, traffic: Traffic, seed: int = 0) -> Iterator[Command]:
        """The commands of a traffic table, tagged 0, 1, ... modulo 256."""
        random = Random(f"{seed} {traffic}")
        length = next((one.length for one in self.entries if one.id == traffic.src), 0)
        offset = traffic.src_offset
        for number in range(traffic.messages):
            count = traffic.count
            if traffic.pattern == "random":
                count = random.randint(1, count)
                offset = random.randint(0, max(0, length - count))
            elif traffic.pattern == "walk" and number:
                offset += count
                if offset + count > length:
                    offset = traffic.src_offset
            yield Command(op=OPERATIONS[traffic.op].value, src_id=traffic.src, src_offset=offset,
                          dst_id=traffic.dst, dst_offset=traffic.dst_offset, count=count,
                          tag=number % 256,
                          **{flag: True for flag in traffic.flags})


@dataclass(frozen=True, kw_only=True)
class _Adapter:
    config: str


#: Tables of a file: name, class, whether there are several, whether there must be one.
_TABLES: dict[str, tuple[type, bool, bool]] = {
    "adapter": (_Adapter, False, True),
    "memory": (Memory, False, True),
    "partition": (Partition, True, True),
    "entry": (Entry, True, True),
    "traffic": (Traffic, True, False),
    "route": (Route, False, False),
    "service": (Service, False, False),
    "manager": (Manager, False, False),
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


class _Checker:
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


def load(path: Path) -> Scenario:
    """Read a scenario from a file.

    Raises
    ------
    ScenarioError
        It is not right.
    OSError
        It cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ScenarioError([f"{path}:1: file: must be UTF-8 text, not {error.reason}"]) from None
    return parse(text, str(path))


def parse(text: str, name: str = "scenario.toml") -> Scenario:
    """Read a scenario from text; `name` stands in messages.

    Raises
    ------
    ScenarioError
        It is not right.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
        line = int(match[2]) if match else max(1, len(text.splitlines()))
        column = f"column {match[3]}" if match else "end"
        reason = match[1] if match else str(error).removesuffix(" (at end of document)")
        raise ScenarioError([f"{name}:{line}: {column}: must be TOML: {reason}"]) from None

    check = _Checker(text, name)
    tables: dict[str, Any] = {}
    for key in document.keys() - _TABLES.keys():
        check.problem(key, f"must be one of {', '.join(_TABLES)}", key)
    for key, (kind, several, needed) in _TABLES.items():
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
    scenario = Scenario(
        config_name=tables["adapter"].config, memory=tables["memory"],
        partitions=tuple(_named(one) for one in tables["partition"]),
        entries=tuple(tables["entry"]), traffic=tuple(tables["traffic"]), route=tables["route"],
        service=tables["service"], manager=tables["manager"])
    _Rules(check, scenario).check_all()
    return scenario


def _named(partition: Partition) -> Partition:
    """The partition with a name, if it has none."""
    if partition.name:
        return partition
    values = {one.name: getattr(partition, one.name) for one in fields(partition)}
    return Partition(**{**values, "name": f"partition {partition.id}"})


@dataclass
class _Rules:
    """The rules of a scenario whose tables and types are right."""

    check: _Checker
    scenario: Scenario
    partitions: dict[int, Partition] = field(init=False)
    entries: dict[int, Entry] = field(init=False)

    def __post_init__(self) -> None:
        self.partitions = {one.id: one for one in self.scenario.partitions}
        self.entries = {one.id: one for one in self.scenario.entries}

    def check_all(self) -> None:
        """Check everything; what builds on wrong parts only if they are right.

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
        for index, traffic in enumerate(self.scenario.traffic):
            self._traffic(f"traffic[{index}]", traffic)
        if self.scenario.route is not None:
            self._route(self.scenario.route)
        if self.scenario.service is not None:
            self._service(self.scenario.service)
        if self.scenario.manager is not None:
            self._manager(self.scenario.manager)
        self.check.raise_problems()

    def _memory(self) -> None:
        memory = self.scenario.memory
        if self.check.between("memory.bytes", memory.bytes, PAGE_BYTES, MEMORY_BYTES_MAX):
            if memory.bytes % PAGE_BYTES:
                self.check.problem("memory.bytes", f"must be a multiple of {PAGE_BYTES}",
                                   memory.bytes)
        self.check.between("memory.latency_cycles", memory.latency_cycles, 1, 255)
        self.check.between("memory.stall_percent", memory.stall_percent, 0, 90)

    def _partitions(self) -> None:
        check, config = self.check, self.scenario.config
        ids: set[int] = set()
        names: set[str] = set()
        for index, one in enumerate(self.scenario.partitions):
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
        check, config = self.check, self.scenario.config
        ids: set[int] = set()
        for index, one in enumerate(self.scenario.entries):
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
            if whole and one.base + one.length > self.scenario.memory.bytes:
                check.problem(f"{place}.length",
                              f"base + length must be at most the memory's "
                              f"{self.scenario.memory.bytes} bytes", one.base + one.length)
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
        entries = self.scenario.entries
        for index, one in enumerate(entries):
            for earlier, other in enumerate(entries[:index]):
                if (one.owner != other.owner and one.base < other.base + other.length
                        and other.base < one.base + one.length):
                    self.check.problem(
                        f"entry[{index}].base", f"must not overlap entry[{earlier}] of partition "
                        f"{other.owner}, [{other.base}, {other.base + other.length})", one.base)

    def _traffic(self, place: str, one: Traffic) -> None:
        check = self.check
        check.between(f"{place}.messages", one.messages, 1, WORD_MAX)
        check.between(f"{place}.window", one.window, 1, WINDOW_MAX)
        check.between(f"{place}.dst_offset", one.dst_offset, 0, WORD_MAX)
        check.listed(f"{place}.op", (one.op,), tuple(OPERATIONS))
        check.listed(f"{place}.pattern", (one.pattern,), PATTERNS)
        check.listed(f"{place}.flags", one.flags, FLAGS)
        check.between(f"{place}.src", one.src, 0, ID_MAX)
        check.between(f"{place}.dst", one.dst, 0, ID_MAX)
        check.between(f"{place}.src_offset", one.src_offset, 0, WORD_MAX)
        if not check.known(f"{place}.partition", one.partition, self.partitions, "a partition"):
            return
        partition = self.partitions[one.partition]
        if partition.hostile:
            check.between(f"{place}.count", one.count, 0, WORD_MAX)
            return
        check.between(f"{place}.count", one.count, 1, partition.max_count)
        source = self._source(f"{place}.src", one.src, one.partition)
        if source is not None and one.src_offset + one.count > source.length:
            check.problem(f"{place}.count", f"src_offset + count must be at most the source's "
                          f"length, {source.length}", one.src_offset + one.count)
        if one.op == "mvcl":
            self._own_destination(place, one)
        else:
            self._destination(f"{place}.dst", one.dst, one.partition)

    def _own_destination(self, place: str, one: Traffic) -> None:
        """Check that an MVCL may write where it is to."""
        if not self.check.known(f"{place}.dst", one.dst, self.entries, "an entry"):
            return
        entry = self.entries[one.dst]
        if entry.owner != one.partition or "receive" not in entry.rights:
            self.check.problem(f"{place}.dst", f'must be an entry of partition {one.partition} '
                               f'with the right "receive"', one.dst)
        elif one.dst_offset + one.count > entry.length:
            self.check.problem(f"{place}.count", f"dst_offset + count must be at most the "
                               f"destination's length, {entry.length}",
                               one.dst_offset + one.count)

    def _route(self, route: Route) -> None:
        check = self.check
        if len(route.path) < 2:
            check.problem("route.path", "must have at least 2 partitions", route.path)
        if len(route.entries) != len(route.path):
            check.problem("route.entries", f"must have as many entries as the path has "
                          f"partitions, {len(route.path)}", route.entries)
            return
        for owner in route.path:
            if (check.known("route.path", owner, self.partitions, "a partition")
                    and not self.partitions[owner].enabled):
                check.problem("route.path", "must have enabled partitions only", owner)
        if len(set(route.path[:-1])) != len(route.path[:-1]):
            check.problem("route.path", "must not have a partition send in two places: what it "
                          "waits for in one would stop the other", route.path)
        if len(set(route.entries)) != len(route.entries):
            check.problem("route.entries", "must not name anything twice", route.entries)
        check.between("route.message_bytes", route.message_bytes, 1, WORD_MAX)
        last = len(route.path) - 1
        for hop, (owner, network_id) in enumerate(zip(route.path, route.entries, strict=True)):
            entry = self.entries.get(network_id)
            if hop < last:
                self._source("route.entries", network_id, owner)
                limit = self.partitions[owner].max_count if owner in self.partitions else WORD_MAX
                if route.message_bytes > limit:
                    check.problem("route.message_bytes", f"must be at most max_count of partition "
                                  f"{owner}, {limit}", route.message_bytes)
            if hop > 0:
                self._destination("route.entries", network_id, route.path[hop - 1])
                if entry is not None and entry.length % max(1, route.message_bytes) and hop < last:
                    check.problem("route.message_bytes", f"must divide the length of entry "
                                  f"{network_id}, {entry.length}, which is rewound when full",
                                  route.message_bytes)
            if entry is not None and entry.ring:
                check.problem("route.entries", "must not be a ring: what lies on the way is "
                              "rewound", network_id)
            if entry is not None and entry.owner != owner:
                check.problem("route.entries", f"must name entries of the path's partitions: "
                              f"entry {network_id} is of partition {entry.owner}", owner)

    def _service(self, service: Service) -> None:
        check = self.check
        if self.scenario.route is not None:
            check.problem("service", "must not be in a scenario with a [route]")
        if not service.clients:
            check.problem("service.clients", "must have at least 1 partition", service.clients)
        for name in ("requests_from", "requests_to", "replies_to", "requests", "request_bytes",
                     "window"):
            values = getattr(service, name)
            if len(values) != len(service.clients):
                check.problem(f"service.{name}", f"must have an item for each of the "
                              f"{len(service.clients)} clients", values)
        check.listed("service.work", (service.work,), tuple(WORKS))
        check.between("service.service_cycles", service.service_cycles, 0, SERVICE_CYCLES_MAX)
        for name, low, high in (("requests", 1, WORD_MAX), ("request_bytes", 1, WORD_MAX),
                                ("window", 1, WINDOW_MAX)):
            for value in getattr(service, name):
                check.between(f"service.{name}", value, low, high)
        self._parties(service)
        check.raise_problems()
        self._request_entries(service)
        self._reply_entries(service)
        self._traffic_beside(service)

    def _parties(self, service: Service) -> None:
        """Check who takes part in a service."""
        check = self.check
        parties = (service.server, *service.clients)
        for name, numbers in (("server", parties[:1]), ("clients", parties[1:])):
            for number in numbers:
                if (check.known(f"service.{name}", number, self.partitions, "a partition")
                        and not self.partitions[number].enabled):
                    check.problem(f"service.{name}", "must be enabled", number)
        if len(set(parties)) != len(parties):
            check.problem("service.clients", "must be different partitions other than the server",
                          service.clients)

    def _request_entries(self, service: Service) -> None:
        check = self.check
        if len(set(service.requests_from)) != len(service.requests_from):
            check.problem("service.requests_from", "must not name anything twice",
                          service.requests_from)
        for client, partition in enumerate(service.clients):
            count = service.request_bytes[client]
            limit = self.partitions[partition].max_count
            if count > limit:
                check.problem("service.request_bytes", f"must be at most max_count of partition "
                              f"{partition}, {limit}", count)
            source = self._private("service.requests_from", service.requests_from[client],
                                   partition)
            if source is not None and service.window[client] * count > source.length:
                check.problem("service.window", f"window * request_bytes must be at most the "
                              f"length of entry {source.id}, {source.length}",
                              service.window[client] * count)
            self._ring("requests_to", service.requests_to[client], partition, service.server,
                       count, "request_bytes")

    def _reply_entries(self, service: Service) -> None:
        check = self.check
        if len(set(service.replies_to)) != len(service.replies_to):
            check.problem("service.replies_to", "must not name anything twice",
                          service.replies_to)
        limit = self.partitions[service.server].max_count
        if service.reply_bytes_max > limit:
            check.problem("service.work", f"must have replies of at most max_count of partition "
                          f"{service.server}, {limit}", service.reply_bytes_max)
        source = self._private("service.replies_from", service.replies_from, service.server)
        if source is not None and service.reply_bytes_max > source.length:
            check.problem("service.replies_from", f"must be as long as the longest reply, "
                          f"{service.reply_bytes_max}", source.length)
        for client, partition in enumerate(service.clients):
            self._ring("replies_to", service.replies_to[client], service.server, partition,
                       WORKS[service.work].reply_bytes(service.request_bytes[client]), "work")

    def _private(self, place: str, network_id: int, partition: int) -> Entry | None:
        """The entry, if the partition may send from it and nobody may send to it."""
        entry = self._source(place, network_id, partition)
        if entry is not None and entry.senders:
            self.check.problem(place, "must be an entry without senders, which would write over "
                               "what the partition writes", network_id)
            return None
        return entry

    def _ring(self, name: str, network_id: int, sender: int, owner: int, count: int,
              counted: str) -> None:
        """Check that messages of up to `count` bytes can go to a ring of `owner`."""
        place = f"service.{name}"
        if not self._destination(place, network_id, sender):
            return
        entry = self.entries[network_id]
        if entry.owner != owner or not entry.ring:
            self.check.problem(place, f"must be a ring of partition {owner}", network_id)
        elif count > entry.length:
            self.check.problem(f"service.{counted}", f"must have messages of at most the length "
                               f"of entry {network_id}, {entry.length}", count)

    def _traffic_beside(self, service: Service) -> None:
        parties = {service.server, *service.clients}
        for index, one in enumerate(self.scenario.traffic):
            if one.partition in parties:
                self.check.problem(f"traffic[{index}].partition",
                                   "must have no part in the service", one.partition)
            owner = self.entries[one.dst].owner if one.dst in self.entries else None
            if owner in parties:
                self.check.problem(f"traffic[{index}].dst", "must be an entry of a partition that "
                                   "has no part in the service", one.dst)

    def _manager(self, manager: Manager) -> None:
        check = self.check
        check.between("manager.interval_cycles", manager.interval_cycles, INTERVAL_CYCLES_MIN,
                      WORD_MAX)
        check.between("manager.clock_mhz", manager.clock_mhz, 1, 10_000)
        check.between("manager.velocity_goal", manager.velocity_goal, 0, 100)

    def _source(self, place: str, network_id: int, partition: int) -> Entry | None:
        """The entry, if the partition may send from it."""
        if not self.check.known(place, network_id, self.entries, "an entry"):
            return None
        entry = self.entries[network_id]
        if entry.owner != partition or "send" not in entry.rights:
            self.check.problem(place, f'must be an entry of partition {partition} with the right '
                               f'"send"', network_id)
            return None
        return entry

    def _destination(self, place: str, network_id: int, partition: int) -> bool:
        """Check that the partition may send to the entry; whether it may."""
        if not self.check.known(place, network_id, self.entries, "an entry"):
            return False
        entry = self.entries[network_id]
        if "receive" not in entry.rights or partition not in entry.senders:
            self.check.problem(place, f'must be an entry with the right "receive" that lists '
                               f'partition {partition} in senders', network_id)
            return False
        return True


def _print(scenario: Scenario) -> None:
    """Print tables of a scenario."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    memory = scenario.memory
    console.print(f"configuration [bold]{scenario.config_name}[/bold], memory of "
                  f"{memory.bytes:,} bytes, latency {memory.latency_cycles} cycles, "
                  f"stalls {memory.stall_percent} %")
    for title, items in (("partitions", scenario.partitions), ("entries", scenario.entries),
                         ("traffic", scenario.traffic)):
        if not items:
            continue
        names = [one.name for one in fields(items[0])]
        table = Table(*names, title=title)
        for item in items:
            table.add_row(*(_cell(name, getattr(item, name)) for name in names))
        console.print(table)
    for title, one in (("service", scenario.service), ("manager", scenario.manager)):
        if one is not None:
            table = Table(title=title, show_header=False)
            for item in fields(one):
                table.add_row(item.name, _cell(item.name, getattr(one, item.name)))
            console.print(table)
    if scenario.route is not None:
        hops = " → ".join(f"{owner} (entry {network_id})" for owner, network_id in
                          zip(scenario.route.path, scenario.route.entries, strict=True))
        console.print(f"route: {hops}, {scenario.route.message_bytes:,} bytes a message, files "
                      f"of up to {scenario.file_bytes_max:,} bytes")


def _cell(name: str, value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:#x}" if name in ("base", "length") else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Check a file and print it. Exit status 0 if it is right, 1 if it is not."""
    parser = argparse.ArgumentParser(prog="python -m sim.scenario",
                                     description="Check a scenario and print it.")
    parser.add_argument("file", type=Path, help="a TOML file")
    path = parser.parse_args(arguments).file
    try:
        _print(load(path))
    except ScenarioError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{path}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
