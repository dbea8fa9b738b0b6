# SPDX-License-Identifier: Apache-2.0
"""Verilog of a component, with flat port names.

Amaranth joins the parts of a member's name by two underscores. Bus models and checkers of other
projects bind to names such as `m_axi_awaddr`, so here they are joined by one.
"""

from __future__ import annotations

from amaranth.back import verilog
from amaranth.hdl import Const, Value
from amaranth.lib import wiring

# Amaranth 0.5 takes the directions of ports in this enumeration and has no public name for it.
from amaranth.hdl._ir import PortDirection

__all__ = ["flat_ports", "to_verilog"]


def flat_ports(component: wiring.Component) -> dict[str, tuple[Value, PortDirection]]:
    """Name, value and direction of every port, for the `ports` of Amaranth's back ends.

    The name is the member's path, joined by `_`: member `awaddr` of port `m_axi` is
    `m_axi_awaddr`. Members that are constants have no port.

    Raises
    ------
    ValueError
        Two ports have one name, or a port is called like the clock (`clk`) or reset (`rst`).
    """
    ports: dict[str, tuple[Value, PortDirection]] = {}
    for path, member, member_value in component.signature.flatten(component):
        value = Value.cast(member_value)
        if isinstance(value, Const):
            continue
        name = "_".join(map(str, path))
        if name in ports or name in ("clk", "rst"):
            raise ValueError(f"port names must differ, also from clk and rst, but two ports are "
                             f"called {name!r}")
        direction = (PortDirection.Input if member.flow is wiring.In else PortDirection.Output)
        ports[name] = (value, direction)
    return ports


def to_verilog(component: wiring.Component, name: str, *, emit_src: bool = True) -> str:
    """Verilog text of `component` as module `name`, with `clk`, `rst` and its flat ports.

    `emit_src`: give the Python file and line of every object in `src` attributes. Yosys is found
    as Amaranth finds it: by the variable YOSYS, or on the PATH.

    Raises
    ------
    ValueError
        As `flat_ports`.
    amaranth.back.verilog.YosysError
        There is no Yosys, or it is too old.
    """
    return verilog.convert(component, name=name, ports=flat_ports(component),
                           emit_src=emit_src)
