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
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from random import Random

from mvxl.config import ENTRY_UNIT_BYTES
from mvxl.host.scenario import (SETUP_TABLES, WORD_MAX, Kinds, Memory, Partition, ScenarioError,
                                Setup, SetupRules, read_tables, read_text)
from mvxl.host.scenario import Entry as SetupEntry
from mvxl.messages import Op

from .model import Command, Row
from .work import WORKS

__all__ = ["Entry", "Manager", "Memory", "Partition", "Route", "Scenario", "ScenarioError",
           "Service", "Traffic", "load", "parse"]

ID_MAX = (1 << 16) - 1

#: Messages that an entry between the ends of a route holds when it is cut down to their size.
ROUTE_MESSAGES = 16
FLAGS = ("wait", "fence", "event", "notify")
PATTERNS = ("same", "walk", "random")
OPERATIONS = {"send": Op.SEND, "mvcl": Op.MVCL}

#: Requests of a client under way have different tags.
WINDOW_MAX = 256
INTERVAL_CYCLES_MIN = 2000
SERVICE_CYCLES_MAX = 100_000


class Entry(SetupEntry):
    """An entry of the table, which the reference model knows, too."""

    @property
    def row(self) -> Row:
        """The row of the model's table."""
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
class Scenario(Setup):
    """A scenario that is right in itself."""

    entries: tuple[Entry, ...]
    traffic: tuple[Traffic, ...] = ()
    route: Route | None = None
    service: Service | None = None
    manager: Manager | None = None

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


#: Tables of a file: name, class, whether there are several, whether there must be one.
_TABLES: Kinds = SETUP_TABLES | {
    "entry": (Entry, True, True),
    "traffic": (Traffic, True, False),
    "route": (Route, False, False),
    "service": (Service, False, False),
    "manager": (Manager, False, False),
}


def load(path: Path) -> Scenario:
    """Read a scenario from a file.

    Raises
    ------
    ScenarioError
        It is not right.
    OSError
        It cannot be read.
    """
    return parse(read_text(path), str(path))


def parse(text: str, name: str = "scenario.toml") -> Scenario:
    """Read a scenario from text; `name` stands in messages.

    Raises
    ------
    ScenarioError
        It is not right.
    """
    check, tables = read_tables(text, name, _TABLES)
    scenario = Scenario(
        config_name=tables["adapter"].config, memory=tables["memory"],
        partitions=tuple(tables["partition"]),
        entries=tuple(tables["entry"]), traffic=tuple(tables["traffic"]), route=tables["route"],
        service=tables["service"], manager=tables["manager"])
    _Rules(check, scenario).check_all()
    return scenario


@dataclass
class _Rules(SetupRules):
    """The rules of a scenario whose tables and types are right."""

    setup: Scenario
    entries: dict[int, Entry] = field(init=False)

    @property
    def scenario(self) -> Scenario:
        return self.setup

    def check_all(self) -> None:
        """Check everything; what builds on wrong parts only if they are right.

        Raises
        ------
        ScenarioError
            A rule is broken.
        """
        super().check_all()
        for index, traffic in enumerate(self.scenario.traffic):
            self._traffic(f"traffic[{index}]", traffic)
        if self.scenario.route is not None:
            self._route(self.scenario.route)
        if self.scenario.service is not None:
            self._service(self.scenario.service)
        if self.scenario.manager is not None:
            self._manager(self.scenario.manager)
        self.check.raise_problems()

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
