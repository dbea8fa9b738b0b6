# SPDX-License-Identifier: Apache-2.0
"""What the registers mean: pages → commands, orders, settings; state → pages, irq."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import AXI4LiteSignature
from .config import ENTRY_UNIT_BYTES, OFFSET_BITS, WAIT_BITS, AdapterConfig
from .counters import COUNTER_BITS, SELECT_BITS, Counter
from .events import COMPLETED_BITS, Event
from .faults import LOST_BITS
from .grants import Target
from .memory import BlockMemory, ScrubbedMemory
from .messages import (
    ID_BITS,
    TOKEN_BITS,
    Command,
    Entry,
    Grant,
    GrantKind,
    Kind,
    Op,
    Order,
    OrderKind,
    Status,
)
from .registers import WORD_BYTES, RegisterBank
from .turns import WEIGHT_BITS
from .watchdog import CHANNELS

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
    push, full, room, cancel, resume, nudge, wake_all, wake_changed, settings, idle, empty, halted,
    waiting
        As of `CommandQueues`.
    orders, order_status, hold, new_entry, raw_source, raw_destination, max_count, query_id,
    query_owner, query_valid, query_cursor, query_head
        As of `FrontEnd`.
    accepted, retired : In(1)
        Something was put in flight; something is through.
    completed : In(struct {en, partition, kind})
        Something that was in flight has ended, with `completed_status : In(Status)`.
    settled : In(1)
        No access is outstanding that belongs to anything that has ended.
    room_freed, pop, compare, events_waiting, events_there, reached, event, event_there,
    completed_count, events_clear, events_cleared
        As of `EventUnit`.
    live, expired, ending, held, busy, for_cpu, hidden, fresh, revoke, revoked, force, lease,
    grant, grant_target, grant_acknowledged
        As of `GrantUnit`, where the last three are shown, shown_target, shown_acknowledged.
    snapshot, snapshot_pending, counter_sender, counter_receiver, counter_none, counter_which,
    counter_value
        As of `CounterUnit`.
    timeout, up, down, channel
        As of `Watchdog`.
    partition_reset : In(config.partitions)
        Bit p: partition p is to be in reset.
    resetting : Out(config.partitions)
        Bit p: the reset of partition p is not done.
    write_violation, read_violation : Out(struct {en, partition, address})
        As of `RegisterBank`.
    fault_clear, fault_valid, fault_write, fault_status, fault_lost, fault_address
        As of `FaultLog`.
    read_ahead : Out(config.partition_bits)
        Whose state will be read, by itself or by the manager, as of `RegisterBank`.
    read_partition, read_index : Out
        Whose state, and which element of the manager's partition array, is being read; stable for
        the two cycles before it is taken.
    """

    orders: stream.Interface

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
            "room": In(range(config.command_queue_depth + 1)),
            "cancel": Out(everyone),
            "resume": Out(everyone),
            "nudge": Out(everyone),
            "wake_all": Out(1),
            "wake_changed": Out(data.StructLayout({"en": 1, "id": config.id_bits})),
            "settings": Out(data.StructLayout({
                "partition": bits, "control_en": 1, "enabled": 1, "grants": 2,
                "weight": WEIGHT_BITS, "limit_en": 1, "limit": WAIT_BITS})),
            "idle": In(everyone),
            "empty": In(everyone),
            "halted": In(everyone),
            "waiting": In(everyone),
            "orders": Out(stream.Signature(Order(config))),
            "order_status": In(Status),
            "hold": Out(1),
            "new_entry": Out(Entry(config)),
            "raw_source": Out(config.address_bits),
            "raw_destination": Out(config.address_bits),
            "max_count": Out(data.StructLayout(
                {"en": 1, "partition": bits, "count": OFFSET_BITS})),
            "query_id": Out(config.id_bits),
            "query_owner": In(bits),
            "query_valid": In(1),
            "query_cursor": In(OFFSET_BITS),
            "query_head": In(OFFSET_BITS),
            "accepted": In(1),
            "retired": In(1),
            "completed": In(data.StructLayout({"en": 1, "partition": bits, "kind": Kind})),
            "completed_status": In(Status),
            "settled": In(1),
            "room_freed": In(1),
            "pop": Out(data.StructLayout({"en": 1, "partition": bits})),
            "compare": Out(data.StructLayout(
                {"en": 1, "partition": bits, "value": COMPLETED_BITS})),
            "events_waiting": In(range(config.event_slots + 1)).array(everyone),
            "events_there": In(everyone),
            "reached": In(everyone),
            "event": In(Event(config)),
            "event_there": In(1),
            "completed_count": In(COMPLETED_BITS),
            "events_clear": Out(data.StructLayout({"en": 1, "partition": bits})),
            "events_cleared": In(1),
            "live": In(everyone),
            "expired": In(everyone),
            "ending": In(everyone),
            "held": In(everyone),
            "busy": In(everyone),
            "for_cpu": In(everyone),
            "hidden": In(everyone),
            "fresh": In(everyone),
            "revoke": Out(data.StructLayout({"en": 1, "id": config.id_bits})),
            "revoked": In(1),
            "force": Out(everyone),
            "lease": Out(WAIT_BITS),
            "grant": In(Grant(config)),
            "grant_target": In(Target(config)),
            "grant_acknowledged": In(OFFSET_BITS),
            "snapshot": Out(1),
            "snapshot_pending": In(1),
            "counter_sender": Out(SELECT_BITS),
            "counter_receiver": Out(SELECT_BITS),
            "counter_none": Out(1),
            "counter_which": Out(Counter),
            "counter_value": In(COUNTER_BITS),
            "timeout": Out(data.StructLayout({"en": 1, "cycles": WAIT_BITS})),
            "up": Out(1),
            "down": In(1),
            "channel": In(range(len(CHANNELS))),
            "partition_reset": In(everyone),
            "resetting": Out(everyone),
            "write_violation": Out(self.bank.write_violation.shape()),
            "read_violation": Out(self.bank.read_violation.shape()),
            "fault_clear": Out(everyone),
            "fault_valid": In(everyone),
            "fault_write": In(1),
            "fault_status": In(Status),
            "fault_lost": In(LOST_BITS),
            "fault_address": In(config.address_bits),
            "read_ahead": Out(bits),
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
            self.read_ahead.eq(bank.read_ahead),
            self.read_partition.eq(bank.read_partition),
            self.read_index.eq(bank.read_index),
            self.write_violation.eq(bank.write_violation),
            self.read_violation.eq(bank.read_violation),
            bank.frozen.eq(self.resetting),
        ]
        sweep = self._resets(m, bank)
        self._commands(m, bank, ready, sweep)
        self._partition_state(m, bank, ready, sweep)
        self._grant_state(m, bank)
        self._settings(m, bank)
        self._raw_moves(m, bank)
        self._entry_changes(m, bank)
        self._requested_orders(m, bank, sweep)
        self._orders(m)
        self._manager_state(m, bank, ready)
        return m

    def _resets(self, m: Module, bank: RegisterBank) -> data.View:
        """Resets of partitions.

        A partition in reset is frozen until its queue is empty, nothing of it is in flight and its
        grant has ended; then its registers are swept, one partition at a time.

        Returns a view of {en, partition, row, held_up, last}: while `en` is 1 everything that
        is kept for `partition` is set to 0. Memories with several rows for a partition do so row
        by row; `held_up`: a register of some partition is being written, so that they wait.
        """
        config = self.config
        registers = bank.map.manager
        sweep = Signal(data.StructLayout(
            {"en": 1, "partition": config.partition_bits, "row": 2, "held_up": 1}), name="sweep")
        asked = Signal(config.partitions)
        quiet = Signal(config.partitions)
        swept = Signal(config.partitions)
        turn = Signal(config.partition_bits)
        self._requests_idle = Signal(config.partitions)
        with m.If(bank.manager_write.strobe.partition_reset):
            m.d.comb += asked.eq(registers["partition_reset"].view(
                bank.manager_write.data).partitions)
        m.d.comb += [
            quiet.eq(self.empty & self.idle & ~self.held & self._requests_idle),
            sweep.partition.eq(turn),
            sweep.held_up.eq(bank.partition_write.some),
            bank.clear.partition.eq(turn),
            self.events_clear.partition.eq(turn),
        ]
        for p in range(config.partitions):
            with m.If(asked[p] | self.partition_reset[p]):
                m.d.sync += self.resetting[p].eq(1)
            with m.Elif(swept[p] & ~self.events_there[p]):
                m.d.sync += self.resetting[p].eq(0)
            with m.If(asked[p] | ~self.resetting[p]):
                m.d.sync += swept[p].eq(0)
            with m.Elif(self.events_cleared & (turn == p)):
                m.d.sync += swept[p].eq(1)

        due = Signal(config.partitions)     # of the cycle before: it stays so
        m.d.sync += due.eq(self.resetting & quiet & ~swept)

        def pass_on() -> None:
            m.d.sync += turn.eq(Mux(turn == config.partitions - 1, 0, turn + 1))

        with m.FSM():
            with m.State("LOOK"):
                with m.If(due.bit_select(turn, 1)):
                    m.next = "SWEEP"
                with m.Else():
                    pass_on()
            with m.State("SWEEP"):
                # The bank has more rows than any other memory.
                m.d.comb += [bank.clear.en.eq(1), sweep.en.eq(1)]
                with m.If(~sweep.held_up):
                    m.d.sync += sweep.row.eq(sweep.row + 1)
                with m.If(bank.cleared):
                    m.next = "COMPLETED"
            with m.State("COMPLETED"):
                m.d.comb += self.events_clear.en.eq(1)
                with m.If(self.events_cleared):
                    pass_on()
                    m.next = "LOOK"
        return sweep

    def _commands(self, m: Module, bank: RegisterBank, ready: Signal, sweep: data.View) -> None:
        """Parameters, COMMAND and its like, and the writes that act on a queue."""
        config = self.config
        registers = bank.map.partition
        write = bank.partition_write
        strobe = write.strobe
        command = self.push.command

        # Each partition has four sets of parameters, in neighbouring rows. A token takes the place
        # of both IDs.
        uses = {
            "src_id": ("src_id", "grant_src_id", "mvxl_token", "release_token"),
            "src_offset": ("src_offset", "grant_src_offset", "mvxl_src", None),
            "dst_id": ("dst_id", "grant_dst_id", "mvxl_token", "release_token"),
            "dst_offset": ("dst_offset", None, "mvxl_dst", None),
            "count": ("count", "grant_count", "mvxl_count", None),
        }
        starts = ("command", "grant_command", "mvxl_command", "release")
        parameter_set = Signal(2)
        with m.If(write.oncoming.en):
            m.d.sync += parameter_set.eq(0)
            with m.Switch(write.oncoming.word):
                for number, start in enumerate(starts):
                    with m.Case(*{registers[name].offset // WORD_BYTES
                                  for name in (start, *(names[number] for names in uses.values()))
                                  if name}):
                        m.d.sync += parameter_set.eq(number)
        for name, registers_of in uses.items():
            width = ID_BITS if name in ("src_id", "dst_id") else OFFSET_BITS
            memory = ScrubbedMemory(width, depth=4 << config.partition_bits, zeroed=True)
            m.submodules[name] = memory
            written = Cat(strobe[register] for register in registers_of if register).any()
            data_in = write.data
            if name == "src_id":
                data_in = Mux(strobe.mvxl_token | strobe.release_token,
                              write.data[ID_BITS:], write.data)
            row = Cat(parameter_set, write.partition)
            m.d.comb += [
                memory.write_en.eq(written | (sweep.en & ~sweep.held_up)),
                memory.write_row.eq(
                    Mux(sweep.held_up, row, Cat(sweep.row, sweep.partition))),
                memory.write_data.eq(Mux(sweep.held_up, data_in, 0)),
                memory.read_row[0].eq(row),
                command[name].eq(memory.read_data[0]),
            ]
        self._release_token = Cat(command.dst_id, command.src_id)

        # A COMMAND names the first two operations only; the others have registers of their own.
        word = registers["command"].view(write.data)
        pushing = Signal()
        rejecting = Signal()
        m.d.comb += [
            pushing.eq(strobe.command | strobe.grant_command | strobe.mvxl_command),
            self.push.en.eq(pushing & ready),
            self.push.partition.eq(write.partition),
            rejecting.eq(pushing
                         & (~ready | self.full.bit_select(write.partition, 1))),
            command.wait.eq(word.wait & ~strobe.mvxl_command),
            command.fence.eq(word.fence & ~strobe.grant_command),
            command.event.eq(word.event),
            command.notify.eq(word.notify & ~strobe.mvxl_command),
            command.tag.eq(word.tag),
        ]
        with m.If(strobe.grant_command):
            # Nothing else is in its row of that memory.
            m.d.comb += [
                command.op.eq(Op.GRANT),
                command.dst_offset[0].eq(registers["grant_command"].view(write.data).kind),
            ]
        with m.Elif(strobe.mvxl_command):
            m.d.comb += command.op.eq(Op.MVXL)
        with m.Elif((word.op == Op.SEND) | (word.op == Op.MVCL)):
            m.d.comb += command.op.eq(word.op)

        own_bit = Signal(config.partitions)
        m.d.comb += own_bit.eq(1 << write.partition)
        for name, target in (("cancel", self.cancel), ("resume", self.resume)):
            with m.If(strobe[name] & registers[name].view(write.data)[name]):
                m.d.comb += target.eq(own_bit)
        m.d.comb += [
            self.compare.en.eq(strobe.completed_compare),
            self.compare.partition.eq(write.partition),
            self.compare.value.eq(write.data),
        ]

        # An event that comes after the write is not meant by it.
        m.d.sync += [
            self.pop.en.eq(strobe.event_pop & registers["event_pop"].view(write.data).pop
                           & self.events_there.bit_select(write.partition, 1)),
            self.pop.partition.eq(write.partition),
        ]

        # Rejected commands are counted, and remembered until STATUS.rejected is written with 1.
        # They are counted through the port by which the count is read: two writes are far enough
        # apart for one that waits for a read. The port's row is from a flop.
        rejected = Signal(config.partitions)
        m.submodules.rejections = rejections = ScrubbedMemory(
            bank.map.partition["rejected"]["count"].width, depth=config.partitions)
        uncounted = Signal()
        uncounted_of = Signal(config.partition_bits)
        next_counts = Signal()
        counting = Signal()
        port_row = Signal(config.partition_bits)
        m.d.sync += [
            counting.eq(next_counts),
            port_row.eq(Mux(next_counts, uncounted_of, bank.read_partition)),
        ]
        m.d.comb += [
            next_counts.eq(uncounted & ~bank.fetching),
            rejections.read_row[0].eq(port_row),
            rejections.write_en.eq(counting | (sweep.en & ~sweep.held_up)),
            rejections.write_row.eq(Mux(counting, port_row, sweep.partition)),
            rejections.write_data.eq(Mux(counting, rejections.read_data[0] + 1, 0)),
            bank.partition_value.status.rejected.eq(
                rejected.bit_select(bank.read_partition, 1)),
        ]
        m.d.comb += [
            bank.partition_value.rejected.count.eq(rejections.read_data[0]),
            bank.partition_shown.rejected.eq(1),
        ]
        with m.If(rejecting):
            m.d.sync += [uncounted.eq(1), uncounted_of.eq(write.partition)]
        with m.Elif(next_counts):
            m.d.sync += uncounted.eq(0)
        with m.If(rejecting):
            m.d.sync += rejected.eq(rejected | own_bit)
        with m.If(strobe.status & registers["status"].view(write.data).rejected):
            m.d.sync += rejected.eq(rejected & ~own_bit)
        with m.If(sweep.en):
            m.d.sync += rejected.bit_select(sweep.partition, 1).eq(0)

    def _partition_state(self, m: Module, bank: RegisterBank, ready: Signal,
                         sweep: data.View) -> None:
        """What a partition reads of itself, and its interrupt."""
        config = self.config
        reader = bank.read_partition
        value = bank.partition_value
        status = value.status
        waiting = Array(self.events_waiting)
        m.d.comb += [
            status.ready.eq(ready & ~self.resetting.bit_select(reader, 1)),
            status.idle.eq((self.idle & self.empty).bit_select(reader, 1)),
            status.halted.eq(self.halted.bit_select(reader, 1)),
            status.waiting.eq(self.waiting.bit_select(reader, 1)),
            status.room.eq(self.room),
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
        shown = bank.partition_shown
        m.d.comb += [value.completed.count.eq(self.completed_count), shown.completed.eq(1)]
        for name in ("status", "irq_state", "receive_status", "release_status"):
            m.d.comb += shown[name].eq(1)
        for name in ("event_info", "event_id", "event_offset", "event_count"):
            m.d.comb += shown[name].eq(self.event_there)

        # RECEIVE: of an entry that the reader owns, otherwise 0, in the same time. The two copies
        # are 16 bytes apart.
        write = bank.partition_write
        second_read = bank.read_word[2]
        m.submodules.receive_id = receive_id = ScrubbedMemory(
            ID_BITS, depth=2 << config.partition_bits, zeroed=True)
        named = Signal()
        mine = Signal()
        writing = Signal()
        m.d.sync += named.eq(~(receive_id.read_data[0] >> config.id_bits).any())
        m.d.comb += [
            value.receive_cursor.cursor.eq(self.query_cursor),
            value.receive_head.head.eq(self.query_head),
            shown.receive_cursor.eq(mine),
            shown.receive_head.eq(mine),
            writing.eq(write.strobe.receive_id | write.strobe.receive2_id),
            receive_id.write_en.eq(writing | (sweep.en & ~sweep.held_up)),
            receive_id.write_row.eq(Mux(
                writing, Cat(write.strobe.receive2_id, write.partition),
                Cat(sweep.row[0], sweep.partition))),
            receive_id.write_data.eq(Mux(writing, write.data, 0)),
            receive_id.read_row[0].eq(Cat(second_read, reader)),
            self.query_id.eq(receive_id.read_data[0]),
            mine.eq(self.query_valid & (self.query_owner == reader) & named),
        ]
        pending = self._interrupts(
            m, bank.map.partition, bank.partition_write,
            {"event": self.events_there, "completed": self.reached}, config.partitions, sweep)
        irq = Const(0, config.partitions)
        for name, (state, enabled) in pending.items():
            m.d.comb += value.irq_state[name].eq(state.bit_select(reader, 1))
            irq = irq | (state & enabled)
        m.d.sync += self.irq.eq(irq)

    def _interrupts(self, m: Module, page, write, sources: dict, owners: int,
                    sweep: data.View | None = None) -> dict:
        """IRQ_ENABLE and IRQ_TEST of `owners` pages: (state, enable) vectors by source's name."""
        vectors = {}
        for name, source in sources.items():
            enable = Signal(owners, name=f"irq_enable_{name}")
            test = Signal(owners, name=f"irq_test_{name}")
            for register, vector in (("irq_enable", enable), ("irq_test", test)):
                bit = page[register].view(write.data)[name]
                with m.If(write.strobe[register]):
                    if sweep is None:
                        m.d.sync += vector.eq(bit)
                    else:
                        m.d.sync += vector.bit_select(write.partition, 1).eq(bit)
                if sweep is not None:
                    with m.If(sweep.en):
                        m.d.sync += vector.bit_select(sweep.partition, 1).eq(0)
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

    def _grant_state(self, m: Module, bank: RegisterBank) -> None:
        """What a partition and the manager read of a grant."""
        value = bank.partition_value
        shown = bank.partition_shown
        lock = bank.manager_value.partition_lock
        reader = Signal.like(self.read_ahead)
        held = Signal()
        live = Signal()
        busy = Signal()
        kind = Signal(GrantKind)
        told = Signal()         # addresses are told
        through = Signal()      # bytes may be acknowledged
        # The records are read as AR comes, the states a cycle later. What is given just then is not
        # shown yet.
        m.d.sync += reader.eq(bank.read_ahead)
        there = self.held & ~self.hidden
        m.d.sync += [
            held.eq(there.bit_select(reader, 1)),
            live.eq((self.live & there).bit_select(reader, 1)),
            kind.eq((self.for_cpu & there).bit_select(reader, 1)),
            told.eq((self.for_cpu & self.live & there).bit_select(reader, 1)),
            busy.eq((self.busy & there).bit_select(reader, 1)),
            through.eq((self.live & there & ~self.fresh).bit_select(reader, 1)),
        ]
        m.d.comb += [
            lock.id.eq(self.grant.dst_id),
            bank.manager_shown.partition_lock.eq(held),
            shown.grant_state.eq(1),
        ]
        for word in (value.grant_state, lock):
            m.d.comb += [
                word.held.eq(held), word.live.eq(live), word.kind.eq(kind), word.busy.eq(busy)]
        m.d.comb += [
            value.grant_token.token.eq(self.grant.token),
            value.grant_acknowledged.count.eq(self.grant_acknowledged),
            value.grant_first.count.eq(self.grant_target.first),
            shown.grant_token.eq(live),
            shown.grant_acknowledged.eq(through),
            shown.grant_first.eq(told),
        ]
        for name, address in (("src", self.grant.src_address),
                              ("dst", self.grant_target.address),
                              ("next", self.grant_target.next)):
            m.d.comb += [
                value[f"grant_{name}_lo"].address.eq(address[:32]),
                value[f"grant_{name}_hi"].address.eq(address[32:]),
                shown[f"grant_{name}_lo"].eq(told),
                shown[f"grant_{name}_hi"].eq(told),
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
            self.settings.grants.eq(Cat(control.grant_engine, control.grant_cpu)),
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
        for name, target in (("fault_clear", self.fault_clear), ("lock_release", self.force)):
            with m.If(strobe[name]):
                m.d.comb += target.eq(registers[name].view(write.data).partitions)
        with m.If(strobe.lease):
            m.d.sync += self.lease.eq(write.data)
        select = registers["counter_select"].view(write.data)
        with m.If(strobe.counter_select):
            m.d.sync += [
                self.counter_sender.eq(select.sender),
                self.counter_receiver.eq(select.receiver),
                self.counter_none.eq(select.none),
            ]
        m.d.comb += [
            self.snapshot.eq(strobe.counter_snapshot
                             & registers["counter_snapshot"].view(write.data).snapshot),
            self.timeout.en.eq(strobe.memory_timeout),
            self.timeout.cycles.eq(write.data),
            self.up.eq(strobe.memory_up & registers["memory_up"].view(write.data).up
                       & self.settled),
        ]

    def _raw_moves(self, m: Module, bank: RegisterBank) -> None:
        """The manager's MVXL: `_raw_waits` until its order is taken (`_raw_taken`)."""
        config = self.config
        registers = bank.map.manager
        write = bank.manager_write
        strobe = write.strobe
        addresses = {name: self._address(m, f"raw_{name}", strobe[f"mvxl_{name}_lo"],
                                         strobe[f"mvxl_{name}_hi"], write.data)
                     for name in ("src", "dst")}
        count = Signal(OFFSET_BITS)
        with m.If(strobe.mvxl_count):
            m.d.sync += count.eq(write.data)

        starting = Signal()
        busy = Signal()
        done = Signal()
        status = Signal(Status)
        source = Signal(config.address_bits)
        destination = Signal(config.address_bits)
        self._raw_count = Signal(OFFSET_BITS)       # as they were when it was started
        self._raw_waits = Signal()
        self._raw_taken = Signal()
        value = bank.manager_value.mvxl_status
        m.d.comb += [
            starting.eq(strobe.mvxl_command
                        & registers["mvxl_command"].view(write.data).start & ~busy),
            self.raw_source.eq(source),
            self.raw_destination.eq(destination),
            value.busy.eq(busy), value.done.eq(done), value.status.eq(status),
        ]
        end = Signal(config.address_bits + 1)
        beyond = Signal()
        m.d.sync += beyond.eq(end[-1] & end[:-1].any())
        with m.If(starting):
            m.d.sync += [
                busy.eq(1), done.eq(0), source.eq(addresses["src"].inside),
                destination.eq(addresses["dst"].inside), self._raw_count.eq(count)]

        def refuse(reason: Status) -> None:
            m.d.sync += [busy.eq(0), done.eq(1), status.eq(reason)]
            m.next = "IDLE"

        with m.FSM():
            with m.State("IDLE"):
                with m.If(starting):
                    m.d.sync += status.eq(Status.OK)
                    m.next = "SOURCE"
            with m.State("SOURCE"):
                m.d.sync += end.eq(source + self._raw_count)
                m.next = "DESTINATION"
                with m.If(self._raw_count == 0):
                    refuse(Status.BAD_COUNT)
                with m.Elif(addresses["src"].beyond):
                    refuse(Status.SRC_BOUNDS)
            with m.State("DESTINATION"):
                m.d.sync += end.eq(destination + self._raw_count)
                m.next = "CHECK SOURCE"
            with m.State("CHECK SOURCE"):
                m.next = "CHECK DESTINATION"
                with m.If(beyond):
                    refuse(Status.SRC_BOUNDS)
                with m.Elif(addresses["dst"].beyond):
                    refuse(Status.DST_BOUNDS)
            with m.State("CHECK DESTINATION"):
                m.next = "START"
                with m.If(beyond):
                    refuse(Status.DST_BOUNDS)
                with m.Elif(self.down):
                    refuse(Status.TIMEOUT)
            with m.State("START"):
                m.d.comb += self._raw_waits.eq(1)
                with m.If(self._raw_taken):
                    m.next = "MOVE"
            with m.State("MOVE"):
                with m.If(self.completed.en & (self.completed.kind == Kind.RAW)):
                    m.d.sync += [busy.eq(0), done.eq(1), status.eq(self.completed_status)]
                    m.next = "IDLE"

    def _address(self, m: Module, name: str, low: Signal, high: Signal,
                 word: Signal) -> data.View:
        """A bus address that is written in two words: `inside` the width of addresses, and whether
        it is `beyond`, which an address cannot be that was never written.
        """
        bits = self.config.address_bits
        address = Signal(data.StructLayout({"inside": bits, "beyond": 1}), name=name)
        with m.If(low):
            m.d.sync += address.inside[:32].eq(word)
        with m.If(high):
            m.d.sync += [address.inside[32:].eq(word), address.beyond.eq((word >> bits - 32).any())]
        return address

    def _entry_changes(self, m: Module, bank: RegisterBank) -> None:
        """The staged entry, its commit, and revokes.

        `_change_waits` for an order of `_change_kind` for `_change_id`, until `_change_taken`.
        """
        config = self.config
        registers = bank.map.manager
        write = bank.manager_write
        strobe = write.strobe
        unit_log2 = ENTRY_UNIT_BYTES.bit_length() - 1

        staged_id = Signal(ID_BITS)
        base = self._address(m, "base", strobe.entry_base_lo, strobe.entry_base_hi, write.data)
        length = Signal(OFFSET_BITS)
        access = Signal(data.StructLayout(
            {"valid": 1, "may_send": 1, "may_receive": 1, "ring": 1, "owner": 5}))
        senders = Signal(config.partitions)
        access_word = registers["entry_access"].view(write.data)
        with m.If(strobe.entry_id):
            m.d.sync += staged_id.eq(write.data)
        with m.If(strobe.entry_length):
            m.d.sync += length.eq(write.data)
        with m.If(strobe.entry_access):
            for name in access.shape().members:
                m.d.sync += access[name].eq(access_word[name])
        with m.If(strobe.entry_senders):
            m.d.sync += senders.eq(write.data)

        busy = Signal()
        done = Signal()
        refused = Signal()
        reason = Signal(3)
        committing = Signal()
        beginning = Signal()
        revoking = Signal()
        changed_id = Signal(ID_BITS)
        m.d.comb += [
            committing.eq(strobe.entry_commit
                          & registers["entry_commit"].view(write.data).commit),
            beginning.eq(committing | strobe.entry_revoke),
        ]

        reasons = registers["entry_status"]["reason"].encoding
        end = Signal(config.address_bits + 1)
        fault = Signal(3)
        m.d.sync += end.eq(base.inside + length)
        with m.If((changed_id >> config.id_bits).any()):
            m.d.comb += fault.eq(reasons["BAD_ID"])
        with m.Elif(revoking):
            m.d.comb += fault.eq(reasons["NONE"])
        with m.Elif(base.inside[:unit_log2].any() | base.beyond):
            m.d.comb += fault.eq(reasons["BAD_BASE"])
        with m.Elif(length[:unit_log2].any() | (access.valid & (length == 0))):
            m.d.comb += fault.eq(reasons["BAD_LENGTH"])
        with m.Elif(end[-1] & end[:-1].any()):
            m.d.comb += fault.eq(reasons["BAD_END"])
        with m.Elif(access.owner >= config.partitions):
            m.d.comb += fault.eq(reasons["BAD_OWNER"])
        checked = Signal(3)
        m.d.sync += checked.eq(fault)

        with m.If(beginning & busy):
            m.d.sync += [refused.eq(1), reason.eq(reasons["BUSY"])]
        status = bank.manager_value.entry_status
        m.d.comb += [
            status.busy.eq(busy), status.done.eq(done), status.refused.eq(refused),
            status.reason.eq(reason),
        ]
        self._change_done = done

        # All that is in flight may use the old entry.
        in_flight_bits = config.message_count_bits + 2
        in_flight = Signal(in_flight_bits)
        in_flight_next = Signal(in_flight_bits)
        draining = Signal(in_flight_bits)
        m.d.comb += in_flight_next.eq(in_flight + self.accepted - self.retired)
        m.d.sync += in_flight.eq(in_flight_next)

        entry = self.new_entry      # as it was when it was committed
        self._change_id = changed_id
        self._change_kind = Signal(OrderKind)
        self._change_waits = Signal()
        self._change_taken = Signal()
        m.d.comb += self.revoke.id.eq(changed_id)
        # No request may come between the write of the register and the end of what it granted.
        holding = Signal()
        m.d.comb += self.hold.eq(beginning | holding)
        with m.FSM() as changing:
            with m.State("IDLE"):
                with m.If(beginning):
                    m.d.sync += [
                        holding.eq(1), busy.eq(1), done.eq(0), refused.eq(0), reason.eq(0),
                        revoking.eq(strobe.entry_revoke),
                        changed_id.eq(Mux(strobe.entry_revoke, write.data, staged_id)),
                    ]
                    m.next = "SUM"
            with m.State("SUM"):
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [
                    entry.valid.eq(access.valid & ~revoking),
                    entry.owner.eq(access.owner),
                    entry.base.eq(base.inside[unit_log2:]),
                    entry.length.eq(length[unit_log2:]),
                    entry.may_send.eq(access.may_send),
                    entry.may_receive.eq(access.may_receive),
                    entry.ring.eq(access.ring),
                    entry.senders.eq(senders),
                    reason.eq(checked),
                ]
                with m.If(checked.any()):
                    m.d.sync += [holding.eq(0), busy.eq(0), done.eq(1), refused.eq(1)]
                    m.next = "IDLE"
                with m.Else():
                    m.next = "INVALIDATE"
            with m.State("INVALIDATE"):
                m.d.comb += [
                    self._change_waits.eq(1),
                    self._change_kind.eq(OrderKind.INVALIDATE),
                    self.revoke.en.eq(self._change_taken),
                ]
                with m.If(self._change_taken):
                    m.next = "GRANTS"
            with m.State("GRANTS"):
                # Those that end because of it are to be in flight before all that is drained.
                m.d.sync += draining.eq(in_flight_next)
                with m.If(self.revoked & ~self.ending.any()):
                    m.d.sync += holding.eq(0)
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(draining != 0):
                    m.d.sync += draining.eq(draining - self.retired)
                with m.Elif(self.settled):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [self._change_waits.eq(1), self._change_kind.eq(OrderKind.WRITE)]
                with m.If(self._change_taken):
                    m.d.sync += [busy.eq(0), done.eq(1)]
                    m.next = "IDLE"
        self._change_ends_grants = changing.ongoing("GRANTS")

    def _requested_orders(self, m: Module, bank: RegisterBank, sweep: data.View) -> None:
        """REWIND, CONSUME and RELEASE of each partition: one of the first two, and a RELEASE, at a
        time. Makes `_asked`, a struct {any, order} of the partition whose turn it is, and clears
        what was asked when it is `_asked_taken`.
        """
        config = self.config
        write = bank.partition_write
        strobe = write.strobe
        reader = bank.read_partition
        value = bank.partition_value
        everyone = range(config.partitions)
        count_of = bank.map.partition["consume"].view(write.data).count

        m.submodules.consume_id = consume_id = ScrubbedMemory(
            ID_BITS, depth=config.partitions, zeroed=True)
        m.d.comb += [
            consume_id.write_en.eq(strobe.consume_id | (sweep.en & ~sweep.held_up)),
            consume_id.write_row.eq(Mux(sweep.held_up, write.partition, sweep.partition)),
            consume_id.write_data.eq(Mux(sweep.held_up, write.data, 0)),
            consume_id.read_row[0].eq(write.partition),
        ]

        # What is asked for, until its order is taken. A write while the one before is not done
        # changes nothing. Each partition has a row for REWIND and CONSUME, and one for RELEASE.
        request = data.StructLayout({"name": TOKEN_BITS, "count": OFFSET_BITS})     # ID or token
        m.submodules.requests = requests = BlockMemory(request, depth=2 << config.partition_bits)
        busy = Signal(config.partitions)            # REWIND or CONSUME
        consumes = Signal(config.partitions)
        done = Signal(config.partitions)
        refused = Signal(config.partitions)
        release_asked = Signal(config.partitions)
        release_busy = Signal(config.partitions)    # until it is through
        release_done = Signal(config.partitions)
        statuses = Array(Signal(Status, name=f"release_status_{p}") for p in everyone)
        turn = Signal(config.partition_bits)
        wanted = Signal(data.StructLayout({"ends": 1, "releases": 1, "owns": 1}))
        reading = Signal(wanted.shape())    # what the memory tells is of this, in turn
        fetched = Signal(wanted.shape())    # what was read of it is
        requested = Signal(request)
        owns_more = Signal()        # a REWIND or CONSUME that counts was written
        releases_more = Signal()
        consuming = Signal()
        coming = Signal()           # something is written
        m.d.sync += [
            owns_more.eq((strobe.rewind | strobe.consume)
                         & ~busy.bit_select(write.partition, 1)),
            releases_more.eq(strobe.release & ~release_busy.bit_select(write.partition, 1)),
            consuming.eq(strobe.consume),
        ]
        # What was written is still there in the cycle after its strobe.
        m.d.comb += [
            requests.write_en.eq(owns_more | releases_more),
            requests.write_row.eq(Cat(releases_more, write.partition)),
            requests.write_data.name.eq(Mux(releases_more, self._release_token, Mux(
                consuming, consume_id.read_data[0], write.data[:ID_BITS]))),
            requests.write_data.count.eq(count_of),
            requests.read_row[0].eq(Cat(wanted.releases, turn)),
        ]
        ends = Signal()
        releases = Signal()
        self._asked = asked = Signal(data.StructLayout({"any": 1, "order": Order(config)}))
        self._asked_taken = Signal()
        m.d.comb += [
            coming.eq(strobe.rewind | strobe.consume | strobe.release | owns_more | releases_more),
            self._requests_idle.eq(~(busy | release_busy | (coming << write.partition))),
            ends.eq(self.ending.bit_select(turn, 1)),
            # While a change of an entry finds the grants on it, none of them may be released.
            releases.eq(release_asked.bit_select(turn, 1) & ~self._change_ends_grants),
            wanted.ends.eq(ends),
            wanted.releases.eq(releases),
            wanted.owns.eq(busy.bit_select(turn, 1)),
            asked.any.eq(
                wanted.as_value().any() & (wanted == reading) & (wanted == fetched)),
            asked.order.partition.eq(turn),
            asked.order.id.eq(requested.name),
            asked.order.token.eq(requested.name),
            asked.order.count.eq(requested.count),
            asked.order.kind.eq(Mux(
                fetched.ends, OrderKind.END, Mux(
                    fetched.releases, OrderKind.RELEASE, Mux(
                        consumes.bit_select(turn, 1), OrderKind.CONSUME, OrderKind.REWIND)))),
        ]
        m.d.sync += [
            reading.eq(Mux(self._asked_taken, 0, wanted)),
            fetched.eq(reading),
            # A second row of flops, because block RAM is slow from clock to output.
            requested.eq(requests.read_data[0]),
        ]
        with m.If(~wanted.as_value().any() | self._asked_taken):
            m.d.sync += turn.eq(Mux(turn == config.partitions - 1, 0, turn + 1))
        kind = self.orders.payload.kind
        for p in everyone:
            mine = Signal(name=f"taken_{p}")
            through = Signal(name=f"through_{p}")
            m.d.comb += [
                mine.eq(self._asked_taken & (turn == p)),
                through.eq(self.completed.en & (self.completed.kind == Kind.RELEASE)
                           & (self.completed.partition == p)),
            ]
            with m.If(owns_more & (write.partition == p)):
                m.d.sync += [busy[p].eq(1), consumes[p].eq(consuming), done[p].eq(0),
                             refused[p].eq(0)]
            with m.Elif(mine & ((kind == OrderKind.REWIND) | (kind == OrderKind.CONSUME))):
                m.d.sync += [
                    busy[p].eq(0), done[p].eq(1), refused[p].eq(self.order_status != Status.OK)]
            with m.If(releases_more & (write.partition == p)):
                m.d.sync += [release_asked[p].eq(1), release_busy[p].eq(1), release_done[p].eq(0),
                             statuses[p].eq(Status.OK)]
            with m.Elif(mine & (kind == OrderKind.RELEASE)):
                m.d.sync += [release_asked[p].eq(0), statuses[p].eq(self.order_status)]
                with m.If(self.order_status != Status.OK):
                    m.d.sync += [release_busy[p].eq(0), release_done[p].eq(1)]
            with m.Elif(through & release_busy[p] & ~release_asked[p]):
                m.d.sync += [release_busy[p].eq(0), release_done[p].eq(1),
                             statuses[p].eq(self.completed_status)]
            with m.If(sweep.en & (sweep.partition == p)):
                m.d.sync += [done[p].eq(0), refused[p].eq(0), release_done[p].eq(0),
                             statuses[p].eq(Status.OK)]
        for name, vector in (("busy", busy), ("done", done), ("refused", refused)):
            m.d.comb += value.receive_status[name].eq(vector.bit_select(reader, 1))
        m.d.comb += [
            value.release_status.busy.eq(release_busy.bit_select(reader, 1)),
            value.release_status.done.eq(release_done.bit_select(reader, 1)),
            value.release_status.status.eq(statuses[reader]),
        ]

    def _orders(self, m: Module) -> None:
        """One order at a time: a change of the table first, then the manager's move, then what
        partitions ask for, in turn."""
        order = self.orders.payload
        changing = Signal()
        moving = Signal()
        taken = Signal()
        m.d.comb += [
            self._change_taken.eq(taken & changing),
            self._raw_taken.eq(taken & moving),
            self._asked_taken.eq(taken & ~changing & ~moving),
            # A change of the table may help, or end, any wait, and so does the memory's end.
            self.wake_all.eq(self.room_freed | self._change_taken | self.down),
        ]
        # Late, but never in the cycle of another verdict.
        m.d.sync += [
            self.wake_changed.en.eq(taken & ((order.kind == OrderKind.REWIND)
                                             | (order.kind == OrderKind.CONSUME))),
            self.wake_changed.id.eq(order.id),
        ]
        # What an order has done is seen a cycle later, in which the next one is not chosen yet.
        m.d.sync += taken.eq(self.orders.valid & self.orders.ready)
        with m.If(self.orders.valid):
            with m.If(self.orders.ready):
                m.d.sync += self.orders.valid.eq(0)
        with m.Elif(~taken):
            m.d.sync += [
                self.orders.valid.eq(self._change_waits | self._raw_waits | self._asked.any),
                changing.eq(self._change_waits),
                moving.eq(self._raw_waits & ~self._change_waits),
            ]
            with m.If(self._change_waits):
                m.d.sync += [order.kind.eq(self._change_kind), order.id.eq(self._change_id)]
            with m.Elif(self._raw_waits):
                m.d.sync += [order.kind.eq(OrderKind.MOVE), order.count.eq(self._raw_count)]
            with m.Else():
                m.d.sync += order.eq(self._asked.order)

    def _manager_state(self, m: Module, bank: RegisterBank, ready: Signal) -> None:
        """What the manager reads, and its interrupt."""
        value = bank.manager_value
        reader = bank.read_index
        all_idle = Signal()
        m.d.sync += all_idle.eq((self.idle & self.empty).all())
        m.d.comb += [
            value.status.ready.eq(ready),
            value.status.idle.eq(all_idle),
            value.status.down.eq(self.down),
            value.status.snapshot.eq(self.snapshot_pending),
            value.fault_pending.partitions.eq(self.fault_valid),
            value.resetting.partitions.eq(self.resetting),
            value.memory_state.down.eq(self.down),
            value.memory_state.settled.eq(self.settled),
            value.memory_state.channel.eq(self.channel),
            self.counter_which.eq(bank.read_word[1:3]),
        ]
        shown = bank.manager_shown
        recorded = Signal()
        m.d.comb += [
            value.counter_lo.count.eq(self.counter_value[:32]),
            value.counter_hi.count.eq(self.counter_value[32:]),
            recorded.eq(self.fault_valid.bit_select(reader, 1)),
            value.partition_fault_info.valid.eq(1),
            value.partition_fault_info.direction.eq(self.fault_write),
            value.partition_fault_info.status.eq(self.fault_status),
            value.partition_fault_info.lost.eq(self.fault_lost),
            value.partition_fault_address_lo.address.eq(self.fault_address[:32]),
            value.partition_fault_address_hi.address.eq(self.fault_address[32:]),
        ]
        for name in ("info", "address_lo", "address_hi"):
            m.d.comb += shown[f"partition_fault_{name}"].eq(recorded)
        self._sizes(m, value.config)
        pending = self._interrupts(
            m, bank.map.manager, bank.manager_write,
            {"fault": self.fault_valid.any(), "commit": self._change_done, "down": self.down,
             "expired": self.expired.any()}, 1)
        irq = Const(0)
        for name, (state, enabled) in pending.items():
            m.d.comb += value.irq_state[name].eq(state)
            irq = irq | (state & enabled)
        m.d.sync += self.irq_manager.eq(irq)
