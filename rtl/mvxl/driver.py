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

A driver takes it that nobody else writes its page, remembers what it wrote (after a reset of the
adapter, make a new one), and does one thing at a time: while a coroutine is inside one of its
methods, no other may call one. Only those that wait for the interrupt may run beside others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from .config import AdapterConfig
from .messages import EventKind, Op, Status
from .registers import WORD_BITS, Page, register_map

__all__ = ["AdapterError", "CommitRefused", "Event", "Fault", "InterruptTransport",
           "ManagerDriver", "PartitionDriver", "PartitionStatus", "QueueFull", "RewindRefused",
           "TableEntry", "Transport"]

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
    """

    base: int
    length: int
    owner: int
    senders: frozenset[int] | set[int] = frozenset()
    may_send: bool = True
    may_receive: bool = True


@dataclass(frozen=True)
class Fault:
    """A partition's record in the fault log. `direction` is READ or WRITE."""

    partition: int
    direction: str
    status: Status
    address: int
    lost: int


class _PageDriver:
    """Registers of one page by name, and what every page has."""

    def __init__(self, transport: Transport, page: Page) -> None:
        self._transport = transport
        self._page = page

    def _address(self, register: str, index: int) -> int:
        raise NotImplementedError

    async def _read(self, register: str, index: int = 0) -> dict[str, int]:
        word = await self._transport.read32(self._address(register, index))
        return self._page[register].unpack(word)

    async def _write(self, register: str, index: int = 0, **fields: int) -> None:
        word = self._page[register].pack(**fields)
        await self._transport.write32(self._address(register, index), word)

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

    Raises
    ------
    ValueError
        There is no such partition.
    """

    def __init__(self, transport: Transport, config: AdapterConfig, partition: int) -> None:
        self._map = register_map(config)
        super().__init__(transport, self._map.partition)
        self._map.partition_address(partition, "status")
        self.partition = partition
        self._kept: dict[str, int] = {}
        self._room = 0
        self._last_number: int | None = None

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
        command = {"op": Op.SEND.value, "wait": wait, "fence": fence, "event": event,
                   "notify": notify, "tag": tag}
        for register, fields in (
                ("src_id", {"id": src_id}), ("src_offset", {"offset": src_offset}),
                ("dst_id", {"id": dst_id}), ("count", {"count": count}), ("command", command)):
            self._page[register].pack(**fields)
        number = await self._take_room(until_room)
        await self._keep("src_id", id=src_id)
        await self._keep("src_offset", offset=src_offset)
        await self._keep("dst_id", id=dst_id)
        await self._keep("count", count=count)
        await self._write("command", **command)
        self._room -= 1
        self._last_number = number
        return number

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
        """Set the cursor of an entry that the partition owns to 0.

        Raises
        ------
        RewindRefused
            The partition does not own the entry, or a message is in flight to it.
        """
        await self._write("rewind", id=network_id)
        while (status := await self._read("rewind_status"))["busy"] or not status["done"]:
            pass
        if status["refused"]:
            raise RewindRefused(f"REWIND needs an entry that partition {self.partition} owns and "
                                f"that no message is in flight to; {network_id} is none")

    async def receive_cursor(self, network_id: int) -> int:
        """Bytes that the entry is filled to; 0 if the partition does not own it."""
        await self._keep("receive_id", id=network_id)
        return (await self._read("receive_cursor"))["cursor"]


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
                               weight: int = 0) -> None:
        """Let a partition use the adapter.

        Parameters
        ----------
        max_count : int
            Longest message, in bytes.
        wait_limit : int
            Longest wait of a command, in cycles; 0: no limit.
        weight : int
            Up to `weight + 1` of its commands are taken in a row. 0 to 15.
        """
        await self._write("partition_max_count", partition, count=max_count)
        await self._write("partition_wait_limit", partition, cycles=wait_limit)
        await self._write("partition_control", partition, enabled=1, weight=weight)

    async def disable_partition(self, partition: int) -> None:
        """From now on commands of the partition end NOT_PERMITTED."""
        await self._write("partition_control", partition, enabled=0)

    async def commit_entry(self, network_id: int, entry: TableEntry) -> None:
        """Write a row of the table, with cursor 0. Returns when nothing of the old one is left.

        Raises
        ------
        CommitRefused
            The adapter refused it.
        ValueError
            A value does not fit in its field.
        """
        for sender in sorted(entry.senders):
            if not 0 <= sender < self._map.partitions:
                raise ValueError(f"a sender must be between 0 and {self._map.partitions - 1}, "
                                 f"not {sender!r}")
        await self._write("entry_base_hi", base=entry.base >> WORD_BITS)
        await self._write("entry_base_lo", base=entry.base % _MODULUS)
        await self._write("entry_length", length=entry.length)
        await self._write("entry_senders", senders=sum(1 << sender for sender in entry.senders))
        await self._commit(network_id, valid=1, owner=entry.owner, may_send=entry.may_send,
                           may_receive=entry.may_receive)

    async def revoke_entry(self, network_id: int) -> None:
        """Take an entry out of the table. Returns when no access by it can appear any more.

        Raises
        ------
        CommitRefused
            The adapter refused it.
        """
        await self._commit(network_id, valid=0)

    async def _commit(self, network_id: int, **access: int) -> None:
        await self._write("entry_id", id=network_id)
        await self._write("entry_access", **access)
        await self._write("entry_commit", commit=1)
        while (status := await self._read("entry_status"))["busy"] or not status["done"]:
            pass
        if status["refused"]:
            reason = self._page["entry_status"]["reason"]
            name = next((name for name, number in reason.encoding.items()
                         if number == status["reason"]), str(status["reason"]))
            raise CommitRefused(f"commit of entry {network_id} was refused: {name}", name)

    async def faults(self) -> list[Fault]:
        """The records of the fault log, by partition."""
        pending = (await self._read("fault_pending"))["partitions"]
        directions = {number: name for name, number
                      in self._page["partition_fault_info"]["direction"].encoding.items()}
        faults = []
        for partition in range(self._map.partitions):
            if not pending >> partition & 1:
                continue
            info = await self._read("partition_fault_info", partition)
            low = (await self._read("partition_fault_address_lo", partition))["address"]
            high = (await self._read("partition_fault_address_hi", partition))["address"]
            faults.append(Fault(
                partition=partition, direction=directions[info["direction"]],
                status=Status(info["status"]), address=high << WORD_BITS | low,
                lost=info["lost"]))
        return faults

    async def clear_fault(self, partition: int) -> None:
        """Clear the record of a partition, so that its next error is recorded."""
        if not 0 <= partition < self._map.partitions:
            raise ValueError(f"partition must be between 0 and {self._map.partitions - 1}, "
                             f"not {partition!r}")
        await self._write("fault_clear", partitions=1 << partition)
