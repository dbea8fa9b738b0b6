# SPDX-License-Identifier: Apache-2.0
"""What the registers mean: pages → commands, settings, table changes; state → pages, irq."""

from __future__ import annotations

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import AXI4LiteSignature
from .config import ENTRY_UNIT_BYTES, OFFSET_BITS, AdapterConfig
from .events import COMPLETED_BITS, Event
from .faults import LOST_BITS
from .memory import ScrubbedMemory
from .messages import ID_BITS, ChangeKind, Command, Entry, Status, TableChange
from .registers import RegisterBank
from .table import lookup_cycles
from .turns import WAIT_BITS, WEIGHT_BITS

__all__ = ["Control"]


class Control(wiring.Component):
    """The register pages of the partitions and of the manager.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    bus : In(AXI4LiteSignature)
    irq : Out(config.partitions)
    irq_manager : Out(1)
        Levels: OR(state AND enable), registered.
    ready : In(1)
        The other units' memories are scrubbed; COMMAND writes before are rejected.
    push, full, room, cancel, resume, nudge, wake_all, settings, idle, empty, halted, waiting
        As of `CommandQueues`.
    changes, changed, max_count, query_id, query_owner, query_valid, query_cursor
        As of `FrontEnd`.
    accepted, completed : In(1)
        A command was accepted; an accepted command ended.
    room_freed, pop, compare, events_waiting, reached, event, completed_count
        As of `EventUnit`.
    fault_clear, fault_valid, fault_write, fault_status, fault_lost, fault_address
        As of `FaultLog`.
    read_partition, read_index : Out
        Whose state, and which element of the manager's partition array, is being read; stable for
        the two cycles before it is taken.
    """

    changes: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        self.bank = RegisterBank(config)
        bits = config.partition_bits
        everyone = config.partitions
        super().__init__({
            "bus": In(AXI4LiteSignature(address_bits=config.register_address_bits)),
            "irq": Out(everyone),
            "irq_manager": Out(1),
            "ready": In(1),
            "push": Out(data.StructLayout(
                {"en": 1, "partition": bits, "command": Command(config)})),
            "full": In(everyone),
            "room": In(range(config.command_queue_depth + 1)).array(everyone),
            "cancel": Out(everyone),
            "resume": Out(everyone),
            "nudge": Out(everyone),
            "wake_all": Out(1),
            "settings": Out(data.StructLayout({
                "partition": bits, "control_en": 1, "enabled": 1, "weight": WEIGHT_BITS,
                "limit_en": 1, "limit": WAIT_BITS})),
            "idle": In(everyone),
            "empty": In(everyone),
            "halted": In(everyone),
            "waiting": In(everyone),
            "changes": Out(stream.Signature(TableChange(config))),
            "changed": In(1),
            "max_count": Out(data.StructLayout(
                {"en": 1, "partition": bits, "count": OFFSET_BITS})),
            "query_id": Out(config.id_bits),
            "query_owner": In(bits),
            "query_valid": In(1),
            "query_cursor": In(OFFSET_BITS),
            "accepted": In(1),
            "completed": In(1),
            "room_freed": In(1),
            "pop": Out(data.StructLayout({"en": 1, "partition": bits})),
            "compare": Out(data.StructLayout(
                {"en": 1, "partition": bits, "value": COMPLETED_BITS})),
            "events_waiting": In(range(config.event_slots + 1)).array(everyone),
            "reached": In(everyone),
            "event": In(Event(config)),
            "completed_count": In(COMPLETED_BITS),
            "fault_clear": Out(everyone),
            "fault_valid": In(everyone),
            "fault_write": In(1),
            "fault_status": In(Status),
            "fault_lost": In(LOST_BITS),
            "fault_address": In(config.address_bits),
            "read_partition": Out(bits),
            "read_index": Out(bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bank = bank = self.bank
        wiring.connect(m, wiring.flipped(self.bus), bank.bus)
        ready = Signal()
        m.d.sync += ready.eq(self.ready & bank.ready)
        m.d.comb += [
            self.read_partition.eq(bank.read_partition),
            self.read_index.eq(bank.read_index),
        ]
        self._commands(m, bank, ready)
        self._partition_state(m, bank, ready)
        self._settings(m, bank)
        rewinds = self._rewinds(m, bank)
        self._table_changes(m, bank, rewinds)
        self._manager_state(m, bank, ready)
        return m

    def _commands(self, m: Module, bank: RegisterBank, ready: Signal) -> None:
        """Parameters, COMMAND, and the writes that act on a queue."""
        config = self.config
        registers = bank.map.partition
        write = bank.partition_write
        strobe = write.strobe
        parameters = {}
        for name, width in (("src_id", ID_BITS), ("src_offset", OFFSET_BITS),
                            ("dst_id", ID_BITS), ("count", OFFSET_BITS)):
            memory = ScrubbedMemory(width, depth=config.partitions, zeroed=True)
            m.submodules[name] = memory
            m.d.comb += [
                memory.write_en.eq(strobe[name]),
                memory.write_row.eq(write.partition),
                memory.write_data.eq(write.data),
                memory.read_row[0].eq(write.partition),
            ]
            parameters[name] = memory.read_data[0]

        word = registers["command"].view(write.data)
        command = self.push.command
        rejecting = Signal()
        m.d.comb += [
            self.push.en.eq(strobe.command & ready),
            self.push.partition.eq(write.partition),
            rejecting.eq(strobe.command
                         & (~ready | self.full.bit_select(write.partition, 1))),
        ]
        for name in ("op", "wait", "fence", "event", "notify", "tag"):
            m.d.comb += command[name].eq(word[name])
        for name, value in parameters.items():
            m.d.comb += command[name].eq(value)

        own_bit = Signal(config.partitions)
        m.d.comb += own_bit.eq(1 << write.partition)
        for name, target in (("cancel", self.cancel), ("resume", self.resume)):
            with m.If(strobe[name] & registers[name].view(write.data)[name]):
                m.d.comb += target.eq(own_bit)
        m.d.comb += [
            self.pop.en.eq(strobe.event_pop & registers["event_pop"].view(write.data).pop),
            self.pop.partition.eq(write.partition),
            self.compare.en.eq(strobe.completed_compare),
            self.compare.partition.eq(write.partition),
            self.compare.value.eq(write.data),
        ]

        # Rejected commands are counted, and remembered until STATUS.rejected is written with 1.
        rejected = Signal(config.partitions)
        m.submodules.rejections = rejections = ScrubbedMemory(
            bank.map.partition["rejected"]["count"].width, depth=config.partitions, reads=2)
        m.d.comb += [
            rejections.read_row[0].eq(write.partition),
            rejections.read_row[1].eq(bank.read_partition),
            rejections.write_en.eq(rejecting),
            rejections.write_row.eq(write.partition),
            rejections.write_data.eq(rejections.read_data[0] + 1),
            bank.partition_value.status.rejected.eq(
                rejected.bit_select(bank.read_partition, 1)),
        ]
        # What comes out of a memory goes through a flop on its way to the bus, here and below; the
        # bank leaves time for it.
        m.d.sync += bank.partition_value.rejected.count.eq(rejections.read_data[1])
        with m.If(rejecting):
            m.d.sync += rejected.eq(rejected | own_bit)
        with m.If(strobe.status & registers["status"].view(write.data).rejected):
            m.d.sync += rejected.eq(rejected & ~own_bit)

    def _partition_state(self, m: Module, bank: RegisterBank, ready: Signal) -> None:
        """What a partition reads of itself, and its interrupt."""
        config = self.config
        reader = bank.read_partition
        value = bank.partition_value
        status = value.status
        rooms = Array(self.room)
        waiting = Array(self.events_waiting)
        m.d.comb += [
            status.ready.eq(ready),
            status.idle.eq((self.idle & self.empty).bit_select(reader, 1)),
            status.halted.eq(self.halted.bit_select(reader, 1)),
            status.waiting.eq(self.waiting.bit_select(reader, 1)),
            status.room.eq(rooms[reader]),
            status.events.eq(waiting[reader]),
            value.event_info.kind.eq(self.event.kind),
            value.event_info.status.eq(self.event.status),
            value.event_info.tag.eq(self.event.tag),
            value.event_info.peer.eq(self.event.peer),
            value.event_id.id.eq(self.event.id),
            value.event_offset.offset.eq(self.event.offset),
            value.event_count.count.eq(self.event.count),
            value.config.partition.eq(reader),
        ]
        self._sizes(m, value.config)
        m.d.sync += value.completed.count.eq(self.completed_count)

        # RECEIVE_CURSOR: of an entry that the reader owns, otherwise 0, in the same time.
        m.submodules.receive_id = receive_id = ScrubbedMemory(
            ID_BITS, depth=config.partitions, zeroed=True)
        named = Signal()
        mine = Signal()
        m.d.sync += named.eq(~(receive_id.read_data[0] >> config.id_bits).any())
        m.d.comb += [
            receive_id.write_en.eq(bank.partition_write.strobe.receive_id),
            receive_id.write_row.eq(bank.partition_write.partition),
            receive_id.write_data.eq(bank.partition_write.data),
            receive_id.read_row[0].eq(reader),
            self.query_id.eq(receive_id.read_data[0]),
            mine.eq(self.query_valid & (self.query_owner == reader) & named),
        ]
        # A table in block RAM needs the second cycle for itself.
        domain = m.d.sync if lookup_cycles(config) == 1 else m.d.comb
        domain += value.receive_cursor.cursor.eq(Mux(mine, self.query_cursor, 0))

        events = Signal(config.partitions)
        for p, count in enumerate(self.events_waiting):
            m.d.comb += events[p].eq(count != 0)
        pending = self._interrupts(
            m, bank.map.partition, bank.partition_write,
            {"event": events, "completed": self.reached}, config.partitions)
        irq = Const(0, config.partitions)
        for name, (state, enabled) in pending.items():
            m.d.comb += value.irq_state[name].eq(state.bit_select(reader, 1))
            irq = irq | (state & enabled)
        m.d.sync += self.irq.eq(irq)

    def _interrupts(self, m: Module, page, write, sources: dict, owners: int) -> dict:
        """IRQ_ENABLE and IRQ_TEST of `owners` pages: (state, enable) vectors by source's name."""
        vectors = {}
        for name, source in sources.items():
            enable = Signal(owners, name=f"irq_enable_{name}")
            test = Signal(owners, name=f"irq_test_{name}")
            for register, vector in (("irq_enable", enable), ("irq_test", test)):
                bit = page[register].view(write.data)[name]
                with m.If(write.strobe[register]):
                    if owners == 1:
                        m.d.sync += vector.eq(bit)
                    else:
                        m.d.sync += vector.bit_select(write.partition, 1).eq(bit)
            state = Signal(owners, name=f"irq_state_{name}")
            m.d.comb += state.eq(source | test)
            vectors[name] = state, enable
        return vectors

    def _sizes(self, m: Module, word: data.View) -> None:
        """The CONFIG register, the same on every page but for its partition field."""
        config = self.config
        m.d.comb += [
            word.partitions_minus_1.eq(config.partitions - 1),
            word.entries_log2.eq(config.id_bits),
            word.data_bytes_log2.eq(config.size_log2),
            word.queue_log2.eq(config.command_queue_depth.bit_length() - 1),
            word.in_flight_log2.eq(config.messages_in_flight.bit_length() - 1),
        ]

    def _settings(self, m: Module, bank: RegisterBank) -> None:
        """The manager's settings of each partition."""
        registers = bank.map.manager
        write = bank.manager_write
        strobe = write.strobe
        control = registers["partition_control"].view(write.data)
        m.d.comb += [
            self.settings.partition.eq(write.index),
            self.settings.control_en.eq(strobe.partition_control),
            self.settings.enabled.eq(control.enabled),
            self.settings.weight.eq(control.weight),
            self.settings.limit_en.eq(strobe.partition_wait_limit),
            self.settings.limit.eq(write.data),
            self.max_count.en.eq(strobe.partition_max_count),
            self.max_count.partition.eq(write.index),
            self.max_count.count.eq(write.data),
        ]
        # A head that waits may be decided otherwise now.
        changed = (strobe.partition_control | strobe.partition_wait_limit
                   | strobe.partition_max_count)
        m.d.comb += self.nudge.eq(changed << write.index)
        with m.If(strobe.fault_clear):
            m.d.comb += self.fault_clear.eq(
                registers["fault_clear"].view(write.data).partitions)

    def _rewinds(self, m: Module, bank: RegisterBank) -> data.View:
        """REWIND of each partition: a request at a time, looked for in turn.

        Returns a view of {waiting, partition, id, taken}: `taken` is to be driven.
        """
        config = self.config
        write = bank.partition_write
        reader = bank.read_partition
        everyone = range(config.partitions)
        request = Signal(data.StructLayout({
            "waiting": 1, "partition": config.partition_bits, "id": ID_BITS, "taken": 1}),
            name="rewind")
        busy = Signal(config.partitions)
        done = Signal(config.partitions)
        refused = Signal(config.partitions)
        turn = Signal(config.partition_bits)
        m.submodules.rewind_id = ids = ScrubbedMemory(
            ID_BITS, depth=config.partitions, zeroed=True)
        m.d.comb += [
            # A write while the one before is still to be done changes nothing.
            ids.write_en.eq(write.strobe.rewind & ~busy.bit_select(write.partition, 1)),
            ids.write_row.eq(write.partition),
            ids.write_data.eq(write.data),
            ids.read_row[0].eq(turn),
            request.waiting.eq(busy.bit_select(turn, 1)),
            request.partition.eq(turn),
            request.id.eq(ids.read_data[0]),
        ]
        with m.If(~request.waiting | request.taken):
            m.d.sync += turn.eq(Mux(turn == config.partitions - 1, 0, turn + 1))
        for p in everyone:
            with m.If(ids.write_en & (write.partition == p)):
                m.d.sync += [busy[p].eq(1), done[p].eq(0), refused[p].eq(0)]
            with m.Elif(request.taken & (turn == p)):
                m.d.sync += [
                    busy[p].eq(0), done[p].eq(1), refused[p].eq(~self.changed)]
        value = bank.partition_value.rewind_status
        for name, vector in (("busy", busy), ("done", done), ("refused", refused)):
            m.d.comb += value[name].eq(vector.bit_select(reader, 1))
        return request

    def _table_changes(self, m: Module, bank: RegisterBank, rewind: data.View) -> None:
        """The staged entry and its commit; passes rewinds on in between."""
        config = self.config
        registers = bank.map.manager
        write = bank.manager_write
        strobe = write.strobe
        unit_log2 = ENTRY_UNIT_BYTES.bit_length() - 1

        staged_id = Signal(ID_BITS)
        base = Signal(64)
        length = Signal(OFFSET_BITS)
        access = Signal(data.StructLayout(
            {"valid": 1, "may_send": 1, "may_receive": 1, "owner": 5}))
        senders = Signal(config.partitions)
        access_word = registers["entry_access"].view(write.data)
        with m.If(strobe.entry_id):
            m.d.sync += staged_id.eq(write.data)
        with m.If(strobe.entry_base_lo):
            m.d.sync += base[:32].eq(write.data)
        with m.If(strobe.entry_base_hi):
            m.d.sync += base[32:].eq(write.data)
        with m.If(strobe.entry_length):
            m.d.sync += length.eq(write.data)
        with m.If(strobe.entry_access):
            for name in ("valid", "may_send", "may_receive", "owner"):
                m.d.sync += access[name].eq(access_word[name])
        with m.If(strobe.entry_senders):
            m.d.sync += senders.eq(write.data)

        reasons = registers["entry_status"]["reason"].encoding
        end = Signal(config.address_bits + 1)
        fault = Signal(3)
        m.d.sync += end.eq(base[:config.address_bits] + length)
        with m.If((staged_id >> config.id_bits).any()):
            m.d.sync += fault.eq(reasons["BAD_ID"])
        with m.Elif(base[:unit_log2].any() | (base >> config.address_bits).any()):
            m.d.sync += fault.eq(reasons["BAD_BASE"])
        with m.Elif(length[:unit_log2].any() | (access.valid & (length == 0))):
            m.d.sync += fault.eq(reasons["BAD_LENGTH"])
        with m.Elif(end > 1 << config.address_bits):
            m.d.sync += fault.eq(reasons["BAD_END"])
        with m.Elif(access.owner >= config.partitions):
            m.d.sync += fault.eq(reasons["BAD_OWNER"])
        with m.Else():
            m.d.sync += fault.eq(reasons["NONE"])

        busy = Signal()
        done = Signal()
        refused = Signal()
        reason = Signal(3)
        committing = Signal()
        m.d.comb += committing.eq(
            strobe.entry_commit & registers["entry_commit"].view(write.data).commit)
        with m.If(committing & busy):
            m.d.sync += [refused.eq(1), reason.eq(reasons["BUSY"])]
        status = bank.manager_value.entry_status
        m.d.comb += [
            status.busy.eq(busy), status.done.eq(done), status.refused.eq(refused),
            status.reason.eq(reason),
        ]
        self._commit_done = done

        # Every accepted command that has not completed may use the old entry.
        in_flight = Signal(config.message_count_bits)
        in_flight_next = Signal(config.message_count_bits)
        draining = Signal(config.message_count_bits)
        m.d.comb += in_flight_next.eq(in_flight + self.accepted - self.completed)
        m.d.sync += in_flight.eq(in_flight_next)

        entry = Signal(Entry(config))       # as it was when it was committed
        entry_id = Signal(config.id_bits)
        phase_kind = Signal(ChangeKind)
        wants_slot = Signal()               # the commit waits for a decision slot
        taken = Signal()
        with m.FSM():
            with m.State("IDLE"):
                with m.If(committing):
                    m.d.sync += [busy.eq(1), done.eq(0), refused.eq(0), reason.eq(0)]
                    m.next = "SUM"
            with m.State("SUM"):
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [
                    entry.valid.eq(access.valid),
                    entry.owner.eq(access.owner),
                    entry.base.eq(base[unit_log2:]),
                    entry.length.eq(length[unit_log2:]),
                    entry.may_send.eq(access.may_send),
                    entry.may_receive.eq(access.may_receive),
                    entry.senders.eq(senders),
                    entry_id.eq(staged_id),
                    reason.eq(fault),
                ]
                with m.If(fault.any()):
                    m.d.sync += [busy.eq(0), done.eq(1), refused.eq(1)]
                    m.next = "IDLE"
                with m.Else():
                    m.next = "INVALIDATE"
            with m.State("INVALIDATE"):
                m.d.comb += [wants_slot.eq(1), phase_kind.eq(ChangeKind.INVALIDATE)]
                m.d.sync += draining.eq(in_flight_next)
                with m.If(taken):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.sync += draining.eq(draining - self.completed)
                with m.If(draining == 0):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [wants_slot.eq(1), phase_kind.eq(ChangeKind.WRITE)]
                with m.If(taken):
                    m.d.sync += [busy.eq(0), done.eq(1)]
                    m.next = "IDLE"

        # One change at a time; a commit goes before rewinds.
        rewinding = Signal()
        change = self.changes.payload
        m.d.comb += [
            change.entry.eq(entry),
            taken.eq(self.changes.ready & ~rewinding),
            rewind.taken.eq(self.changes.ready & rewinding),
            # A change of the table may help, or end, any wait; a rewind those for its entry.
            self.wake_all.eq(self.room_freed | taken),
        ]
        with m.If(self.changes.valid):
            with m.If(self.changes.ready):
                m.d.sync += self.changes.valid.eq(0)
        with m.Elif(wants_slot):
            m.d.sync += [
                self.changes.valid.eq(1), rewinding.eq(0),
                change.kind.eq(phase_kind), change.id.eq(entry_id),
            ]
        with m.Elif(rewind.waiting & ~rewind.taken):
            m.d.sync += [
                self.changes.valid.eq(1), rewinding.eq(1),
                change.kind.eq(ChangeKind.REWIND), change.id.eq(rewind.id),
                change.partition.eq(rewind.partition),
            ]

    def _manager_state(self, m: Module, bank: RegisterBank, ready: Signal) -> None:
        """What the manager reads, and its interrupt."""
        value = bank.manager_value
        reader = bank.read_index
        m.d.comb += [
            value.status.ready.eq(ready),
            value.status.idle.eq((self.idle & self.empty).all()),
            value.fault_pending.partitions.eq(self.fault_valid),
        ]
        recorded = Signal()
        m.d.comb += recorded.eq(self.fault_valid.bit_select(reader, 1))
        for field, source in (
                (value.partition_fault_info.valid, 1),
                (value.partition_fault_info.direction, self.fault_write),
                (value.partition_fault_info.status, self.fault_status),
                (value.partition_fault_info.lost, self.fault_lost),
                (value.partition_fault_address_lo.address, self.fault_address[:32]),
                (value.partition_fault_address_hi.address, self.fault_address[32:])):
            m.d.sync += field.eq(Mux(recorded, source, 0))
        self._sizes(m, value.config)
        pending = self._interrupts(
            m, bank.map.manager, bank.manager_write,
            {"fault": self.fault_valid.any(), "commit": self._commit_done}, 1)
        irq = Const(0)
        for name, (state, enabled) in pending.items():
            m.d.comb += value.irq_state[name].eq(state)
            irq = irq | (state & enabled)
        m.d.sync += self.irq_manager.eq(irq)
