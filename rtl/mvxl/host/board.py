# SPDX-License-Identifier: Apache-2.0
"""A board: its adapter with the drivers of all partitions, and its memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from ..config import CONFIGS, ENTRY_UNIT_BYTES, AdapterConfig
from ..driver import AdapterError, ManagerDriver, PartitionDriver, TableEntry
from .frames import DATA_BYTES_MAX, Hello
from .link import HostError, SerialLink
from .scenario import Partition
from .transport import BoardTransport

__all__ = ["Board", "NoAnswer", "UnknownConfiguration", "inbox", "outbox",
           "standard_partitions", "standard_table"]

#: Longest message of a partition with the standard table (bytes): of any length.
MAX_COUNT = (1 << 32) - 1


class UnknownConfiguration(HostError):
    """The board's adapter has sizes that this program does not know."""


class NoAnswer(HostError):
    """The adapter did not come to an end with something in time; its registers do answer."""


class Board:
    """A board whose adapter is known. `Board.find` makes one.

    Members
    -------
    link : SerialLink
    hello : Hello
        What the board said.
    config_name, config
        The configuration of its adapter.
    manager : ManagerDriver
    drivers : list of PartitionDriver
        By partition. Privileged, for registers of grants only.
    """

    def __init__(self, link: SerialLink, hello: Hello, config_name: str) -> None:
        self.link = link
        self.hello = hello
        self.config_name = config_name
        self.config = config = AdapterConfig.named(config_name)
        privileged = BoardTransport(link, config, privileged=True)
        self.manager = ManagerDriver(privileged, config)
        self.drivers = [
            PartitionDriver(BoardTransport(link, config, line=partition), config, partition,
                            privileged=privileged)
            for partition in range(config.partitions)]

    @classmethod
    async def find(cls, link: SerialLink) -> Board:
        """The board at a link, once it and its adapter are found to be what this program knows.

        Raises
        ------
        UnknownConfiguration
            Its adapter has other sizes than any named configuration.
        AdapterError
            It is of another version than this program.
        HostError
            As `SerialLink.hello`.
        """
        hello = link.hello()
        names = sorted(CONFIGS)
        if hello.config >= len(names):
            raise UnknownConfiguration(f"{link.name}: the board's configuration must be one of "
                                       f"{_numbered(names)}, not {hello.config}")
        board = cls(link, hello, names[hello.config])
        config = board.config
        for what, found, expected in (
                ("partitions", hello.partitions, config.partitions),
                ("page_log2", hello.page_log2, config.page_log2)):
            board._expect(what, found, expected)
        sizes = await board.manager.identify()
        for what, expected in (
                ("partitions_minus_1", config.partitions - 1),
                ("entries_log2", config.id_bits),
                ("data_bytes_log2", config.size_log2),
                ("queue_log2", config.command_queue_depth.bit_length() - 1),
                ("in_flight_log2", config.messages_in_flight.bit_length() - 1)):
            board._expect(f"CONFIG.{what}", sizes[what], expected)
        return board

    def _expect(self, what: str, found: int, expected: int) -> None:
        if found != expected:
            raise UnknownConfiguration(
                f"{self.link.name}: {what} must be {expected}, as configuration "
                f"{self.config_name!r} has it, not {found}: take a host program and a bitstream "
                "of the same release")

    # ---- Memory ----

    @property
    def memory_bytes(self) -> int:
        return self.hello.memory_bytes

    def read_memory(self, address: int, count_bytes: int,
                    progress: Callable[[int], object] = lambda moved_bytes: None) -> bytes:
        """`count_bytes` bytes at `address`; `progress` is told how many each request brought."""
        data = bytearray()
        while len(data) < count_bytes:
            piece = self.link.read_memory(address + len(data),
                                          min(DATA_BYTES_MAX, count_bytes - len(data)))
            data += piece
            progress(len(piece))
        return bytes(data)

    def write_memory(self, address: int, data: bytes,
                     progress: Callable[[int], object] = lambda moved_bytes: None) -> None:
        """Write `data` at `address`; `progress` is told how many each request took."""
        for at in range(0, len(data), DATA_BYTES_MAX):
            piece = data[at:at + DATA_BYTES_MAX]
            self.link.write_memory(address + at, piece)
            progress(len(piece))

    # ---- Setting up ----

    @asynccontextmanager
    async def within(self, seconds: float, what: str) -> AsyncIterator[None]:
        """Raise `NoAnswer` if what is done inside takes longer than that."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            state = await self.manager.memory_state()
            reason = f": the memory port is down, channel {state.channel}" if state.down else ""
            raise NoAnswer(f"{what} must be through in {seconds:g} s, and is not{reason}") from None

    async def clear(self, progress: Callable[[], object] = lambda: None) -> None:
        """Bring the adapter to where it is after reset: nothing is granted, nothing under way.

        Counters, fault records and tokens stay. `progress` is called for each partition and entry.
        """
        for partition in range(self.config.partitions):
            await self.manager.disable_partition(partition)
            await self.manager.reset_partition(partition)
            self.drivers[partition].forget()
            progress()
        for network_id in range(self.config.entries):
            await self.manager.revoke_entry(network_id)
            progress()

    async def set_up(self, partitions: Iterable[Partition], table: Mapping[int, TableEntry],
                     progress: Callable[[], object] = lambda: None) -> None:
        """Clear the adapter, commit this table, and enable these partitions as they are described.

        `progress` is called for each partition, each entry of the adapter and each of the table.

        Raises
        ------
        CommitRefused
            The adapter refused an entry.
        """
        await self.require_ready()
        await self.clear(progress)
        for network_id, entry in table.items():
            await self.manager.commit_entry(network_id, entry)
            progress()
        for one in partitions:
            if one.enabled:
                await self.manager.enable_partition(
                    one.id, max_count=one.max_count, wait_limit=one.wait_limit_cycles,
                    weight=one.weight)

    async def set_up_standard(self) -> dict[int, TableEntry]:
        """Set up the standard table, with every partition enabled; returns the table."""
        table = standard_table(self.config, self.memory_bytes)
        await self.set_up(standard_partitions(self.config), table)
        return table

    async def require_ready(self) -> None:
        """Wait until the adapter is ready.

        Raises
        ------
        NoAnswer
            It does not become ready.
        AdapterError
            Its memory port is down.
        """
        async with self.within(5, "initialization of the adapter's memories"):
            await self.manager.wait_ready()
        state = await self.manager.memory_state()
        if state.down:
            raise AdapterError(f"the memory port is down: channel {state.channel} did not move; "
                               "reset the board")


def outbox(partition: int) -> int:
    """Network ID of what a partition sends from, in the standard table."""
    return partition


def inbox(config: AdapterConfig, partition: int) -> int:
    """Network ID of the ring that a partition receives in, in the standard table."""
    return config.partitions + partition


def standard_partitions(config: AdapterConfig) -> list[Partition]:
    """All partitions, enabled for messages of any length."""
    return [Partition(id=partition, max_count=MAX_COUNT)
            for partition in range(config.partitions)]


def standard_table(config: AdapterConfig, memory_bytes: int) -> dict[int, TableEntry]:
    """A table in which every partition can send to every other.

    The memory is cut into equal parts: an outbox for each partition, then for each a ring in which
    it receives from all. Entry `outbox(p)` is at the start of memory part p, and so on.
    """
    parts = 2 * config.partitions
    length = memory_bytes // parts // ENTRY_UNIT_BYTES * ENTRY_UNIT_BYTES
    everyone = range(config.partitions)
    table = {outbox(p): TableEntry(
        base=p * length, length=length, owner=p, may_receive=False) for p in everyone}
    table |= {inbox(config, p): TableEntry(
        base=(config.partitions + p) * length, length=length, owner=p, may_send=False, ring=True,
        senders=set(everyone)) for p in everyone}
    return table


def _numbered(names: list[str]) -> str:
    return ", ".join(f"{number} ({name})" for number, name in enumerate(names))
