# SPDX-License-Identifier: Apache-2.0
"""Checks an AXI4 interface in every cycle, both sides (Arm IHI 0022, issue H, part A)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory

from mvxl.axi import AXI4Signature, Burst, Response
from mvxl.config import AXI_BOUNDARY_BYTES

from .rules import Channel, Duty, Rule, RuleChecker

__all__ = ["AXI4Checker", "handshake_rules", "watch_channel"]


def handshake_rules(channel: str) -> list[Rule]:
    """The rules of a channel's source, whichever side it is."""
    return [
        Rule(f"{channel}_valid_stays", "AXI4 A3.2.1: VALID stays until the handshake"),
        Rule(f"{channel}_payload_stable", "AXI4 A3.2.1: no change until the handshake"),
        Rule(f"{channel}_low_after_reset", "AXI4 A3.1.2: VALID is low until after reset"),
    ]


def watch_channel(m: Module, bus: Any, name: str, holds: dict[str, Value]) -> Channel:
    """Watch the channel of `bus` whose signals begin with `name`.

    Adds the conditions of its `handshake_rules` to `holds`.
    """
    members = [member for member in bus.signature.members if member.startswith(name)]
    channel = Channel(
        m, valid=getattr(bus, f"{name}valid"), ready=getattr(bus, f"{name}ready"),
        payload=Cat(getattr(bus, member) for member in members
                    if member not in (f"{name}valid", f"{name}ready")))
    holds |= {
        f"{name}_valid_stays": channel.valid_stays,
        f"{name}_payload_stable": channel.payload_stable,
        f"{name}_low_after_reset": channel.low_after_reset,
    }
    return channel


def _address_rules(channel: str) -> list[Rule]:
    return [
        *handshake_rules(channel),
        Rule(f"{channel}_len", "configuration: no burst is longer than burst_beats"),
        Rule(f"{channel}_size", "configuration: AxSIZE is a whole beat (AXI4 A3.4.1)"),
        Rule(f"{channel}_burst", "configuration: AxBURST is INCR (AXI4 A3.4.1)"),
        Rule(f"{channel}_aligned", "configuration: the address is aligned to the beat"),
        Rule(f"{channel}_boundary", "AXI4 A3.4.1: a burst does not cross 4 KiB"),
        Rule(f"{channel}_lock", "configuration: no exclusive access (AXI4 A7.2.4)"),
        Rule(f"{channel}_cache", "AXI4 A4.4: no reserved AxCACHE: no allocation if not modifiable"),
        Rule(f"{channel}_id", "configuration: one ID per direction"),
    ]


_MANAGER_RULES = [
    *_address_rules("aw"),
    *handshake_rules("w"),
    Rule("w_last", "AXI4 A3.2.2, A3.4.1: WLAST at the last beat of AWLEN + 1, and only there"),
    Rule("w_strobes", "AXI4 A3.4.3: no strobe on a lane below the burst's first byte"),
    Rule("w_ahead", "configuration: data ahead of its address by at most data_ahead_bursts"),
    Rule("writes_in_flight", "configuration: no more writes from AW to B than writes_in_flight"),
    *_address_rules("ar"),
    Rule("reads_in_flight", "configuration: no more reads from AR to RLAST than reads_in_flight"),
]

_SUBORDINATE_RULES = [
    *handshake_rules("b"),
    Rule("b_request", "AXI4 A3.3.1: BVALID only after the handshakes of AW and of the last W"),
    Rule("b_response", "AXI4 A3.4.4: no EXOKAY for a normal access"),
    Rule("b_id", "AXI4 A5.3: BID is the write's AWID"),
    *handshake_rules("r"),
    Rule("r_request", "AXI4 A3.3.1: RVALID only after the handshake of AR"),
    Rule("r_last", "AXI4 A3.2.2: RLAST at the last beat of ARLEN + 1, and only there"),
    Rule("r_response", "AXI4 A3.4.4: no EXOKAY for a normal access"),
    Rule("r_id", "AXI4 A5.3: RID is the read's ARID"),
]


class AXI4Checker(RuleChecker):
    """Checks a memory port: one ID per direction, INCR bursts of whole aligned beats.

    Write data may come before, with, or after its address.

    Parameters
    ----------
    signature : AXI4Signature
    reads_in_flight : int
        Most read bursts between ARVALID's handshake and RLAST's. From 1.
    writes_in_flight : int
        Most write bursts between AWVALID's handshake and the response's. From 1.
    burst_beats : int
        Longest burst, in beats. 1 to 256.
    data_ahead_bursts : int
        Most write bursts, the one that the data channel is in included, that show data before
        AWVALID's handshake. 1 or 2. (AXI4 A3.3.1 sets no limit.)
    read_id, write_id : int
        The ID of every read, and of every write.
    manager, subordinate : "assert", "assume" or "report"
        What is done with the rules of either side.

    Members
    -------
    bus : In
        The interface; connect it with `watch`.
    failed : Out
        Bit i: rule i of `rules` was broken in an earlier cycle since reset.

    Raises
    ------
    ValueError
        A parameter is outside its range.
    """

    def __init__(self, signature: AXI4Signature, *, reads_in_flight: int, writes_in_flight: int,
                 burst_beats: int = 256, data_ahead_bursts: int = 1,
                 read_id: int = 0, write_id: int = 0,
                 manager: Duty = "assert", subordinate: Duty = "assert") -> None:
        for name, value in (("reads_in_flight", reads_in_flight),
                            ("writes_in_flight", writes_in_flight)):
            if value < 1:
                raise ValueError(f"{name} must be positive, not {value!r}")
        if not 1 <= burst_beats <= 256:
            raise ValueError(f"burst_beats must be between 1 and 256, not {burst_beats!r}")
        if data_ahead_bursts not in (1, 2):
            raise ValueError(f"data_ahead_bursts must be 1 or 2, not {data_ahead_bursts!r}")
        self._bytes = signature.data_bits // 8
        self._reads = reads_in_flight
        self._writes = writes_in_flight
        self._burst_beats = burst_beats
        self._data_ahead = data_ahead_bursts
        self._read_id = read_id
        self._write_id = write_id
        super().__init__(signature, {"manager": (manager, _MANAGER_RULES),
                                     "subordinate": (subordinate, _SUBORDINATE_RULES)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        holds: dict[str, Value] = {}
        channels = {name: watch_channel(m, self.bus, name, holds)
                    for name in ("aw", "w", "b", "ar", "r")}
        self._check_address("aw", self._write_id, holds)
        self._check_address("ar", self._read_id, holds)
        self._check_writes(m, channels, holds)
        self._check_reads(m, channels, holds)
        self.enforce(m, platform, holds)
        return m

    def _check_address(self, name: str, transaction_id: int, holds: dict[str, Value]) -> None:
        """The shape of the burst that an address channel offers."""
        idle = ~getattr(self.bus, f"{name}valid")
        address = getattr(self.bus, f"{name}addr")
        length = getattr(self.bus, f"{name}len")
        cache = getattr(self.bus, f"{name}cache")
        first_byte = address % AXI_BOUNDARY_BYTES
        beats_bytes = (length + 1) * self._bytes
        holds |= {
            f"{name}_len": idle | (length < self._burst_beats),
            f"{name}_size": idle | (1 << getattr(self.bus, f"{name}size") == self._bytes),
            f"{name}_burst": idle | (getattr(self.bus, f"{name}burst") == Burst.INCR.value),
            f"{name}_aligned": idle | (address % self._bytes == 0),
            f"{name}_boundary": idle | (first_byte - first_byte % self._bytes + beats_bytes
                                        <= AXI_BOUNDARY_BYTES),
            f"{name}_lock": idle | ~getattr(self.bus, f"{name}lock"),
            f"{name}_cache": idle | cache[1] | (cache[2:] == 0),
            f"{name}_id": idle | (getattr(self.bus, f"{name}id") == transaction_id),
        }

    def _check_writes(self, m: Module, channels: dict[str, Channel],
                      holds: dict[str, Value]) -> None:
        bus = self.bus
        # Free-running counts of handshakes; wide enough that data three bursts ahead shows as −3.
        count_bits = self._writes.bit_length() + 2
        addresses, bursts, responses = (
            Signal(count_bits, name=name) for name in ("addresses", "bursts", "responses"))
        ended = channels["w"].transfer & bus.wlast
        without_data = Signal(signed(count_bits))
        ahead = without_data < 0
        answerable = responses != Mux(ahead, addresses, bursts)
        m.d.comb += without_data.eq(addresses - bursts)
        m.d.sync += [
            addresses.eq(addresses + channels["aw"].transfer),
            bursts.eq(bursts + ended),
            responses.eq(responses + (channels["b"].transfer & answerable)),
        ]

        # The burst that the data channel is in.
        beats = Signal(9)
        lowest = Signal(range(self._bytes + 1))     # lane of the first beat's lowest strobe
        seen_lowest = Signal.like(lowest)
        m.d.comb += lowest.eq(seen_lowest)
        with m.If(beats == 0):
            m.d.comb += lowest.eq(self._bytes)
            with m.If(bus.wvalid):
                for lane in reversed(range(self._bytes)):
                    with m.If(bus.wstrb[lane]):
                        m.d.comb += lowest.eq(lane)
        with m.If(channels["w"].transfer):
            m.d.sync += [beats.eq(Mux(bus.wlast, 0, beats + 1)), seen_lowest.eq(lowest)]

        # Its address: the oldest that came without data, or else the one on offer, unless that is
        # an earlier burst's.
        offered = Signal(data.StructLayout({"len": 8, "lane": self._lane_bits}))
        oldest = self._pending(m, "write_addresses", count=self._writes, payload=offered.as_value(),
                               push=channels["aw"].transfer, push_at=addresses, pop_at=bursts)
        known = Signal()
        burst = Signal.like(offered)
        m.d.comb += [
            offered.len.eq(bus.awlen),
            offered.lane.eq(bus.awaddr[:self._lane_bits]),
            known.eq((without_data > 0) | (~ahead & bus.awvalid)),
            burst.eq(Mux(without_data > 0, oldest, offered)),
        ]
        in_time = Signal(init=1)
        with m.If(known):
            m.d.comb += in_time.eq((beats <= burst.len) & (
                ~bus.wvalid | (bus.wlast == (beats == burst.len))))
        with m.Elif(bus.wvalid & (beats == 255)):
            m.d.comb += in_time.eq(bus.wlast)

        # The last bursts that ended, youngest first. What is ahead waits here for its address: if
        # k bursts are ahead, the address on offer is that of the k-th.
        early = Array(Signal(data.StructLayout({"len": 8, "lowest": len(lowest)}),
                             name=f"early_{k}") for k in range(1, self._data_ahead + 1))
        with m.If(ended):
            m.d.sync += [early[0].len.eq(beats), early[0].lowest.eq(lowest)]
            m.d.sync += [older.eq(younger) for younger, older in pairwise(early)]
        waiting = early[(-1 - without_data)[:count_bits]]
        claimed = ahead & bus.awvalid
        in_flight = (addresses - responses)[:count_bits]
        holds |= {
            "w_last": in_time & (~claimed | (waiting.len == offered.len)),
            "w_strobes": (~known | (lowest >= burst.lane))
                         & (~claimed | (waiting.lowest >= offered.lane)),
            "w_ahead": (without_data > -self._data_ahead) | ~bus.wvalid,
            "writes_in_flight": in_flight <= self._writes,
            "b_request": ~bus.bvalid | answerable,
            "b_response": ~bus.bvalid | (bus.bresp != Response.EXOKAY.value),
            "b_id": ~bus.bvalid | (bus.bid == self._write_id),
        }

    def _check_reads(self, m: Module, channels: dict[str, Channel],
                     holds: dict[str, Value]) -> None:
        bus = self.bus
        count_bits = self._reads.bit_length() + 2
        requests, answered = (
            Signal(count_bits, name=name) for name in ("requests", "answered"))
        beats = Signal(8, name="read_beats")
        asked = requests != answered
        m.d.sync += [
            requests.eq(requests + channels["ar"].transfer),
            answered.eq(answered + (channels["r"].transfer & bus.rlast & asked)),
        ]
        with m.If(channels["r"].transfer & asked):
            m.d.sync += beats.eq(Mux(bus.rlast, 0, beats + 1))
        length = self._pending(m, "read_lengths", count=self._reads, payload=bus.arlen,
                               push=channels["ar"].transfer, push_at=requests, pop_at=answered)
        holds |= {
            "reads_in_flight": (requests - answered)[:count_bits] <= self._reads,
            "r_request": ~bus.rvalid | asked,
            "r_last": ~(bus.rvalid & asked) | (bus.rlast == (beats == length)),
            "r_response": ~bus.rvalid | (bus.rresp != Response.EXOKAY.value),
            "r_id": ~bus.rvalid | (bus.rid == self._read_id),
        }

    @property
    def _lane_bits(self) -> int:
        return self._bytes.bit_length() - 1

    @staticmethod
    def _pending(m: Module, name: str, *, count: int, payload: Value, push: Value,
                 push_at: Value, pop_at: Value) -> Value:
        """The payload at `pop_at` of a queue of at least `count`, pushed at `push_at`."""
        index_bits = (count - 1).bit_length()
        m.submodules[name] = memory = Memory(
            shape=len(payload), depth=1 << index_bits, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(push),
            write.addr.eq(push_at[:index_bits]),
            write.data.eq(payload),
            read.addr.eq(pop_at[:index_bits]),
        ]
        return read.data
