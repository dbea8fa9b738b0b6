# SPDX-License-Identifier: Apache-2.0
"""What all protocol checkers share: named rules that are asserted, assumed or only reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from amaranth.hdl import Assert, Assume, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Channel", "Duty", "Rule", "RuleChecker"]

#: What becomes of a rule that is broken: an assertion fails, or (in proofs) the case is not
#: looked at, or only its bit of `failed` rises.
Duty = Literal["assert", "assume", "report"]


@dataclass(frozen=True)
class Rule:
    """A condition for every cycle: its name, and where it comes from."""

    name: str
    source: str

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"


class RuleChecker(wiring.Component):
    """Watches an interface and drives nothing; every protocol checker is one.

    Parameters
    ----------
    bus : wiring.Signature
        The interface; flat.
    sides : mapping of str to (Duty, sequence of Rule)
        For every side of the interface (named as the parameter that has its duty) what is done
        with its rules, and the rules.

    Members
    -------
    bus : In
        Every member of the interface as an input; see `watch`.
    failed : Out(number of rules)
        Bit i: rule i was broken in an earlier cycle since reset.

    Attributes
    ----------
    rules : list of str
        Names of the rules, in the order of the bits of `failed`.

    Raises
    ------
    ValueError
        A duty is none.
    """

    bus: Any
    failed: Signal

    def __init__(self, bus: wiring.Signature,
                 sides: Mapping[str, tuple[Duty, Sequence[Rule]]]) -> None:
        for side, (duty, _) in sides.items():
            if duty not in get_args(Duty):
                raise ValueError(
                    f"{side} must be one of {', '.join(get_args(Duty))}, not {duty!r}")
        self._duties = {rule.name: duty for duty, rules in sides.values() for rule in rules}
        self._rules = [rule for _, rules in sides.values() for rule in rules]
        self.rules = [rule.name for rule in self._rules]
        super().__init__({
            "bus": In(wiring.Signature(
                {name: In(member.shape) for name, member in bus.members.items()})),
            "failed": Out(len(self.rules)),
        })

    def watch(self, interface: Any) -> list[Any]:
        """Statements for the comb domain that show `interface` to the checker."""
        return [getattr(self.bus, name).eq(getattr(interface, name))
                for name in self.bus.signature.members]

    def told(self, failed: int) -> list[str]:
        """The rules that a value of `failed` names, each with its source."""
        return [str(rule) for index, rule in enumerate(self._rules) if failed >> index & 1]

    def enforce(self, m: Module, platform: object, holds: Mapping[str, Value]) -> None:
        """Add the rules to `m`. `holds` has the condition of each, by name.

        Nothing is checked in a cycle in which the reset is active.
        """
        if sorted(holds) != sorted(self.rules):
            raise ValueError(f"rules must be {sorted(self.rules)}, not {sorted(holds)}")
        for index, rule in enumerate(self._rules):
            ok = Signal(name=f"{rule.name}_holds")
            m.d.comb += ok.eq(holds[rule.name] | ResetSignal())
            with m.If(~ok):
                m.d.sync += self.failed[index].eq(1)
            duty = self._duties[rule.name]
            if duty == "report":
                continue
            # A simulator may run combinational assertions before its signals have settled, so
            # there the flop is asserted, a cycle later.
            checked = ok if platform == "formal" else ~self.failed[index]
            # In a module of its own, because proofs name a failed assertion by its place only.
            m.submodules[rule.name] = place = Module()
            place.d.comb += (Assert if duty == "assert" else Assume)(checked, str(rule))


class Channel:
    """A valid/ready handshake, watched from outside.

    Parameters
    ----------
    m : Module
        Gets the flops that this takes.
    valid, ready : Value
    payload : Value
        Everything that must be stable while the transfer is pending.

    Attributes
    ----------
    transfer : Value
        A transfer happens in this cycle.
    valid_stays, payload_stable : Value
        Hold if the source did not take back, or change, what it offered.
    low_after_reset : Value
        Holds unless the source offers something while it is, or right after it was, in reset.
    """

    def __init__(self, m: Module, *, valid: Value, ready: Value, payload: Value) -> None:
        pending = Signal()
        offered = Signal(len(payload))
        after_reset = Signal(reset_less=True)
        m.d.sync += [
            pending.eq(valid & ~ready),
            offered.eq(payload),
            after_reset.eq(ResetSignal()),
        ]
        self.transfer = valid & ready
        self.valid_stays = ~pending | valid
        self.payload_stable = ~(pending & valid) | (payload == offered)
        self.low_after_reset = ~after_reset | ~valid
