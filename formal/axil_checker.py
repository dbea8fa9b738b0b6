# SPDX-License-Identifier: Apache-2.0
"""Checks an AXI4-Lite interface in every cycle, both sides (Arm IHI 0022, issue H, part B)."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed

from mvxl.axi import AXI4LiteSignature, Response

from .axi4_checker import handshake_rules, watch_channel
from .rules import Duty, Rule, RuleChecker

__all__ = ["AXI4LiteChecker"]

_MANAGER_RULES = [*handshake_rules("aw"), *handshake_rules("w"), *handshake_rules("ar")]

_SUBORDINATE_RULES = [
    *handshake_rules("b"),
    Rule("b_request", "AXI4 A3.3.1: BVALID only after the handshakes of AW and W"),
    Rule("b_response", "AXI4 B1.1.1: no EXOKAY"),
    Rule("b_in_time", "configuration: BVALID at most response_cycles after the later of AW and W"),
    Rule("writes_in_flight", "configuration: no more AW or W without B than requests_in_flight"),
    *handshake_rules("r"),
    Rule("r_request", "AXI4 A3.3.1: RVALID only after the handshake of AR"),
    Rule("r_response", "AXI4 B1.1.1: no EXOKAY"),
    Rule("r_in_time", "configuration: RVALID at most response_cycles after AR"),
    Rule("reads_in_flight", "configuration: no more AR without R than requests_in_flight"),
]


class AXI4LiteChecker(RuleChecker):
    """Checks a register port.

    A response is in time if VALID is high at most `response_cycles` cycles after the handshake
    that completes the request (0 would be the same cycle). While the manager holds a response
    back, and until those that queued behind it are through, only VALID has to be high.

    Parameters
    ----------
    signature : AXI4LiteSignature
    response_cycles : int or None
        Cycles from a request to its response, from 1. None: any.
    requests_in_flight : int
        Most requests of each direction that the subordinate takes and has not answered. From 1.
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

    def __init__(self, signature: AXI4LiteSignature, *, response_cycles: int | None = 4,
                 requests_in_flight: int = 4, manager: Duty = "assert",
                 subordinate: Duty = "assert") -> None:
        if response_cycles is not None and response_cycles < 1:
            raise ValueError(f"response_cycles must be positive or None, not {response_cycles!r}")
        if requests_in_flight < 1:
            raise ValueError(f"requests_in_flight must be positive, not {requests_in_flight!r}")
        self._response_cycles = response_cycles
        self._requests = requests_in_flight
        super().__init__(signature, {"manager": (manager, _MANAGER_RULES),
                                     "subordinate": (subordinate, _SUBORDINATE_RULES)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.bus
        holds: dict[str, Value] = {}
        channels = {name: watch_channel(m, bus, name, holds)
                    for name in ("aw", "w", "b", "ar", "r")}

        # Addresses less data; the smaller number of the two is that of complete requests.
        ahead = Signal(signed(self._requests.bit_length() + 2))
        address, word = channels["aw"].transfer, channels["w"].transfer
        complete = (address & word) | (address & (ahead < 0)) | (word & (ahead > 0))
        m.d.sync += ahead.eq(ahead + address - word)
        surplus = abs(ahead)

        for name, direction, request, extra in (("b", "writes", complete, surplus),
                                                ("r", "reads", channels["ar"].transfer, 0)):
            waiting = Signal(self._requests.bit_length() + 1, name=f"{direction}_waiting")
            m.d.sync += waiting.eq(
                waiting + request - (channels[name].transfer & (waiting != 0)))
            valid = getattr(bus, f"{name}valid")
            holds |= {
                f"{name}_request": ~valid | (waiting != 0),
                f"{name}_response": ~valid | (getattr(bus, f"{name}resp")
                                              != Response.EXOKAY.value),
                f"{name}_in_time": self._in_time(m, request=request, waiting=waiting, valid=valid,
                                                 blocked=valid & ~channels[name].transfer),
                f"{direction}_in_flight": waiting + extra <= self._requests,
            }
        self.enforce(m, platform, holds)
        return m

    def _in_time(self, m: Module, *, request: Value, waiting: Value, valid: Value,
                 blocked: Value) -> Value:
        """Whether no response is overdue. `waiting`: requests of earlier cycles not answered."""
        if self._response_cycles is None:
            return Signal(init=1)
        recent = Signal(self._response_cycles - 1)  # bit i: a request i + 1 cycles ago
        m.d.sync += recent.eq(Cat(request, recent))
        overdue = Signal.like(waiting)
        young = sum(recent, start=Value.cast(0))
        with m.If(waiting > young):
            m.d.comb += overdue.eq(waiting - young)
        excused = Signal()
        with m.If(blocked):
            m.d.sync += excused.eq(1)
        with m.Elif(overdue <= 1):
            m.d.sync += excused.eq(0)
        return (overdue == 0) | (valid & ((overdue == 1) | blocked | excused))
