# SPDX-License-Identifier: Apache-2.0
"""The self-test of a board: each of its parts is used once, and what came of it is checked."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable

from ..driver import AdapterError, CommitRefused, TableEntry
from ..messages import EventKind, Status
from ..registers import register_map
from .board import Board, inbox, outbox, standard_table
from .link import HostError, PortLost, RegisterError

__all__ = ["SelfTestFailure", "Step", "run"]

BLOCK_BYTES = 256
MARCHED_BLOCKS = 8
MESSAGE_BYTES = 203     # Odd, so that the message ends inside a beat.
SOURCE_OFFSET = 5       # Not a multiple of a beat, either.
MESSAGE_TIMEOUT_S = 10.0

#: Name of a step, whether it held, and what was seen.
Step = tuple[str, bool, str]


class SelfTestFailure(Exception):
    """Something is not as it must be."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise SelfTestFailure(message)


async def run(board: Board, seed: int = 1) -> AsyncIterator[Step]:
    """The steps, as they end. A failed one does not stop those behind it; a lost port does."""
    source = random.Random(seed)
    steps: list[tuple[str, Callable[[Board, random.Random], Awaitable[str]]]] = [
        ("registers", _registers), ("privilege", _privilege), ("interrupts", _interrupts),
        ("memory", _memory), ("table", _table), ("messages", _messages), ("bounds", _bounds),
        ("counters", _counters)]
    for name, step in steps:
        try:
            yield name, True, await step(board, source)
        except PortLost:
            raise
        except (SelfTestFailure, HostError, AdapterError) as failure:
            yield name, False, str(failure)


async def _registers(board: Board, source: random.Random) -> str:
    """Every page says which one it is, and keeps what is written."""
    await board.require_ready()
    for driver in board.drivers:
        found = (await driver.identify())["partition"]
        _require(found == driver.partition, f"page {driver.partition} must say that it is of "
                 f"partition {driver.partition}, not of {found}")
    page = board.config.manager_page
    address = register_map(board.config).manager["entry_base_lo"].offset
    for word in (0xFFFF_FFFF, 0, *(1 << bit for bit in range(32))):
        board.link.write_registers(page, address, [word], privileged=True)
        found, = board.link.read_registers(page, address, privileged=True)
        _require(found == word, f"ENTRY_BASE_LO must keep {word:#010x}, and reads {found:#010x}")
    return f"{board.config.partitions} partition pages and the manager's; 34 words written and read"


async def _privilege(board: Board, source: random.Random) -> str:
    """The manager's page refuses who has no privilege."""
    address = register_map(board.config).manager["status"].offset
    try:
        found, = board.link.read_registers(board.config.manager_page, address)
    except RegisterError as error:
        return f"the manager's page refuses an access without privilege: {error.response}"
    raise SelfTestFailure("the manager's page must refuse a read without privilege, and answers "
                          f"{found:#010x}")


async def _interrupts(board: Board, source: random.Random) -> str:
    """Each line rises and falls alone."""
    for driver in board.drivers:
        await board.manager.reset_partition(driver.partition)
        driver.forget()
    page = register_map(board.config).partition
    test, enable = page["irq_test"], page["irq_enable"]
    for driver in board.drivers:
        board.link.write_registers(driver.partition, enable.offset, [enable.pack(event=1)])
        for raised in (1 << driver.partition, 0):
            board.link.write_registers(driver.partition, test.offset,
                                       [test.pack(event=bool(raised))])
            found = board.link.read_interrupts() & ~(1 << 31)
            _require(found == raised, f"interrupt lines must be {raised:#b} when partition "
                     f"{driver.partition} tests its own, not {found:#b}")
        board.link.write_registers(driver.partition, enable.offset, [0])
    return f"{len(board.drivers)} lines rise and fall"


async def _memory(board: Board, source: random.Random) -> str:
    """Blocks all over the memory march through patterns; every address line makes a difference."""
    last = board.memory_bytes - BLOCK_BYTES
    addresses = sorted({0, last, *(
        source.randrange(0, last + 1, BLOCK_BYTES) for _ in range(MARCHED_BLOCKS - 2))})
    patterns = [source.randbytes(BLOCK_BYTES), bytes([0x55]) * BLOCK_BYTES,
                bytes([0xAA]) * BLOCK_BYTES]
    previous: bytes | None = None
    for upwards, pattern in zip((True, True, False), patterns, strict=True):
        for address in addresses if upwards else reversed(addresses):
            if previous is not None:
                _compare(board, address, previous)
            board.link.write_memory(address, pattern)
        previous = pattern
    for address in addresses:
        _compare(board, address, patterns[-1])

    lines = [1 << bit for bit in range((board.memory_bytes - 1).bit_length())]
    places = [0, *(line for line in lines if line < board.memory_bytes)]
    for number, address in enumerate(places):
        board.link.write_memory(address, bytes([0x80 + number]))
    for number, address in enumerate(places):
        _compare(board, address, bytes([0x80 + number]))
    return (f"{len(addresses)} blocks of {BLOCK_BYTES} bytes in {board.memory_bytes:,} bytes, "
            f"3 patterns; {len(places) - 1} address lines")


def _compare(board: Board, address: int, expected: bytes) -> None:
    found = board.link.read_memory(address, len(expected))
    for at, (must, is_) in enumerate(zip(expected, found, strict=True)):
        _require(must == is_, f"the memory at {address + at:#x} must hold {must:#04x}, "
                 f"and holds {is_:#04x}")


async def _table(board: Board, source: random.Random) -> str:
    """The standard table is committed; an entry that breaks a rule is refused."""
    table = await board.set_up_standard()
    length = 1 << 16
    try:
        await board.manager.commit_entry(0, TableEntry(
            base=(1 << board.config.address_bits) - 64, length=length, owner=0))
    except CommitRefused as refused:
        _require(refused.reason == "BAD_END", "an entry that ends beyond the addresses must be "
                 f"refused with BAD_END, not {refused.reason}")
        return f"{len(table)} entries committed; one beyond the addresses refused: {refused.reason}"
    raise SelfTestFailure("an entry that ends beyond the addresses must be refused")


async def _messages(board: Board, source: random.Random) -> str:
    """A message for every ordered pair; its bytes arrive, and none beside them changes."""
    table = standard_table(board.config, board.memory_bytes)
    filled = {partition: 0 for partition in range(board.config.partitions)}
    # So that a ring holds one of each sender, and a byte behind it.
    count = min(MESSAGE_BYTES, (table[0].length - 1) // (board.config.partitions + 1))
    for sender, receiver in _pairs(board):
        origin, target = table[outbox(sender)], table[inbox(board.config, receiver)]
        position = filled[receiver]
        message = source.randbytes(count)
        board.write_memory(origin.base + SOURCE_OFFSET, message)
        board.write_memory(target.base + position, bytes(~byte & 0xFF for byte in message)
                           + b"\xA5")
        async with board.within(MESSAGE_TIMEOUT_S, f"the message {sender} → {receiver}"):
            await board.drivers[sender].send(outbox(sender), SOURCE_OFFSET,
                                             inbox(board.config, receiver), count, event=True,
                                             notify=True, tag=receiver)
            ended = await board.drivers[sender].wait_event()
            _require((ended.kind, ended.status) == (EventKind.COMPLETION, Status.OK),
                     f"the message {sender} → {receiver} must end OK, not {ended.status.name}")
            told = await board.drivers[receiver].wait_event()
        _require((told.kind, told.peer, told.offset, told.count)
                 == (EventKind.NOTIFICATION, sender, position, count),
                 f"partition {receiver} must be told of {count} bytes of {sender} at {position}, "
                 f"not {told}")
        arrived = board.read_memory(target.base + position, count + 1)
        _require(arrived[:-1] == message, f"the message {sender} → {receiver} must arrive "
                 "unchanged, and does not")
        _require(arrived[-1] == 0xA5, f"the byte behind the message {sender} → {receiver} must "
                 "stay, and does not")
        filled[receiver] += count
    for partition, count_bytes in filled.items():
        if count_bytes:
            await board.drivers[partition].consume(inbox(board.config, partition), count_bytes)
    return f"{len(_pairs(board))} ordered pairs, {count} bytes each, contents compared"


def _pairs(board: Board) -> list[tuple[int, int]]:
    """Ordered pairs of partitions; with a single one, itself."""
    everyone = range(board.config.partitions)
    return [(p, q) for p in everyone for q in everyone if p != q] or [(0, 0)]


async def _bounds(board: Board, source: random.Random) -> str:
    """A message that begins inside its entry and ends a byte behind it is refused."""
    table = standard_table(board.config, board.memory_bytes)
    sender, receiver = _pairs(board)[0]
    destination = inbox(board.config, receiver)
    target = table[destination]
    before = board.read_memory(target.base, BLOCK_BYTES)
    async with board.within(MESSAGE_TIMEOUT_S, "the refused message"):
        await board.drivers[sender].send(
            outbox(sender), table[outbox(sender)].length - 63, destination, 64)
        ended = await board.drivers[sender].wait_event()
    _require(ended.status is Status.SRC_BOUNDS, "a message that ends a byte behind its source "
             f"entry must end SRC_BOUNDS, not {ended.status.name}")
    _require(await board.drivers[receiver].pop_event() is None,
             f"partition {receiver} must not be told of a refused message")
    _require(board.read_memory(target.base, BLOCK_BYTES) == before,
             "a refused message must not change its destination")
    return f"a message a byte beyond its entry refused: {ended.status.name}"


async def _counters(board: Board, source: random.Random) -> str:
    """The counters count."""
    pair = _pairs(board)[0]
    before = (await board.manager.counters([pair]))[pair]
    async with board.within(MESSAGE_TIMEOUT_S, "the counted message"):
        number = await board.drivers[pair[0]].send(outbox(pair[0]), 0,
                                                   inbox(board.config, pair[1]), 64)
        await board.drivers[pair[0]].wait_completed(number)
    after = (await board.manager.counters([pair]))[pair]
    counted = (after.messages - before.messages, after.bytes - before.bytes,
               after.refused - before.refused)
    _require(counted == (1, 64, 0), "a message of 64 bytes must be counted as (messages, bytes, "
             f"refused) = (1, 64, 0), not {counted}")
    await board.drivers[pair[1]].consume(inbox(board.config, pair[1]), 64)
    return f"{pair[0]} → {pair[1]}: {after.messages} messages, {after.bytes:,} bytes"
