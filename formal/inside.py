# SPDX-License-Identifier: Apache-2.0
"""Names for the registers inside a unit, for the invariants that an induction needs."""

from __future__ import annotations

from amaranth.hdl import Fragment, Signal

__all__ = ["register"]


def register(unit: Fragment, name: str, *, domain: str = "sync") -> Signal:
    """The signal called `name` that the elaborated `unit` itself assigns in `domain`.

    Raises
    ------
    ValueError
        There is none, or more than one.
    """
    found = [signal for statement in unit.statements.get(domain, ())
             for signal in statement._lhs_signals() if signal.name == name]
    if len({id(signal) for signal in found}) != 1:
        raise ValueError(f"the unit must assign exactly one register called {name!r}, not "
                         f"{len(found)}")
    return found[0]
