# SPDX-License-Identifier: Apache-2.0
"""The system on a board, all but pins, clock and reset: adapter, memory, bridge, UART, LEDs."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mvxl.adapter import Adapter
from mvxl.config import AdapterConfig
from mvxl.stream import SkidBuffer

from .bridge import LONGEST_REQUEST_BYTES, Bridge
from .framing import Deframer, Framer
from .messages import FrameByte, Unframed
from .ram import AXI4Ram
from .uart import UartReceiver, UartTransmitter, uart_divisor

__all__ = ["LEDS", "Periphery", "Soc", "Stretcher"]

LEDS = 8

#: LEDs for partitions; with more of them several share one.
_PARTITION_LEDS = 4

#: Reciprocal of the shortest time that an LED is lit, in Hz.
_LIT_PER_SECOND = 16


class Stretcher(wiring.Component):
    """Makes short events visible: after one, a light is on for a whole period, at least.

    Parameters
    ----------
    lights : int
    period_log2 : int
        Base-2 logarithm of the period in cycles.

    Members
    -------
    event : In(lights)
    lit : Out(lights)
    """

    event: Signal
    lit: Signal

    def __init__(self, lights: int, *, period_log2: int) -> None:
        self._period_log2 = period_log2
        super().__init__({"event": In(lights), "lit": Out(lights)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(self._period_log2 + 1)
        seen = Signal.like(self.event)
        m.d.sync += [timer.eq(timer[:-1] + 1), seen.eq(seen | self.event)]
        with m.If(timer[-1]):
            m.d.sync += [self.lit.eq(seen), seen.eq(self.event)]
        return m


class Periphery(wiring.Component):
    """What a board adds to an adapter: the memory, and a serial line as manager of its buses.

    Parameters
    ----------
    config : AdapterConfig
        Up to 31 partitions.
    clock_hz : int
    baud : int
        See `uart_divisor`.
    memory_bytes : int
        A power of two from 4096.

    Members
    -------
    rx : In(1)
        Serial line in: not synchronous to the clock.
    tx : Out(1)
        Serial line out.
    leds : Out(8)
        0 to 3: writes to the memory for partition p, modulo 4. 4: a request was carried out. 5:
        an `irq` is high. 6: `irq_manager` is high. 7: a frame was dropped, a request ended with
        another status than OK, or the memory answered with an error. Each is lit for 1/16 s at
        least.
    s_axil : Out(AXI4LiteSignature)
        To the adapter's.
    m_axi : In(AXI4Signature)
        From the adapter's.
    irq, irq_manager : In
        From the adapter's.

    Raises
    ------
    ValueError
        As `uart_divisor`, `Bridge` and `AXI4Ram`.
    """

    rx: Signal
    tx: Signal
    leds: Signal
    irq: Signal
    irq_manager: Signal

    def __init__(self, config: AdapterConfig, *, clock_hz: int, baud: int,
                 memory_bytes: int) -> None:
        self._config = config
        divisor = uart_divisor(clock_hz, baud)
        self.ram = AXI4Ram(size_bytes=memory_bytes, address_bits=config.address_bits,
                           data_bits=config.data_bits, user_bits=config.user_bits)
        self.receiver = UartReceiver(divisor)
        self.deframer = Deframer(LONGEST_REQUEST_BYTES)
        self.bridge = Bridge(config, clock_hz=clock_hz, memory_bytes=memory_bytes)
        self.framer = Framer()
        self.transmitter = UartTransmitter(divisor)
        self.stretcher = Stretcher(LEDS, period_log2=(clock_hz // _LIT_PER_SECOND).bit_length())
        super().__init__({
            "rx": In(1, init=1),
            "tx": Out(1, init=1),
            "leds": Out(LEDS),
            "s_axil": Out(self.bridge.registers.signature),
            "m_axi": In(self.ram.bus.signature.flip()),
            "irq": In(config.partitions),
            "irq_manager": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bridge, ram, bus = self.bridge, self.ram, self.m_axi
        m.submodules.receiver = self.receiver
        m.submodules.deframer = self.deframer
        m.submodules.bridge = bridge
        m.submodules.framer = self.framer
        m.submodules.transmitter = self.transmitter
        m.submodules.ram = ram
        m.submodules.stretcher = self.stretcher
        wiring.connect(m, self.receiver.o, self.deframer.i)
        # So that no path leads from one of them through the next.
        for name, buffer, source, sink in (
                ("unframed", SkidBuffer(Unframed), self.deframer.o, bridge.i),
                ("reply", SkidBuffer(FrameByte), bridge.o, self.framer.i),
                ("framed", SkidBuffer(8), self.framer.o, self.transmitter.i)):
            m.submodules[name] = buffer
            wiring.connect(m, source, buffer.i)
            wiring.connect(m, buffer.o, sink)
        wiring.connect(m, bridge.memory, ram.byte)
        wiring.connect(m, bridge.registers, wiring.flipped(self.s_axil))
        wiring.connect(m, wiring.flipped(bus), ram.bus)
        m.d.comb += [
            self.receiver.line.eq(self.rx),
            self.tx.eq(self.transmitter.line),
            bridge.irq.eq(self.irq),
            bridge.irq_manager.eq(self.irq_manager),
            self.leds.eq(self.stretcher.lit),
        ]

        error = Signal()    # SLVERR and DECERR have this bit
        m.d.comb += error.eq((bus.rvalid & bus.rresp[1]) | (bus.bvalid & bus.bresp[1]))
        # Through flops, so that no path of a bus leads to a light.
        m.d.sync += self.stretcher.event.eq(Cat(
            *(self._traffic(light) for light in range(_PARTITION_LEDS)),
            bridge.replied,
            self.irq.any(),
            self.irq_manager,
            bridge.trouble | error,
        ))
        return m

    def _traffic(self, light: int) -> Value:
        """Whether a write burst for one of the light's partitions is offered."""
        bus = self.m_axi
        partitions = range(light, self._config.partitions, _PARTITION_LEDS)
        return Cat(bus.awvalid & (bus.awuser == p) for p in partitions).any()


class Soc(wiring.Component):
    """An adapter with its `Periphery`, whose parameters and errors it has.

    Members
    -------
    rx, tx, leds
        As `Periphery`.
    """

    rx: Signal
    tx: Signal
    leds: Signal

    def __init__(self, config: AdapterConfig, *, clock_hz: int, baud: int,
                 memory_bytes: int) -> None:
        self.adapter = Adapter(config)
        self.periphery = Periphery(config, clock_hz=clock_hz, baud=baud,
                                   memory_bytes=memory_bytes)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "leds": Out(LEDS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        adapter, periphery = self.adapter, self.periphery
        m.submodules.adapter = adapter
        m.submodules.periphery = periphery
        wiring.connect(m, periphery.s_axil, adapter.s_axil)
        wiring.connect(m, adapter.m_axi, periphery.m_axi)
        m.d.comb += [
            periphery.rx.eq(self.rx),
            self.tx.eq(periphery.tx),
            self.leds.eq(periphery.leds),
            periphery.irq.eq(adapter.irq),
            periphery.irq_manager.eq(adapter.irq_manager),
        ]
        return m
