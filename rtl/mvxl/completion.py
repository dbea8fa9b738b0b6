# SPDX-License-Identifier: Apache-2.0
"""The completion unit: ends accepted commands, in the order in which they were accepted."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AdapterConfig
from .messages import Completion, InFlight, Release, Status, WriteEnd
from .stream import Queue

__all__ = ["CompletionUnit"]


class CompletionUnit(wiring.Component):
    """Waits for a message's last write response, and only then publishes it.

    In this order: the cursor advances and the lock is released (`releases`), then the rest of the
    adapter is told (`completions`). A command of a halted partition ends ABORTED, whatever it
    would have been.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    accepted : In(stream.Signature(InFlight, always_ready=True))
        At most `messages_in_flight` that have not completed.
    ends : In(stream.Signature(WriteEnd))
    responses : In(stream.Signature(1))
        Write responses; 1: an error.
    halted : In(config.partitions)
        Bit p: an earlier command of partition p failed. Shows a failure in the cycle after
        `completed` told it.
    releases : Out(stream.Signature(Release))
    completions : Out(stream.Signature(Completion))
    completed : Out(struct {en, partition, failed})
        A command has ended, in the cycle before; `failed`: with a bus error. `completions` tells
        the rest of it in this cycle.
    write_error : Out(config.partitions)
        Bit p: a write of partition p was answered with an error.
    fault : Out(struct {en, partition, status, write, address})
        For the manager's log: the failure, and for writes the address of the first failed burst.
    """

    accepted: stream.Interface
    ends: stream.Interface
    responses: stream.Interface
    releases: stream.Interface
    completions: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "accepted": In(stream.Signature(InFlight(config), always_ready=True)),
            "ends": In(stream.Signature(WriteEnd(config))),
            "responses": In(stream.Signature(1)),
            "halted": In(config.partitions),
            "releases": Out(stream.Signature(Release(config))),
            "completions": Out(stream.Signature(Completion(config))),
            "completed": Out(data.StructLayout(
                {"en": 1, "partition": config.partition_bits, "failed": 1})),
            "write_error": Out(config.partitions),
            "fault": Out(data.StructLayout({
                "en": 1, "partition": config.partition_bits, "status": Status, "write": 1,
                "address": config.address_bits})),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.in_flight = in_flight = Queue(
            InFlight(config), depth=config.messages_in_flight, block=True)
        head = in_flight.o.payload
        m.d.comb += [
            in_flight.i.valid.eq(self.accepted.valid),
            in_flight.i.payload.eq(self.accepted.payload),
        ]

        moved = Signal()
        end = self.ends.payload
        m.d.comb += moved.eq(head.status == Status.OK)

        read_failed = Signal()
        write_failed = Signal()
        fault_address = Signal(config.address_bits)
        status = Signal(Status)
        halted = Signal()
        published = Signal()
        m.d.comb += [
            halted.eq(self.halted.bit_select(head.partition, 1)),
            published.eq(moved & (status == Status.OK)),
        ]
        with m.If(halted):
            m.d.comb += status.eq(Status.ABORTED)
        # A write error wins: whether it came does not depend on how far the reads got.
        with m.Elif(write_failed):
            m.d.comb += status.eq(Status.WRITE_ERROR)
        with m.Elif(read_failed):
            m.d.comb += status.eq(Status.READ_ERROR)
        with m.Else():
            m.d.comb += status.eq(head.status)

        done = Signal()
        report = self.completions.payload
        m.d.comb += [
            self.releases.payload.dst_id.eq(head.dst_id),
            self.releases.payload.advance.eq(published),
            self.releases.payload.cursor.eq(head.offset + head.count),
            in_flight.o.ready.eq(done),
        ]
        failed = Signal()
        m.d.comb += [
            failed.eq(~halted & (read_failed | write_failed)),
            # Nothing overwrites the address before the record is made.
            self.fault.address.eq(fault_address),
        ]
        m.d.sync += [
            self.completed.en.eq(done),
            self.completed.partition.eq(head.partition),
            self.completed.failed.eq(failed),
            self.fault.en.eq(done & failed),
            self.fault.partition.eq(head.partition),
            self.fault.status.eq(status),
            self.fault.write.eq(write_failed),
        ]
        with m.If(self.completions.ready):
            m.d.sync += self.completions.valid.eq(0)
        with m.If(done):
            m.d.sync += [
                self.completions.valid.eq(1),
                report.partition.eq(head.partition),
                report.tag.eq(head.tag),
                report.event.eq(head.event),
                report.notify.eq(head.notify),
                report.moved.eq(moved),
                report.status.eq(status),
                report.dst_id.eq(head.dst_id),
                report.receiver.eq(head.receiver),
                report.offset.eq(head.offset),
                report.count.eq(head.count),
                read_failed.eq(0),
                write_failed.eq(0),
            ]

        with m.FSM():
            with m.State("WAIT"):
                with m.If(in_flight.o.valid & ~moved):
                    m.next = "PUBLISH"
                with m.Elif(in_flight.o.valid & self.ends.valid
                            & (~end.responds | self.responses.valid)):
                    m.d.comb += [
                        self.ends.ready.eq(1),
                        self.responses.ready.eq(end.responds),
                    ]
                    m.d.sync += read_failed.eq(read_failed | end.read_error)
                    with m.If(end.responds & self.responses.payload):
                        m.d.sync += write_failed.eq(1)
                        m.d.comb += self.write_error.eq(1 << head.partition)
                        with m.If(~write_failed):
                            m.d.sync += fault_address.eq(end.address)
                    with m.If(end.last):
                        m.next = "PUBLISH"
            with m.State("PUBLISH"):
                with m.If(~self.completions.valid):
                    m.d.comb += self.releases.valid.eq(moved)
                    with m.If(~moved | self.releases.ready):
                        m.d.comb += done.eq(1)
                        m.next = "WAIT"
        return m
