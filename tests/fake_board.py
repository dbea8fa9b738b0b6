# SPDX-License-Identifier: Apache-2.0
"""A board in Python for tests of the host: its end of the line, its bridge, and an adapter that
does at once what it is told. What it cannot do, `sim.board` can.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from mvxl.config import CONFIGS, AdapterConfig
from mvxl.driver import Event, TableEntry
from mvxl.host.frames import (PROTOCOL_VERSION, Deframer, FrameError, Hello, Operation, Reply,
                              ReplyStatus, Request, frame)
from mvxl.messages import EventKind, Status
from mvxl.registers import Page, Register, register_map
from sim.board import PseudoTerminal

__all__ = ["FakeAdapter", "FakeBoard", "FakePort", "ServedBoard"]


@dataclass
class _Partition:
    """State of a partition's page."""

    events: list[Event] = field(default_factory=list)
    completed: int = 0
    stored: dict[str, int] = field(default_factory=dict)


class FakeAdapter:
    """The registers that the host uses, over a memory of bytes.

    `wrong_reads` changes the word that a register reads as, by name; `lose_notifications` keeps
    the receiver's events back.
    """

    def __init__(self, config: AdapterConfig, memory_bytes: int) -> None:
        self.config = config
        self.map = register_map(config)
        self.memory = bytearray(memory_bytes)
        self.partitions = [_Partition() for _ in range(config.partitions)]
        self.stored: dict[str, int] = {}
        self.table: dict[int, TableEntry] = {}
        self.cursors: dict[int, int] = {}
        self.heads: dict[int, int] = {}
        self.counters: dict[tuple[int, int | None], list[int]] = {}
        self.entry_status = {"done": 0, "refused": 0, "reason": 0}
        self.receive_refused = 0
        self.faults: dict[int, dict[str, int]] = {}
        self.wrong_reads: dict[str, Callable[[int], int]] = {}
        self.lose_notifications = False

    def interrupts(self) -> int:
        return sum(1 << p for p in range(self.config.partitions) if self._irq(p))

    def _irq(self, partition: int) -> bool:
        one = self.partitions[partition]
        state = one.stored.get("irq_test", 0) | bool(one.events)
        if (one.completed - one.stored.get("completed_compare", 0)) % (1 << 32) < 1 << 31:
            state |= 2
        return bool(state & one.stored.get("irq_enable", 0))

    # ---- The register port ----

    def read(self, page: int, offset: int, privileged: bool) -> int | None:
        """The word; None for an error response."""
        found = self._find(page, offset, privileged)
        if found is None or not found[0].is_readable:
            return None
        register, index = found
        if register.name == "version":
            word = register.reset
        elif register.name == "config":
            word = self._config_word(register, 0 if page == self.config.manager_page else page)
        elif page == self.config.manager_page:
            word = self._read_manager(register, index)
        else:
            word = self._read_partition(register, page)
        return self.wrong_reads.get(register.name, lambda word: word)(word)

    def write(self, page: int, offset: int, word: int, privileged: bool) -> bool:
        """Whether it was answered OKAY."""
        found = self._find(page, offset, privileged)
        if found is None or not found[0].is_writable:
            return False
        register, index = found
        if page == self.config.manager_page:
            self.stored[f"{register.name}[{index}]"] = word
            self._act_manager(register, register.unpack(word))
        else:
            self.partitions[page].stored[register.name] = word
            self._act_partition(register, page, register.unpack(word))
        return True

    def _find(self, page: int, offset: int, privileged: bool) -> tuple[Register, int] | None:
        is_manager = page == self.config.manager_page
        if not is_manager and page >= self.config.partitions:
            return None
        registers: Page = self.map.manager if is_manager else self.map.partition
        for register in registers:
            count = register.array.count if register.array else 1
            stride = register.array.stride if register.array else 1
            index, rest = divmod(offset - register.offset, stride)
            if rest == 0 and 0 <= index < count:
                allowed = privileged or not (is_manager or register.privileged)
                return (register, index) if allowed else None
        return None

    def _config_word(self, register: Register, partition: int) -> int:
        config = self.config
        return register.pack(
            partition=partition, partitions_minus_1=config.partitions - 1,
            entries_log2=config.id_bits, data_bytes_log2=config.size_log2,
            queue_log2=config.command_queue_depth.bit_length() - 1,
            in_flight_log2=config.messages_in_flight.bit_length() - 1)

    def _read_partition(self, register: Register, partition: int) -> int:
        one = self.partitions[partition]
        event = one.events[0] if one.events else Event(EventKind.NONE, Status.OK, 0, 0, 0, 0, 0)
        words = {
            "status": lambda: register.pack(ready=1, idle=1, events=len(one.events),
                                            room=self.config.command_queue_depth),
            "completed": lambda: one.completed,
            "event_info": lambda: register.pack(kind=event.kind.value, status=event.status.value,
                                                tag=event.tag, peer=event.peer),
            "event_id": lambda: event.dst_id,
            "event_offset": lambda: event.offset,
            "event_count": lambda: event.count,
            "receive_status": lambda: register.pack(done=1, refused=self.receive_refused),
        }
        return words.get(register.name, lambda: one.stored.get(register.name, 0))()

    def _act_partition(self, register: Register, partition: int, fields: dict[str, int]) -> None:
        one = self.partitions[partition]
        if register.name == "command":
            self._send(partition, fields)
        elif register.name == "event_pop" and one.events:
            del one.events[0]
        elif register.name in ("rewind", "consume"):
            network_id = fields.get("id", one.stored.get("consume_id", 0))
            entry = self.table.get(network_id)
            filled = self.cursors.get(network_id, 0) - self.heads.get(network_id, 0)
            wanted = register.name == "consume"
            self.receive_refused = int(
                entry is None or entry.owner != partition or entry.ring != wanted
                or fields.get("count", 0) > filled)
            if not self.receive_refused and wanted:
                self.heads[network_id] += fields["count"]
            elif not self.receive_refused:
                self.cursors[network_id] = 0

    def _read_manager(self, register: Register, index: int) -> int:
        select = self._stored_fields("counter_select")
        pair = (select["sender"], None if select["none"] else select["receiver"])
        names = ("messages", "bytes", "refused", "waited")
        words = {
            "status": lambda: register.pack(ready=1, idle=1),
            "entry_status": lambda: register.pack(**self.entry_status),
            "resetting": lambda: 0,
            "memory_state": lambda: register.pack(settled=1),
            "fault_pending": lambda: sum(1 << p for p in self.faults),
            "partition_fault_info": lambda: register.pack(**self.faults.get(index, {})),
            **{f"counter_{name}_lo": lambda at=at: self.counters.get(pair, [0] * 4)[at]
               for at, name in enumerate(names)},
        }
        return words.get(register.name,
                         lambda: self.stored.get(f"{register.name}[{index}]", 0))()

    def _stored_fields(self, name: str, index: int = 0) -> dict[str, int]:
        return self.map.manager[name].unpack(self.stored.get(f"{name}[{index}]", 0))

    def _act_manager(self, register: Register, fields: dict[str, int]) -> None:
        if register.name == "entry_commit":
            self._commit()
        elif register.name == "entry_revoke":
            self.table.pop(fields["id"], None)
            self.entry_status = {"done": 1, "refused": 0, "reason": 0}
        elif register.name == "partition_reset":
            for partition in range(self.config.partitions):
                if fields["partitions"] >> partition & 1:
                    self.partitions[partition] = _Partition()

    def _commit(self) -> None:
        access = self._stored_fields("entry_access")
        base = self._stored_fields("entry_base_lo")["base"]
        length = self._stored_fields("entry_length")["length"]
        network_id = self._stored_fields("entry_id")["id"]
        senders = self._stored_fields("entry_senders")["senders"]
        reasons = self.map.manager["entry_status"]["reason"].encoding
        if base + length > 1 << self.config.address_bits:
            self.entry_status = {"done": 1, "refused": 1, "reason": reasons["BAD_END"]}
            return
        self.entry_status = {"done": 1, "refused": 0, "reason": 0}
        self.cursors[network_id] = self.heads[network_id] = 0
        self.table[network_id] = TableEntry(
            base=base, length=length, owner=access["owner"], may_send=bool(access["may_send"]),
            may_receive=bool(access["may_receive"]), ring=bool(access["ring"]),
            senders={p for p in range(self.config.partitions) if senders >> p & 1})

    # ---- A message ----

    def _send(self, partition: int, command: dict[str, int]) -> None:
        one = self.partitions[partition]
        source_id, source_offset, destination_id, count = (
            one.stored.get(name, 0) for name in ("src_id", "src_offset", "dst_id", "count"))
        source, target = self.table.get(source_id), self.table.get(destination_id)
        limit = self._stored_fields("partition_max_count", partition)["count"]
        offset = 0
        if not self._stored_fields("partition_control", partition)["enabled"]:
            status = Status.NOT_PERMITTED
        elif not 0 < count <= limit:
            status = Status.BAD_COUNT
        elif source is None or source.owner != partition or not source.may_send:
            status = Status.SRC_FAULT
        elif target is None or partition not in target.senders or not target.may_receive:
            status = Status.DST_FAULT
        elif source_offset + count > source.length:
            status = Status.SRC_BOUNDS
        else:
            filled = self.cursors[destination_id] - self.heads[destination_id]
            status = Status.OK if filled + count <= target.length else Status.DST_FULL
            offset = self.cursors[destination_id] % target.length
        one.completed += 1
        valid = target is not None and status not in (Status.DST_FAULT, Status.SRC_FAULT)
        peer = target.owner if target is not None and valid else None
        counters = self.counters.setdefault((partition, peer), [0] * 4)
        if status is Status.OK:
            assert source is not None and target is not None
            for at in range(count):
                place = target.base + (offset + at) % target.length
                self.memory[place] = self.memory[source.base + source_offset + at]
            self.cursors[destination_id] += count
            counters[0] += 1
            counters[1] += count
            if command["notify"] and not self.lose_notifications:
                self.partitions[target.owner].events.append(
                    Event(EventKind.NOTIFICATION, Status.OK, command["tag"], partition,
                          destination_id, offset, count))
        else:
            counters[2] += 1
        if command["event"] or status is not Status.OK:
            one.events.append(Event(EventKind.COMPLETION, status, command["tag"], peer or 0,
                                    destination_id, offset, count))


class FakeBoard:
    """The board's end of the line, which keeps to the protocol.

    `carried_out` has every request that was, once.
    """

    def __init__(self, config_name: str = "tiny", memory_bytes: int = 65_536) -> None:
        config = CONFIGS[config_name]
        self.adapter = FakeAdapter(config, memory_bytes)
        self.hello = Hello(
            version=PROTOCOL_VERSION, config=sorted(CONFIGS).index(config_name),
            partitions=config.partitions, page_log2=config.page_log2, clock_hz=100_000_000,
            memory_bytes=memory_bytes)
        self.carried_out: list[Request] = []
        self._deframer = Deframer()
        self._remembered: Reply | None = None

    def receive(self, line: bytes) -> bytes:
        """What the board sends for these bytes."""
        return b"".join(frame(self.reply(contents).encode())
                        for contents in self._deframer.feed(line) if len(contents) >= 8)

    def reply(self, contents: bytes) -> Reply:
        """The reply to a request; a repeated one is not carried out again."""
        remembered = self._remembered
        try:
            request = Request.decode(contents)
        except FrameError:
            if remembered is not None and remembered.sequence == contents[0]:
                return remembered
            request, reply = None, Reply(sequence=contents[0], status=ReplyStatus.BAD_REQUEST)
        if request is not None:
            if (remembered is not None and remembered.sequence == request.sequence
                    and request.operation is not Operation.HELLO):
                return remembered
            self.carried_out.append(request)
            reply = self._carry_out(request)
        self._remembered = reply
        return reply

    def _carry_out(self, request: Request) -> Reply:
        status, done, data = ReplyStatus.OK, 0, b""
        memory = self.adapter.memory
        place = slice(request.address, request.address + request.count)
        if request.operation is Operation.HELLO:
            data = self.hello.encode()
        elif request.operation in (Operation.READ_REGISTERS, Operation.WRITE_REGISTERS):
            status, done, data = self._access(request)
        elif request.operation is not Operation.INTERRUPTS:
            if place.stop > len(memory):
                status = ReplyStatus.BAD_REQUEST
            elif request.operation is Operation.READ_MEMORY:
                data = bytes(memory[place])
            else:
                memory[place] = request.data
        return Reply(sequence=request.sequence, status=status, done=done,
                     interrupts=self.adapter.interrupts(), data=data)

    def _access(self, request: Request) -> tuple[ReplyStatus, int, bytes]:
        config = self.adapter.config
        if not (request.page < config.partitions or request.page == config.manager_page):
            return ReplyStatus.BAD_REQUEST, 0, b""
        data = b""
        for number in range(request.count):
            offset = request.address + 4 * number
            if request.operation is Operation.READ_REGISTERS:
                word = self.adapter.read(request.page, offset, request.privileged)
                if word is None:
                    return ReplyStatus.SLVERR, number, data
                data += word.to_bytes(4, "little")
            else:
                word = int.from_bytes(request.data[4 * number:][:4], "little")
                if not self.adapter.write(request.page, offset, word, request.privileged):
                    return ReplyStatus.SLVERR, number, data
        return ReplyStatus.OK, request.count, data


class FakePort:
    """A serial port with a board behind it, for a link.

    `to_board` and `to_host` change what goes over the line, write by write and reply by reply.
    """

    port = "fake"
    baudrate = 10_000_000

    def __init__(self, board: FakeBoard) -> None:
        self.board = board
        self.to_board: Callable[[bytes], bytes] = lambda line: line
        self.to_host: Callable[[bytes], bytes] = lambda line: line
        self.closed = False
        self._arrived = bytearray()

    @property
    def in_waiting(self) -> int:
        return len(self._arrived)

    def read(self, size: int) -> bytes:
        taken = bytes(self._arrived[:size])
        del self._arrived[:size]
        return taken

    def write(self, data: bytes) -> int:
        self._arrived += self.to_host(self.board.receive(self.to_board(data)))
        return len(data)

    def close(self) -> None:
        self.closed = True


class ServedBoard:
    """A fake board behind a pseudo-terminal, for the host program. A context manager."""

    def __init__(self, board: FakeBoard) -> None:
        self._board = board
        self._terminal = PseudoTerminal()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.path = self._terminal.path
        #: After so many requests it is unplugged.
        self.requests_left: int | None = None

    def __enter__(self) -> ServedBoard:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()
        if self.requests_left != 0:
            self._terminal.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if not select.select([self._terminal.far], [], [], 0.02)[0]:
                continue
            before = len(self._board.carried_out)
            reply = self._board.receive(os.read(self._terminal.far, 4096))
            if self.requests_left is not None:
                self.requests_left -= len(self._board.carried_out) - before
                if self.requests_left <= 0:
                    self.requests_left = 0
                    self._terminal.close()
                    return
            self._terminal.send(reply)
