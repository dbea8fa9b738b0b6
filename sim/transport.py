# SPDX-License-Identifier: Apache-2.0
"""The register port as software reaches it, for `mvxl.driver` in a cocotb simulation.

One `AxiLiteMaster` stands for the interconnect; every partition and the manager has a transport of
its own over it, with its privilege, its interrupt and its MMU: the pages that it is given.

Usage::

    master = register_port(dut)
    manager = ManagerDriver(AxiLiteTransport(master, privileged=True), config)
    driver = PartitionDriver(partition_transport(dut, master, config, 0), config, 0)
"""

from __future__ import annotations

import logging
from typing import Any

from cocotbext.axi import AxiLiteBus, AxiLiteMaster
from cocotbext.axi.constants import AxiProt, AxiResp

from mvxl.config import AdapterConfig

__all__ = ["AxiLiteTransport", "BusError", "PageFault", "partition_transport", "register_port"]

WORD_BYTES = 4


class BusError(Exception):
    """An access got an error response; `response` is its name, SLVERR or DECERR."""

    def __init__(self, kind: str, address: int, response: str) -> None:
        super().__init__(f"{kind} of {address:#x} must be answered OKAY, not {response}")
        self.address = address
        self.response = response


class PageFault(Exception):
    """The MMU did not let an access through; nothing was seen on the bus."""


def register_port(dut: Any) -> AxiLiteMaster:
    """The manager side of `dut.s_axil`; make one for a simulation."""
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
    # Otherwise each access writes lines into the simulation's log.
    for half in (master.write_if, master.read_if):
        half.log.setLevel(logging.WARNING)
    return master


class AxiLiteTransport:
    """Accesses to the register port by one piece of software.

    Parameters
    ----------
    master : AxiLiteMaster
        What `register_port` returned.
    privileged : bool
        AxPROT[0] of its accesses. They are secure ones (AxPROT[1] = 0).
    pages : range, optional
        The addresses that its MMU lets through; all of them by default.
    irq : handle, optional
        A vector of interrupt lines (levels).
    line : int
        Which of them is its own.
    """

    def __init__(self, master: AxiLiteMaster, *, privileged: bool = False,
                 pages: range | None = None, irq: Any = None, line: int = 0) -> None:
        self._master = master
        self._prot = AxiProt.PRIVILEGED if privileged else AxiProt(0)
        self._pages = pages
        self._irq = irq
        self._line = line

    def _translate(self, kind: str, address: int) -> int:
        if self._pages is not None and address not in self._pages:
            raise PageFault(f"{kind} of {address:#x} must be in the pages "
                            f"[{self._pages.start:#x}, {self._pages.stop:#x})")
        return address

    async def read32(self, address: int) -> int:
        """The word at `address`.

        Raises
        ------
        PageFault
            The MMU stopped the access.
        BusError
            It got an error response.
        """
        answer = await self._master.read(self._translate("read", address), WORD_BYTES,
                                         prot=self._prot)
        if answer.resp != AxiResp.OKAY:
            raise BusError("read", address, AxiResp(answer.resp).name)
        return int.from_bytes(answer.data, "little")

    async def write32(self, address: int, value: int) -> None:
        """Write the word at `address`; return when it is acknowledged. Raises as `read32`."""
        answer = await self._master.write(self._translate("write", address),
                                          value.to_bytes(WORD_BYTES, "little"), prot=self._prot)
        if answer.resp != AxiResp.OKAY:
            raise BusError("write", address, AxiResp(answer.resp).name)

    async def interrupt(self) -> None:
        """Return when its interrupt line is high; at once if it is.

        Raises
        ------
        TypeError
            It was made without one.
        """
        if self._irq is None:
            raise TypeError("irq must be given to wait for an interrupt, not None")
        while not self._irq.value.to_unsigned() >> self._line & 1:
            await self._irq.value_change


def partition_transport(dut: Any, master: AxiLiteMaster, config: AdapterConfig, partition: int, *,
                        mmu: bool = True) -> AxiLiteTransport:
    """What the unprivileged driver of a partition has: its own page, and its interrupt.

    Without `mmu` it reaches every page, as if the MMU were set up wrongly.
    """
    start = partition * config.page_bytes
    return AxiLiteTransport(master, irq=dut.irq, line=partition,
                            pages=range(start, start + config.page_bytes) if mmu else None)
