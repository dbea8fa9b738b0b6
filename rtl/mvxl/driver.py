# SPDX-License-Identifier: Apache-2.0
"""What a partition's driver and the manager do on the registers, over any transport.

Names, addresses and fields come from the register map. Usage::

    manager = ManagerDriver(transport, config)
    await manager.wait_ready()
    await manager.enable_partition(0, max_count=65536)
    await manager.commit_entry(0, TableEntry(base=0x1000, length=4096, owner=0))
    await manager.commit_entry(1, TableEntry(base=0x8000, length=4096, owner=1, senders={0}))

    driver = PartitionDriver(transport, config, partition=0)
    number = await driver.send(src_id=0, src_offset=0, dst_id=1, count=64, notify=True)
    await driver.wait_completed(number)
    async for event in driver.events():
        print(event)

A driver with privilege moves piece by piece into a destination that it holds::

    await manager.enable_partition(0, max_count=65536, grant_engine=True)
    number = await driver.grant(src_id=0, src_offset=0, dst_id=1, count=4096)
    await driver.wait_completed(number)
    grant = await driver.grant_state()
    number = await driver.mvxl(grant.token, src=0, dst=0, count=1024)
    await driver.wait_completed(number)
    await driver.release(grant.token, moved=1024)

A driver takes it that nobody else writes its page, and remembers what it wrote: call `forget`
after a reset of the adapter or of its partition. A method that waits for an outcome while its
partition is reset may wait for ever. A driver does one thing at a time: while a coroutine is inside
one of its methods, no other may call one. Only those that wait for the interrupt may run beside
others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol

from .config import AdapterConfig
from .messages import EventKind, GrantKind, Op, Status
from .registers import WORD_BITS, Page, register_map

__all__ = ["AdapterError", "CommitRefused", "ConsumeRefused", "Counters", "Event", "Fault",
           "GrantAddresses", "GrantState", "InterruptTransport", "Lock", "ManagerDriver",
           "MemoryState", "MoveFailed", "NoGrant", "PartitionDriver", "PartitionStatus",
           "QueueFull", "ReleaseRefused", "RewindRefused", "TableEntry", "Transport"]

_MODULUS = 1 << WORD_BITS


class Transport(Protocol):
    """Accesses to the register port. An error response is raised by the transport, as it likes."""

    async def read32(self, address: int) -> int:
        """The 32-bit word at `address` (bytes, a multiple of 4)."""

    async def write32(self, address: int, value: int) -> None:
        """Write the 32-bit word at `address`; return when it is acknowledged."""


class InterruptTransport(Transport, Protocol):
    """A transport that knows the interrupt line of its partition."""

    async def interrupt(self) -> None:
        """Return when the line (a level) is high; at once if it is."""


class AdapterError(Exception):
    """The adapter does not do what it was asked for."""


class QueueFull(AdapterError):
    """The command queue has no room; nothing was started."""


class RewindRefused(AdapterError):
    """REWIND was refused; the cursor is as it was."""


class ConsumeRefused(AdapterError):
    """CONSUME was refused; the head is as it was."""


class NoGrant(AdapterError):
    """The partition has no live grant of kind CPU, so no addresses are told."""


class ReleaseRefused(AdapterError):
    """RELEASE was refused; the grant is as it was. `status` tells why."""

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message)
        self.status = status


class MoveFailed(AdapterError):
    """The manager's MVXL did not end OK. `status` tells why."""

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message)
        self.status = status


class CommitRefused(AdapterError):
    """ENTRY_COMMIT was refused; the table is as it was. `reason` is a name of the RDL."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class PartitionStatus:
    """The fields of STATUS in a partition page."""

    ready: bool
    idle: bool
    halted: bool
    waiting: bool
    rejected: bool
    room: int
    events: int


@dataclass(frozen=True)
class Event:
    """An event. `offset` and `count` are in bytes, `peer` is a partition."""

    kind: EventKind
    status: Status
    tag: int
    peer: int
    dst_id: int
    offset: int
    count: int


@dataclass(frozen=True)
class GrantState:
    """What a partition is told of its grant. `token` and `acknowledged` (bytes, moved by MVXL from
    the grant's start without a gap) are 0 unless it is live."""

    held: bool
    live: bool
    kind: GrantKind
    busy: bool
    token: int
    acknowledged: int


@dataclass(frozen=True)
class GrantAddresses:
    """Physical addresses of a grant of kind CPU.

    `source` is that of its first byte. `pieces` are the (address, bytes) of its destination, in
    order: two, if it wraps to the start of a ring.
    """

    source: int
    pieces: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """What an entry of the translation table grants.

    Parameters
    ----------
    base : int
        Physical address, a multiple of 64 bytes.
    length : int
        Bytes, a multiple of 64.
    owner : int
        The partition that owns it.
    senders : frozenset or set of int
        Partitions that may send to it.
    may_send : bool
        Its owner may send from it.
    may_receive : bool
        Its senders may send to it.
    ring : bool
        Messages go round, and its owner consumes them; otherwise they are appended until it is
        full, and its owner rewinds it.
    """

    base: int
    length: int
    owner: int
    senders: frozenset[int] | set[int] = frozenset()
    may_send: bool = True
    may_receive: bool = True
    ring: bool = False


@dataclass(frozen=True)
class Fault:
    """A partition's record in the fault log. `direction` is READ or WRITE.

    `address` is on the bus (bytes); with status NOT_PERMITTED it is the offset of a privileged
    register in the partition's page, which was accessed without privilege.
    """

    partition: int
    direction: str
    status: Status
    address: int
    lost: int


@dataclass(frozen=True)
class Lock:
    """The entry that a partition holds by a grant. `live`: its token is valid. `busy`: an MVXL
    under it is in flight."""

    partition: int
    network_id: int
    kind: GrantKind
    live: bool
    busy: bool


@dataclass(frozen=True)
class MemoryState:
    """The memory port. `channel` is the one that did not move; None unless it is down."""

    down: bool
    settled: bool
    channel: str | None


@dataclass(frozen=True)
class Counters:
    """What one partition has sent to another since reset, each modulo 2⁶⁴."""

    messages: int
    bytes: int
    refused: int
    waited_cycles: int


class _PageDriver:
    """Registers of one page by name, and what every page has."""

    def __init__(self, transport: Transport, page: Page) -> None:
        self._transport = transport
        self._page = page

    def _address(self, register: str, index: int) -> int:
        raise NotImplementedError

    def _transport_of(self, register: str) -> Transport:
        return self._transport

    async def _read(self, register: str, index: int = 0) -> dict[str, int]:
        word = await self._transport_of(register).read32(self._address(register, index))
        return self._page[register].unpack(word)

    async def _read_wide(self, register: str, field: str) -> int:
        """The 64-bit number whose halves are in `register`_lo and `register`_hi."""
        low = (await self._read(f"{register}_lo"))[field]
        return (await self._read(f"{register}_hi"))[field] << WORD_BITS | low

    async def _write(self, register: str, index: int = 0, **fields: int) -> None:
        word = self._page[register].pack(**fields)
        await self._transport_of(register).write32(self._address(register, index), word)

    async def _wait_done(self, register: str) -> dict[str, int]:
        """The fields of an outcome's register, as soon as it is done."""
        while (status := await self._read(register))["busy"] or not status["done"]:
            pass
        return status

    async def identify(self) -> dict[str, int]:
        """The fields of CONFIG, once VERSION is found to be this map's.

        Raises
        ------
        AdapterError
            VERSION is that of something else.
        """
        found = await self._read("version")
        expected = self._page["version"].unpack(self._page["version"].reset)
        for name in ("magic", "major"):
            if found[name] != expected[name]:
                raise AdapterError(f"VERSION.{name} must be {expected[name]:#x}, "
                                   f"not {found[name]:#x}")
        return await self._read("config")


class PartitionDriver(_PageDriver):
    """The device driver of one partition.

    Parameters
    ----------
    transport : Transport
        Accesses to the register port. `wait_completed` and `wait_event` need an
        `InterruptTransport`, with the interrupt of this partition.
    config : AdapterConfig
        Sizes of the adapter.
    partition : int
        Whose page it speaks through.
    privileged : Transport, optional
        The same with privilege, for the registers of grants; `transport`, if it is not given.

    Raises
    ------
    ValueError
        There is no such partition.
    """

    def __init__(self, transport: Transport, config: AdapterConfig, partition: int,
                 privileged: Transport | None = None) -> None:
        self._map = register_map(config)
        super().__init__(transport, self._map.partition)
        self._map.partition_address(partition, "status")
        self._privileged = transport if privileged is None else privileged
        self.partition = partition
        self.forget()

    def forget(self) -> None:
        """Take it that the page is as after a reset: nothing that was written is there.

        Needed after a reset of the adapter or of the partition. Numbers of commands start again.
        """
        self._kept: dict[str, int] = {}
        self._room = 0
        self._last_number: int | None = None

    def _transport_of(self, register: str) -> Transport:
        return self._privileged if self._page[register].privileged else self._transport

    def _address(self, register: str, index: int) -> int:
        return self._map.partition_address(self.partition, register)

    async def _keep(self, register: str, **fields: int) -> None:
        """Write a register that keeps its value, unless it has this value already."""
        word = self._page[register].pack(**fields)
        if self._kept.get(register) != word:
            await self._write(register, **fields)
            self._kept[register] = word

    async def status(self) -> PartitionStatus:
        fields = await self._read("status")
        return PartitionStatus(
            room=fields["room"], events=fields["events"],
            **{name: bool(fields[name])
               for name in ("ready", "idle", "halted", "waiting", "rejected")})

    async def send(self, src_id: int, src_offset: int, dst_id: int, count: int, *,
                   wait: bool = False, fence: bool = False, event: bool = False,
                   notify: bool = False, tag: int = 0, until_room: bool = False) -> int:
        """Start a SEND: `count` bytes from (`src_id`, `src_offset`) to the cursor of `dst_id`.

        Writes only what differs from the command before. Returns when the command is queued, with
        its number, for `wait_completed`.

        Parameters
        ----------
        src_offset, count : int
            Bytes.
        wait, fence, event, notify, tag
            The fields of COMMAND.
        until_room : bool
            If the queue is full, wait until it is not.

        Raises
        ------
        QueueFull
            The queue is full, or the adapter is not ready yet; nothing was started.
        AdapterError
            This driver's first command is not the page's: others are under way.
        ValueError
            A value does not fit in its field.
        """
        return await self._command(
            {"src_id": {"id": src_id}, "src_offset": {"offset": src_offset},
             "dst_id": {"id": dst_id}, "count": {"count": count}},
            "command", {"op": Op.SEND.value, "wait": wait, "fence": fence, "event": event,
                        "notify": notify, "tag": tag}, until_room)

    async def mvcl(self, src_id: int, src_offset: int, dst_id: int, dst_offset: int, count: int, *,
                   wait: bool = False, fence: bool = False, event: bool = False,
                   notify: bool = False, tag: int = 0, until_room: bool = False) -> int:
        """Start an MVCL: `count` bytes from (`src_id`, `src_offset`) to (`dst_id`, `dst_offset`),
        both entries of the partition. No cursor moves.

        The rest is as for `send`.
        """
        return await self._command(
            {"src_id": {"id": src_id}, "src_offset": {"offset": src_offset},
             "dst_id": {"id": dst_id}, "dst_offset": {"offset": dst_offset},
             "count": {"count": count}},
            "command", {"op": Op.MVCL.value, "wait": wait, "fence": fence, "event": event,
                        "notify": notify, "tag": tag}, until_room)

    async def grant(self, src_id: int, src_offset: int, dst_id: int, count: int, *,
                    kind: GrantKind = GrantKind.ENGINE, wait: bool = False, event: bool = False,
                    notify: bool = False, tag: int = 0, until_room: bool = False) -> int:
        """Ask for a grant: to move up to `count` bytes from (`src_id`, `src_offset`) to the cursor
        of `dst_id`, which is held from then on. Needs privilege.

        A command like others: it is granted if it ends OK, and `grant_state` has the token then.
        `notify`: tell the destination's owner at `release`. The rest is as for `send`.
        """
        return await self._command(
            {"grant_src_id": {"id": src_id}, "grant_src_offset": {"offset": src_offset},
             "grant_dst_id": {"id": dst_id}, "grant_count": {"count": count}},
            "grant_command", {"kind": kind.value, "wait": wait, "event": event, "notify": notify,
                              "tag": tag}, until_room)

    async def mvxl(self, token: int, src: int, dst: int, count: int, *, fence: bool = False,
                   event: bool = False, tag: int = 0, until_room: bool = False) -> int:
        """Start an MVXL: `count` bytes from offset `src` of the grant's source to offset `dst` of
        its destination. Needs privilege.

        The rest is as for `send`.
        """
        return await self._command(
            {"mvxl_token": {"token": token}, "mvxl_src": {"offset": src},
             "mvxl_dst": {"offset": dst}, "mvxl_count": {"count": count}},
            "mvxl_command", {"fence": fence, "event": event, "tag": tag}, until_room)

    async def _command(self, parameters: dict[str, dict[str, int]], register: str,
                       command: dict[str, int], until_room: bool) -> int:
        """Queue a command: write the parameters that differ, and its register; its number.

        Nothing is written if a value does not fit, or the queue has no room.
        """
        for name, fields in (*parameters.items(), (register, command)):
            self._page[name].pack(**fields)
        number = await self._take_room(until_room)
        for name, fields in parameters.items():
            await self._keep(name, **fields)
        await self._write(register, **command)
        self._room -= 1
        self._last_number = number
        return number

    async def grant_state(self) -> GrantState:
        """What the partition is told of its grant. Needs privilege."""
        state = await self._read("grant_state")
        return GrantState(
            **{name: bool(state[name]) for name in ("held", "live", "busy")},
            kind=GrantKind(state["kind"]),
            token=(await self._read("grant_token"))["token"],
            acknowledged=(await self._read("grant_acknowledged"))["count"])

    async def grant_addresses(self, count: int) -> GrantAddresses:
        """The addresses of a live grant of kind CPU of `count` bytes. Needs privilege.

        Raises
        ------
        NoGrant
            There is none.
        """
        source = await self._read_wide("grant_src", "address")
        first = (await self._read("grant_first"))["count"]
        pieces = [(await self._read_wide("grant_dst", "address"), first)]
        if first < count:
            pieces.append((await self._read_wide("grant_next", "address"), count - first))
        # It may have expired between two reads.
        state = await self._read("grant_state")
        if not state["live"] or GrantKind(state["kind"]) is not GrantKind.CPU:
            raise NoGrant(f"partition {self.partition} must have a live grant of kind CPU to be "
                          "told its addresses, and has none")
        return GrantAddresses(source, tuple(pieces))

    async def release(self, token: int, moved: int) -> None:
        """Give the grant back: the destination's cursor advances by `moved` bytes. Needs privilege.

        Returns when that is through, and the lock is free.

        Raises
        ------
        ReleaseRefused
            The token is STALE, an MVXL under it is in flight (BUSY), or it is more than was moved
            (BAD_COUNT).
        """
        await self._keep("release_token", token=token)
        await self._write("release", count=moved)
        status = Status((await self._wait_done("release_status"))["status"])
        if status is not Status.OK:
            raise ReleaseRefused(f"release of {moved} bytes under token {token} of partition "
                                 f"{self.partition} was refused: {status.name}", status)

    async def _take_room(self, until_room: bool) -> int:
        """Wait for a place in the queue; the number that the next command will have.

        STATUS is read only when the places known of are used up.
        """
        while not self._room:
            status = await self.status()
            if status.ready:
                self._room = status.room
            if self._last_number is None and status.ready:
                if not status.idle:
                    raise AdapterError(f"partition {self.partition} must be idle before its "
                                       "driver's first command, and has others under way")
                self._last_number = await self.completed()
            if not self._room and not until_room:
                reason = "its queue is full" if status.ready else "the adapter is not ready"
                raise QueueFull(f"partition {self.partition} takes no command: {reason}")
        return ((self._last_number or 0) + 1) % _MODULUS

    async def completed(self) -> int:
        """Commands of the partition that ended since reset, modulo 2³²."""
        return (await self._read("completed"))["count"]

    async def rejected(self) -> int:
        """COMMAND writes since reset that were rejected, modulo 2³²."""
        return (await self._read("rejected"))["count"]

    async def clear_rejected(self) -> None:
        """Clear STATUS.rejected."""
        await self._write("status", rejected=1)

    async def wait_completed(self, number: int) -> None:
        """Return when the command with this number (`send` returns it) has ended."""
        await self._keep("completed_compare", count=number)
        await self._enable_interrupt(completed=1)
        while (await self.completed() - number) % _MODULUS >= _MODULUS // 2:
            await self._interrupt()
        await self._enable_interrupt(completed=0)

    async def wait_event(self) -> Event:
        """The oldest event, taken, as soon as there is one."""
        while (event := await self.pop_event()) is None:
            await self._enable_interrupt(event=1)
            await self._interrupt()
        await self._enable_interrupt(event=0)
        return event

    async def _enable_interrupt(self, **bits: int) -> None:
        fields = self._page["irq_enable"].unpack(self._kept.get("irq_enable", 0))
        await self._keep("irq_enable", **(fields | bits))

    async def _interrupt(self) -> None:
        interrupt = getattr(self._transport, "interrupt", None)
        if interrupt is None:
            raise TypeError("transport must have an interrupt() to wait for, and "
                            f"{type(self._transport).__name__} has none")
        await interrupt()

    async def pop_event(self) -> Event | None:
        """Take the oldest event; None if there is none."""
        info = await self._read("event_info")
        kind = EventKind(info["kind"])
        if kind is EventKind.NONE:
            return None
        event = Event(
            kind=kind, status=Status(info["status"]), tag=info["tag"], peer=info["peer"],
            dst_id=(await self._read("event_id"))["id"],
            offset=(await self._read("event_offset"))["offset"],
            count=(await self._read("event_count"))["count"])
        await self._write("event_pop", pop=1)
        return event

    async def events(self) -> AsyncIterator[Event]:
        """Take events until there is none."""
        while (event := await self.pop_event()) is not None:
            yield event

    async def cancel(self) -> None:
        """End the command that waits at the head of the queue, if one does."""
        await self._write("cancel", cancel=1)

    async def resume(self) -> None:
        """End a halt, if there is one: commands sent from now on run again."""
        await self._write("resume", resume=1)

    async def rewind(self, network_id: int) -> None:
        """Set the cursor of an append entry that the partition owns to 0.

        Raises
        ------
        RewindRefused
            The partition does not own the entry, it is a ring, or it is held.
        """
        await self._write("rewind", id=network_id)
        if (await self._wait_done("receive_status"))["refused"]:
            raise RewindRefused(f"REWIND needs an append entry that partition {self.partition} "
                                f"owns and that no message is in flight to; {network_id} is none")

    async def consume(self, network_id: int, count: int) -> None:
        """Move the head of a ring that the partition owns forward by `count` bytes.

        Raises
        ------
        ConsumeRefused
            The partition does not own the entry, it is no ring, or less is filled.
        """
        await self._keep("consume_id", id=network_id)
        await self._write("consume", count=count)
        if (await self._wait_done("receive_status"))["refused"]:
            raise ConsumeRefused(f"CONSUME needs a ring that partition {self.partition} owns with "
                                 f"at least {count} bytes filled; {network_id} is none")

    async def receive_cursor(self, network_id: int, *, copy: int = 0) -> int:
        """Bytes that the entry is filled to, modulo 2³²; 0 if the partition does not own it.

        `copy`, 0 or 1, is the set of registers to look through; an interrupt handler has its own.
        """
        return (await self._look(network_id, copy, "cursor"))["cursor"]

    async def receive_head(self, network_id: int, *, copy: int = 0) -> int:
        """Bytes that were consumed of a ring, modulo 2³²; 0 if the partition does not own it.

        `copy` is as for `receive_cursor`.
        """
        return (await self._look(network_id, copy, "head"))["head"]

    async def _look(self, network_id: int, copy: int, name: str) -> dict[str, int]:
        if copy not in (0, 1):
            raise ValueError(f"copy must be 0 or 1, not {copy!r}")
        group = ("receive", "receive2")[copy]
        await self._keep(f"{group}_id", id=network_id)
        return await self._read(f"{group}_{name}")


class ManagerDriver(_PageDriver):
    """What the manager does on its page.

    Parameters
    ----------
    transport : Transport
        Accesses to the register port, with the manager's privilege.
    config : AdapterConfig
        Sizes of the adapter.
    """

    def __init__(self, transport: Transport, config: AdapterConfig) -> None:
        self._map = register_map(config)
        super().__init__(transport, self._map.manager)

    def _address(self, register: str, index: int) -> int:
        return self._map.manager_address(register, index)

    async def wait_ready(self) -> None:
        """Return when the adapter's memories are initialized."""
        while not (await self._read("status"))["ready"]:
            pass

    async def is_idle(self) -> bool:
        """No command of any partition is queued or in flight."""
        return bool((await self._read("status"))["idle"])

    async def enable_partition(self, partition: int, *, max_count: int, wait_limit: int = 0,
                               weight: int = 0, grant_engine: bool = False,
                               grant_cpu: bool = False) -> None:
        """Let a partition use the adapter.

        Parameters
        ----------
        max_count : int
            Longest message, in bytes.
        wait_limit : int
            Longest wait of a command, in cycles; 0: no limit.
        weight : int
            Up to `weight + 1` of its commands are taken in a row. 0 to 15.
        grant_engine, grant_cpu : bool
            The kinds of grants that it may get. With CPU it is told physical addresses.
        """
        await self._write("partition_max_count", partition, count=max_count)
        await self._write("partition_wait_limit", partition, cycles=wait_limit)
        await self._write("partition_control", partition, enabled=1, weight=weight,
                          grant_engine=grant_engine, grant_cpu=grant_cpu)

    async def disable_partition(self, partition: int) -> None:
        """From now on commands of the partition end NOT_PERMITTED."""
        await self._write("partition_control", partition, enabled=0)

    async def commit_entry(self, network_id: int, entry: TableEntry) -> None:
        """Write a row of the table, with cursor and head 0.

        Returns when no access by the old one is outstanding, and no grant on it is left.

        Raises
        ------
        CommitRefused
            The adapter refused it.
        ValueError
            A value does not fit in its field.
        """
        for sender in sorted(entry.senders):
            self._check_partition(sender, "a sender")
        await self._write("entry_base_hi", base=entry.base >> WORD_BITS)
        await self._write("entry_base_lo", base=entry.base % _MODULUS)
        await self._write("entry_length", length=entry.length)
        await self._write("entry_senders", senders=sum(1 << sender for sender in entry.senders))
        await self._write("entry_id", id=network_id)
        await self._write("entry_access", valid=1, owner=entry.owner, may_send=entry.may_send,
                          may_receive=entry.may_receive, ring=entry.ring)
        await self._write("entry_commit", commit=1)
        await self._wait_changed(f"commit of entry {network_id}")

    async def revoke_entry(self, network_id: int) -> None:
        """Take an entry out of the table. Returns when no access by it can appear any more.

        Raises
        ------
        CommitRefused
            The adapter refused it.
        """
        await self._write("entry_revoke", id=network_id)
        await self._wait_changed(f"revoke of entry {network_id}")

    async def _wait_changed(self, what: str) -> None:
        status = await self._wait_done("entry_status")
        if status["refused"]:
            name = self._name("entry_status", "reason", status["reason"])
            raise CommitRefused(f"{what} was refused: {name}", name)

    def _name(self, register: str, field: str, value: int) -> str:
        """What the RDL calls a value; the number, if it has no name there."""
        encoding = self._page[register][field].encoding
        return next((name for name, number in encoding.items() if number == value), str(value))

    def _check_partition(self, partition: int, what: str = "partition") -> int:
        if not 0 <= partition < self._map.partitions:
            raise ValueError(f"{what} must be between 0 and {self._map.partitions - 1}, "
                             f"not {partition!r}")
        return partition

    async def set_lease(self, cycles: int) -> None:
        """Grants expire after so many cycles. 0: never."""
        await self._write("lease", cycles=cycles)

    async def locks(self) -> list[Lock]:
        """The entries that are held by grants, by partition."""
        locks = []
        for partition in range(self._map.partitions):
            lock = await self._read("partition_lock", partition)
            if lock["held"]:
                locks.append(Lock(
                    partition=partition, network_id=lock["id"], kind=GrantKind(lock["kind"]),
                    live=bool(lock["live"]), busy=bool(lock["busy"])))
        return locks

    async def release_locks(self, *partitions: int) -> None:
        """End the grants of these partitions. Their cursors do not move.

        The processor of a partition with a grant of kind CPU must not write any more. `locks` no
        longer has them when what was in flight is through.
        """
        await self._write("lock_release", partitions=sum(
            1 << self._check_partition(partition) for partition in set(partitions)))

    async def reset_partition(self, partition: int) -> None:
        """Reset a partition. Returns when that is done; its driver must `forget` then."""
        bit = 1 << self._check_partition(partition)
        await self._write("partition_reset", partitions=bit)
        while (await self._read("resetting"))["partitions"] & bit:
            pass

    async def set_memory_timeout(self, cycles: int) -> None:
        """The memory port is down when it was stuck for `cycles` (to twice as many). 0: never."""
        await self._write("memory_timeout", cycles=cycles)

    async def memory_state(self) -> MemoryState:
        """The state of the memory port."""
        state = await self._read("memory_state")
        return MemoryState(
            down=bool(state["down"]), settled=bool(state["settled"]),
            channel=self._name("memory_state", "channel", state["channel"])
            if state["down"] else None)

    async def memory_up(self) -> None:
        """Take the memory port up again. Halted partitions must still resume.

        Raises
        ------
        AdapterError
            It is still down, because something is outstanding.
        """
        await self._write("memory_up", up=1)
        state = await self.memory_state()
        if state.down:
            raise AdapterError("MEMORY_UP needs a memory port with nothing outstanding; it is "
                               f"still down, because channel {state.channel} did not move")

    async def counters(self, pairs: Iterable[tuple[int, int | None]] | None = None,
                       ) -> dict[tuple[int, int | None], Counters]:
        """A snapshot of the counters of (sender, receiver) pairs; all pairs, if none are given.

        The receiver None stands for commands that had no valid destination. All are of the same
        moment.

        Raises
        ------
        ValueError
            There is no such partition.
        """
        everyone = range(self._map.partitions)
        wanted = ([(sender, receiver) for sender in everyone for receiver in (*everyone, None)]
                  if pairs is None else list(pairs))
        for sender, receiver in wanted:
            self._check_partition(sender, "a sender")
            self._check_partition(receiver or 0, "a receiver")
        await self._write("counter_snapshot", snapshot=1)
        while (await self._read("status"))["snapshot"]:
            pass
        found = {}
        for sender, receiver in wanted:
            await self._write("counter_select", sender=sender, receiver=receiver or 0,
                              none=receiver is None)
            found[sender, receiver] = Counters(**{
                field: await self._read_wide(f"counter_{name}", "count")
                for field, name in (("messages", "messages"), ("bytes", "bytes"),
                                    ("refused", "refused"), ("waited_cycles", "waited"))})
        return found

    async def mvxl(self, src: int, dst: int, count: int) -> None:
        """Move `count` bytes between physical addresses. Returns when all are written.

        Raises
        ------
        MoveFailed
            It ended with another status than OK.
        ValueError
            A value does not fit in its field.
        """
        for register, address in (("mvxl_src", src), ("mvxl_dst", dst)):
            await self._write(f"{register}_hi", address=address >> WORD_BITS)
            await self._write(f"{register}_lo", address=address % _MODULUS)
        await self._write("mvxl_count", count=count)
        await self._write("mvxl_command", start=1)
        status = Status((await self._wait_done("mvxl_status"))["status"])
        if status is not Status.OK:
            raise MoveFailed(f"MVXL of {count} bytes from {src:#x} to {dst:#x} ended "
                             f"{status.name}", status)

    async def faults(self) -> list[Fault]:
        """The records of the fault log, by partition."""
        pending = (await self._read("fault_pending"))["partitions"]
        faults = []
        for partition in range(self._map.partitions):
            if not pending >> partition & 1:
                continue
            info = await self._read("partition_fault_info", partition)
            low = (await self._read("partition_fault_address_lo", partition))["address"]
            high = (await self._read("partition_fault_address_hi", partition))["address"]
            faults.append(Fault(
                partition=partition,
                direction=self._name("partition_fault_info", "direction", info["direction"]),
                status=Status(info["status"]), address=high << WORD_BITS | low,
                lost=info["lost"]))
        return faults

    async def clear_fault(self, partition: int) -> None:
        """Clear the record of a partition, so that its next error is recorded."""
        await self._write("fault_clear", partitions=1 << self._check_partition(partition))
