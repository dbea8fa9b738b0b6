# SPDX-License-Identifier: Apache-2.0
"""Bus signatures: AXI4 (the memory port) and AXI4-Lite (the register port).

Signals have their names from the AMBA AXI protocol specification (Arm IHI 0022), in lower case;
a port member `m_axi` thus becomes `m_axi_awaddr`, ... in exported Verilog.
"""

from __future__ import annotations

from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["AXI4Signature", "AXI4LiteSignature", "Burst", "Response"]


class Response(enum.Enum, shape=2):
    """RRESP and BRESP (AXI4, section A3.4.4)."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class Burst(enum.Enum, shape=2):
    """AxBURST (AXI4, section A3.4.1)."""

    FIXED = 0
    INCR = 1
    WRAP = 2


class AXI4Signature(wiring.Signature):
    """AXI4 as its manager sees it.

    Parameters
    ----------
    address_bits : int
        Width of addresses, in bits.
    data_bits : int
        Width of data, in bits.
    user_bits : int
        Width of AWUSER and ARUSER, in bits.
    id_bits : int
        Width of transaction IDs, in bits.
    """

    def __init__(self, *, address_bits: int, data_bits: int, user_bits: int,
                 id_bits: int = 1) -> None:
        self.address_bits = address_bits
        self.data_bits = data_bits
        self.user_bits = user_bits
        self.id_bits = id_bits
        members = {}
        for channel in ("aw", "ar"):
            members |= {
                f"{channel}id": Out(id_bits),
                f"{channel}addr": Out(address_bits),
                f"{channel}len": Out(8),
                f"{channel}size": Out(3),
                f"{channel}burst": Out(2),
                f"{channel}lock": Out(1),
                f"{channel}cache": Out(4),
                f"{channel}prot": Out(3),
                f"{channel}qos": Out(4),
                f"{channel}user": Out(user_bits),
                f"{channel}valid": Out(1),
                f"{channel}ready": In(1),
            }
        members |= {
            "wdata": Out(data_bits), "wstrb": Out(data_bits // 8), "wlast": Out(1),
            "wvalid": Out(1), "wready": In(1),
            "bid": In(id_bits), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "rid": In(id_bits), "rdata": In(data_bits), "rresp": In(2), "rlast": In(1),
            "rvalid": In(1), "rready": Out(1),
        }
        super().__init__(members)


class AXI4LiteSignature(wiring.Signature):
    """AXI4-Lite with 32-bit data, as its manager sees it.

    Parameters
    ----------
    address_bits : int
        Width of addresses, in bits.
    """

    def __init__(self, *, address_bits: int) -> None:
        self.address_bits = address_bits
        super().__init__({
            "awaddr": Out(address_bits), "awprot": Out(3), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "araddr": Out(address_bits), "arprot": Out(3), "arvalid": Out(1), "arready": In(1),
            "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
        })
