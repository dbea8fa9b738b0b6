# SPDX-License-Identifier: Apache-2.0
"""Checks that a stream's producer keeps the rules of a transfer (Amaranth, `lib.stream`)."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Value
from amaranth.lib import stream

from .rules import Channel, Duty, Rule, RuleChecker

__all__ = ["StreamChecker"]


class StreamChecker(RuleChecker):
    """Checks a stream. Of the four rules of a transfer, the second can be broken visibly.

    The first says what a transfer is, the fourth that ready is free. The third, valid does not
    wait for ready, no observer can check: a proof about the producer shows it, with a bound on
    the time to valid while ready is low.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.
    rules : "assert", "assume" or "report"
        What is done with the rules.

    Members
    -------
    bus : In
        The stream; connect it with `watch`.
    failed : Out(2)
        Bit i: rule i of `rules` was broken in an earlier cycle since reset.

    Raises
    ------
    ValueError
        `rules` is none of the three.
    """

    def __init__(self, shape: ShapeLike, *, rules: Duty = "assert") -> None:
        super().__init__(stream.Signature(shape), {"rules": (rules, [
            Rule("valid_stays", "stream rule 2: valid stays until a transfer"),
            Rule("payload_stable", "stream rule 2: the payload does not change until a transfer"),
        ])})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        channel = Channel(m, valid=self.bus.valid, ready=self.bus.ready,
                          payload=Value.cast(self.bus.payload))
        self.enforce(m, platform, {
            "valid_stays": channel.valid_stays,
            "payload_stable": channel.payload_stable,
        })
        return m
