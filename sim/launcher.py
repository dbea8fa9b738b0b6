# SPDX-License-Identifier: Apache-2.0
"""The benchmark's hardware: a cycle-exact driver on the register port, and a stopwatch.

`Launcher` is a driver in hardware: it writes as fast as the port takes writes, so that a stream is
limited by the adapter and not by who starts it. `BenchSystem` is the simulated system with this
driver in front and the stopwatch beside it; no software takes part while the clock is watched.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mvxl.axi import AXI4LiteSignature
from mvxl.config import OFFSET_BITS, AdapterConfig
from mvxl.messages import ID_BITS
from mvxl.registers import register_map

from .system import System

__all__ = ["BenchSystem", "Launcher", "Stopwatch"]

_CYCLE_BITS = 32
_MESSAGE_BITS = 16

#: Parameter registers and COMMAND, in the order in which they are written.
_STEPS = ("src_id", "src_offset", "dst_id", "count", "command")
_OFFSET_STEP = _STEPS.index("src_offset")
_COMMAND_STEP = _STEPS.index("command")


class Launcher(wiring.Component):
    """Starts `messages` commands of equal size, by partitions 0 to `partitions` − 1 in turn.

    A message takes two writes (SRC_OFFSET, COMMAND), or with `all_parameters` five. The next write
    is offered while the response of the one before is under way.

    No command is ever rejected, and this by what any driver can know: STATUS is read all the time,
    of the partitions in turn, on the read channels, which do not disturb the writes. Commands
    whose responses came before the read was sent are counted in its `room`, so that these and
    `room` more may be written altogether. The first command waits until every STATUS was read.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    bus : Out(AXI4LiteSignature)
        Unprivileged accesses.
    run : In(1)
        Level. While it is low the launcher is quiet and forgets everything; it may fall when all
        messages were started and every access was answered, which takes at most 10 cycles more.
        The other inputs are stable while it is high.
    messages : In(16)
        Commands in all, up to 32767.
    partitions : In(range(config.partitions + 1))
        How many take turns, from 1.
    all_parameters : In(1)
        Five writes a message.
    src_id, dst_id : In(16).array(config.partitions)
        Network IDs of each partition's messages; used with `all_parameters`.
    count : In(32)
        Bytes of a message; used with `all_parameters`.
    first_offset, step_offset : In(32)
        Source offset of each partition's first message, and from each to its next (bytes).
    command : In(32)
        The word for COMMAND.
    commanded : Out(1)
        The later of AW's and W's handshake of a COMMAND write is in this cycle.
    refused : Out(1)
        Some access was answered with an error since `run` rose.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        everyone = config.partitions
        super().__init__({
            "bus": Out(AXI4LiteSignature(address_bits=config.register_address_bits)),
            "run": In(1),
            "messages": In(_MESSAGE_BITS),
            "partitions": In(range(everyone + 1)),
            "all_parameters": In(1),
            "src_id": In(ID_BITS).array(everyone),
            "dst_id": In(ID_BITS).array(everyone),
            "count": In(OFFSET_BITS),
            "first_offset": In(OFFSET_BITS),
            "step_offset": In(OFFSET_BITS),
            "command": In(32),
            "commanded": Out(1),
            "refused": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        everyone = range(self.config.partitions)
        # Of each partition: commands that were answered, and that may be written altogether.
        answered = Array(Signal(_MESSAGE_BITS, name=f"answered_{p}") for p in everyone)
        allowed = Array(Signal(_MESSAGE_BITS, name=f"allowed_{p}") for p in everyone)
        known = Signal()
        more = Signal()
        self._write(m, allowed, known, more)
        self._count_responses(m, answered)
        self._read_status(m, answered, allowed, known, more)
        return m

    def _next(self, partition: Value) -> Value:
        """Whose turn it is after `partition`."""
        return Mux(partition == self.partitions - 1, 0, partition + 1)[:len(partition)]

    def _turn(self, name: str) -> Signal:
        return Signal(self.config.partition_bits, name=name)

    def _page_address(self, partition: Value, offset: Value | int) -> Value:
        return (partition << self.config.page_log2) + offset

    def _write(self, m: Module, allowed: Array, known: Signal, more: Signal) -> None:
        """AW and W: what is offered is in flops, and replaced in the cycle that takes it.

        Drives `more`: there are messages left to start.
        """
        bus = self.bus
        page = register_map(self.config).partition
        partition = self._turn("write_turn")
        written = Array(Signal(_MESSAGE_BITS, name=f"written_{p}") for p in
                        range(self.config.partitions))
        loaded = Signal(_MESSAGE_BITS)
        step = Signal(range(len(_STEPS)))
        first_step = Signal.like(step)
        offset = Signal(OFFSET_BITS)
        is_command = Signal()
        free = Signal()
        margin = Signal(_MESSAGE_BITS)
        last_step = Signal()
        load = Signal()
        registers = Array(page[name].offset for name in _STEPS)
        words = Array([Array(self.src_id)[partition], offset, Array(self.dst_id)[partition],
                       self.count, self.command])
        m.d.comb += [
            bus.wstrb.eq(0b1111),
            first_step.eq(Mux(self.all_parameters, 0, _OFFSET_STEP)),
            last_step.eq(step == _COMMAND_STEP),
            free.eq((~bus.awvalid | bus.awready) & (~bus.wvalid | bus.wready)),
            self.commanded.eq(free & (bus.awvalid | bus.wvalid) & is_command),
            # With a sign: a later STATUS allows fewer, if a response was under way when it was
            # sent and the command is in its room already.
            margin.eq(allowed[partition] - written[partition] - 1),
            more.eq(self.run & (loaded != self.messages)),
            load.eq(more & free & known & (~last_step | ~margin[-1])),
        ]
        with m.If(bus.awready):
            m.d.sync += bus.awvalid.eq(0)
        with m.If(bus.wready):
            m.d.sync += bus.wvalid.eq(0)
        with m.If(load):
            m.d.sync += [
                bus.awvalid.eq(1),
                bus.wvalid.eq(1),
                bus.awaddr.eq(self._page_address(partition, registers[step])),
                bus.wdata.eq(words[step]),
                is_command.eq(last_step),
                step.eq(Mux(last_step, first_step,
                            Mux(self.all_parameters, step + 1, _COMMAND_STEP))),
            ]
            with m.If(last_step):
                m.d.sync += [
                    written[partition].eq(written[partition] + 1),
                    loaded.eq(loaded + 1),
                    partition.eq(self._next(partition)),
                ]
                with m.If(self._next(partition) == 0):
                    m.d.sync += offset.eq(offset + self.step_offset)
        with m.If(~self.run):
            m.d.sync += [loaded.eq(0), partition.eq(0), step.eq(first_step),
                         offset.eq(self.first_offset)]
            m.d.sync += [count.eq(0) for count in written]

    def _count_responses(self, m: Module, answered: Array) -> None:
        """B: responses come in order, so the last one of a message is its COMMAND's."""
        bus = self.bus
        partition = self._turn("response_turn")
        responses = Signal(range(len(_STEPS)))
        m.d.comb += bus.bready.eq(1)
        with m.If(bus.bvalid):
            m.d.sync += responses.eq(responses + 1)
            with m.If(responses == Mux(self.all_parameters, len(_STEPS), 2) - 1):
                m.d.sync += [
                    responses.eq(0),
                    answered[partition].eq(answered[partition] + 1),
                    partition.eq(self._next(partition)),
                ]
        with m.If(bus.bvalid & bus.bresp[1] | bus.rvalid & bus.rresp[1]):
            m.d.sync += self.refused.eq(1)
        with m.If(~self.run):
            m.d.sync += [responses.eq(0), partition.eq(0), self.refused.eq(0)]
            m.d.sync += [count.eq(0) for count in answered]

    def _read_status(self, m: Module, answered: Array, allowed: Array, known: Signal,
                     more: Signal) -> None:
        """AR and R: one read after the other, while there are messages left to start."""
        bus = self.bus
        status = register_map(self.config).partition["status"]
        partition = self._turn("read_turn")
        answered_before = Signal(_MESSAGE_BITS)     # when the read was sent
        reading = Signal()
        m.d.comb += [
            bus.rready.eq(1),
            bus.araddr.eq(self._page_address(partition, status.offset)),
        ]
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [bus.arvalid.eq(0), answered_before.eq(answered[partition])]
        with m.If(bus.rvalid):
            m.d.sync += [
                reading.eq(0),
                allowed[partition].eq(answered_before + status.view(bus.rdata).room),
                partition.eq(self._next(partition)),
            ]
            with m.If(self._next(partition) == 0):
                m.d.sync += known.eq(1)
        with m.If(more & (~reading | bus.rvalid)):
            m.d.sync += [reading.eq(1), bus.arvalid.eq(1)]
        with m.If(~self.run):
            m.d.sync += [partition.eq(0), known.eq(0)]


class Stopwatch(wiring.Component):
    """Times one run, and counts what the memory port did in it. Cycles are those of `clk`.

    The clock starts in the cycle of the first COMMAND's handshake (that is cycle 0) and stops in
    the first cycle in which every awaited interrupt is high. COMPLETED_COMPARE raises the
    interrupt in the same cycle in which the answer to a well-timed read of COMPLETED would first
    show the new count, so that neither way sees the completion earlier.

    Parameters
    ----------
    config : AdapterConfig
    bus : AXI4 interface
        The adapter's memory port; only watched.

    Members
    -------
    run : In(1)
        Level. While it is low everything is 0.
    commanded : In(1)
        As of `Launcher`.
    irq, awaited : In(config.partitions)
        Bit p of `awaited`: the run lasts until the interrupt of partition p is high.
    finished : Out(1)
        The clock has stopped.
    cycles : Out(32)
        From the first COMMAND's handshake to the end.
    first_read_cycles : Out(32)
        From there to the first cycle in which ARVALID is high; 0 if it never was.
    read_bursts, read_beats, write_bursts, write_beats, written_bytes : Out(32)
        Handshakes on AR, R, AW and W, and bytes with a strobe.
    """

    READINGS = ("cycles", "first_read_cycles", "read_bursts", "read_beats", "write_bursts",
                "write_beats", "written_bytes")

    def __init__(self, config: AdapterConfig, *, bus: Any) -> None:
        self._bus = bus
        super().__init__({
            "run": In(1),
            "commanded": In(1),
            "irq": In(config.partitions),
            "awaited": In(config.partitions),
            "finished": Out(1),
            **{name: Out(_CYCLE_BITS) for name in self.READINGS},
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self._bus
        started = Signal()
        with m.If(self.commanded):
            m.d.sync += started.eq(1)
        with m.If((started | self.commanded) & ~self.finished):
            with m.If(started & ((self.irq & self.awaited) == self.awaited)):
                m.d.sync += self.finished.eq(1)
            with m.Else():
                m.d.sync += self.cycles.eq(self.cycles + 1)

        asked = Signal()
        with m.If(bus.arvalid & ~asked):
            m.d.sync += [asked.eq(1), self.first_read_cycles.eq(self.cycles)]
        for handshake, count, more in (
                (bus.arvalid & bus.arready, self.read_bursts, 1),
                (bus.rvalid & bus.rready, self.read_beats, 1),
                (bus.awvalid & bus.awready, self.write_bursts, 1),
                (bus.wvalid & bus.wready, self.write_beats, 1),
                (bus.wvalid & bus.wready, self.written_bytes, sum(iter(bus.wstrb)))):
            with m.If(handshake):
                m.d.sync += count.eq(count + more)
        with m.If(~self.run):
            m.d.sync += [started.eq(0), asked.eq(0), self.finished.eq(0)]
            m.d.sync += [getattr(self, name).eq(0) for name in self.READINGS]
        return m


class BenchSystem(wiring.Component):
    """The simulated system with a launcher at its register port and a stopwatch beside it.

    Software sets everything up through `s_axil` while `run` is low, gives the launcher its inputs
    and raises `run`, which hands the register port to the launcher; nothing of `s_axil` may be
    under way then.

    Parameters
    ----------
    config : AdapterConfig
    memory_bytes : int
        Size of the memory, which begins at address 0.

    Members
    -------
    s_axil : In(AXI4LiteSignature)
    run, messages, partitions, all_parameters, src_id, dst_id, count, first_offset, step_offset,
    command, refused
        As of `Launcher`.
    awaited, finished, cycles, first_read_cycles, read_bursts, read_beats, write_bursts,
    write_beats, written_bytes
        As of `Stopwatch`.
    irq, memory_port_broken, register_port_broken
        As of `System`.
    """

    def __init__(self, config: AdapterConfig, *, memory_bytes: int) -> None:
        self.launcher = Launcher(config)
        self.system = System(config, memory_bytes=memory_bytes)
        self.stopwatch = Stopwatch(config, bus=self.system.adapter.m_axi)
        launcher = dict(self.launcher.signature.members)
        stopwatch = dict(self.stopwatch.signature.members)
        self._launched = [name for name in launcher if name not in ("bus", "commanded")]
        self._watched = [name for name in stopwatch if name not in ("run", "commanded", "irq")]
        super().__init__({
            "s_axil": In(launcher["bus"].signature),
            **{name: launcher[name] for name in self._launched},
            **{name: stopwatch[name] for name in self._watched},
            **{name: self.system.signature.members[name] for name in
               ("irq", "memory_port_broken", "register_port_broken")},
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.launcher = launcher = self.launcher
        m.submodules.system = system = self.system
        m.submodules.stopwatch = stopwatch = self.stopwatch
        for unit, names in ((launcher, self._launched), (stopwatch, self._watched),
                            (system, ("irq", "memory_port_broken", "register_port_broken"))):
            for name in names:
                _join(m, self.signature.members[name].flow, getattr(self, name),
                      getattr(unit, name))
        m.d.comb += [
            stopwatch.run.eq(self.run),
            stopwatch.commanded.eq(launcher.commanded),
            stopwatch.irq.eq(system.irq),
        ]
        # The register port's manager: the launcher while it runs, else software.
        for name, member in system.s_axil.signature.members.items():
            port, ours, software = (getattr(interface, name) for interface in
                                    (system.s_axil, launcher.bus, self.s_axil))
            if member.flow is In:
                m.d.comb += port.eq(Mux(self.run, ours, software))
            else:
                m.d.comb += [ours.eq(Mux(self.run, port, 0)), software.eq(Mux(self.run, 0, port))]
        return m


def _join(m: Module, flow: wiring.Flow, outer: Any, inner: Any) -> None:
    """Connect a member of a component to the same member of a unit inside it."""
    pairs = (zip(outer, inner, strict=True) if isinstance(outer, list) else [(outer, inner)])
    for outside, inside in pairs:
        m.d.comb += inside.eq(outside) if flow is In else outside.eq(inside)
