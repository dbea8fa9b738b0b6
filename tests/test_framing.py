# SPDX-License-Identifier: Apache-2.0
"""Frames: against Python's CRC-32 and a plain encoder, and against random bytes."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from boards import framing
from boards.framing import Deframer
from formal.mutants import mutated

LONGEST_BYTES = 20

#: In a list of bytes: something was lost here.
LOST = None

Line = Sequence[int | None]


def escaped(contents: bytes) -> bytes:
    return contents.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")


def framed(contents: bytes) -> bytes:
    return b"\x7e" + escaped(contents + zlib.crc32(contents).to_bytes(4, "little")) + b"\x7e"


def good_frames(line: Line, *, module: Any = framing, seed: int | None = None) -> list[bytes]:
    """Contents of the good frames that the deframer finds; with a seed, with random pauses."""
    found, _ = deframed(line, module=module, seed=seed)
    return found


def deframed(line: Line, *, module: Any = framing,
             seed: int | None = None) -> tuple[list[bytes], int]:
    """Contents of the good frames, and how many others ended."""
    dut = module.Deframer(LONGEST_BYTES)
    chance = random.Random(seed)
    good: list[bytes] = []
    bad = 0
    complaints = []

    async def feed(ctx: Any) -> None:
        for byte in line:
            while seed is not None and chance.random() < .3:
                await ctx.tick()
            ctx.set(dut.i.payload, {"byte": byte or 0, "error": byte is LOST})
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(12)

    async def watch(ctx: Any) -> None:
        nonlocal bad
        contents = bytearray()
        while True:
            ctx.set(dut.o.ready, seed is None or chance.random() < .7)
            _, _, valid, ready, payload = await ctx.tick().sample(
                dut.o.valid, dut.o.ready, dut.o.payload)
            if not (valid and ready):
                continue
            if not payload.end:
                contents.append(payload.byte)
                if len(contents) > LONGEST_BYTES:
                    complaints.append("too many bytes of a frame were given")
                continue
            if not contents:
                complaints.append("an empty frame left a trace")
            if payload.good:
                good.append(bytes(contents[:-4]))
            else:
                bad += 1
            contents.clear()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(feed)
    sim.add_testbench(watch, background=True)
    sim.run()
    assert not complaints
    return good, bad


def encoded(frames: Sequence[bytes], *, module: Any = framing, seed: int | None = None) -> bytes:
    """What the framer makes of contents."""
    dut = module.Framer()
    chance = random.Random(seed)
    out = bytearray()
    complaints = []

    async def feed(ctx: Any) -> None:
        for contents in frames:
            for index, byte in enumerate(contents, start=1):
                while seed is not None and chance.random() < .3:
                    await ctx.tick()
                ctx.set(dut.i.payload, {"byte": byte, "last": index == len(contents)})
                ctx.set(dut.i.valid, 1)
                await ctx.tick().until(dut.i.ready)
                ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(200)

    async def watch(ctx: Any) -> None:
        held = None
        while True:
            ctx.set(dut.o.ready, seed is None or chance.random() < .7)
            _, _, valid, ready, byte = await ctx.tick().sample(
                dut.o.valid, dut.o.ready, dut.o.payload)
            if held not in (None, byte):
                complaints.append("a byte on offer changed")
            held = byte if valid and not ready else None
            if valid and ready:
                out.append(byte)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(feed)
    sim.add_testbench(watch, background=True)
    sim.run()
    assert not complaints
    return bytes(out)


FRAMES = [b"a", b"\x7e", b"\x7d\x7e\x5e", bytes(16), b"\xff" * 16, b"123456789"]


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_framer(seed: int | None) -> None:
    assert encoded(FRAMES, seed=seed) == b"".join(map(framed, FRAMES))


@settings(max_examples=30, deadline=None)
@given(frames=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=3),
       seed=st.none() | st.integers(0, 99))
def test_framer_random(frames: list[bytes], seed: int | None) -> None:
    assert encoded(frames, seed=seed) == b"".join(map(framed, frames))


def contents_with_special_fcs() -> bytes:
    """Some contents whose FCS has a flag and an escape in it."""
    for number in range(1 << 24):
        contents = number.to_bytes(3, "little")
        if {0x7D, 0x7E} <= set(zlib.crc32(contents).to_bytes(4, "little")):
            return contents
    raise AssertionError("there are such contents")


def test_fcs_is_escaped() -> None:
    contents = contents_with_special_fcs()
    assert encoded([contents]) == framed(contents)
    assert good_frames(framed(contents)) == [contents]


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_deframer(seed: int | None) -> None:
    assert deframed(b"".join(map(framed, FRAMES)), seed=seed) == (FRAMES, 0)


def test_one_flag_between_frames() -> None:
    line = b"\x7e" + b"\x7e".join(framed(frame)[1:-1] for frame in FRAMES) + b"\x7e"
    assert deframed(line) == (FRAMES, 0)


GOOD = framed(b"good")

#: A line, how many frames of it end without being good; the next frame is good.
DISTURBED: dict[str, tuple[Line, int]] = {
    "nothing": (b"", 0),
    "bytes-before-the-first-flag": (b"noise", 0),
    "flags": (b"\x7e\x7e\x7e", 0),
    "noise-between-frames": (GOOD[:-1] + b"\x7enoise", 1),
    "escape-before-flag": (b"\x7d", 0),
    "only-an-escape": (b"\x7e\x7d", 0),
    "truncated": (framed(b"cut off")[:6], 1),
    "wrong-fcs": (GOOD[:-2] + bytes([GOOD[-2] ^ 1]) + b"\x7e", 1),
    "wrong-byte": (b"\x7eGood" + GOOD[5:], 1),
    "aborted": (GOOD[:-1] + b"\x7d\x7e", 1),
    "short": (b"\x7eabc\x7e", 1),
    "too-long": (framed(bytes(LONGEST_BYTES - 3)), 1),
    "far-too-long": (framed(bytes(600)), 1),
    "good-and-more": (framed(bytes(LONGEST_BYTES - 4))[:-1] + b"more\x7e", 1),
    "too-long-with-escapes": (framed(b"\x7d" * (LONGEST_BYTES - 3)), 1),
    "lost-byte": ([*GOOD[:3], LOST, *GOOD[3:]], 1),
    "lost-byte-replaced": ([*GOOD[:3], LOST, *GOOD[4:]], 1),
    "break-before-the-end": ([*GOOD[:-1], LOST, 0x7E], 1),
    "break-behind-an-escape": ([0x7E, 0x7D, LOST, *GOOD[1:]], 0),
    "break-between-frames": ([0x7E, LOST], 0),
}


@pytest.mark.parametrize("name", DISTURBED)
def test_disturbed(name: str) -> None:
    line, bad = DISTURBED[name]
    before = [b"good"] if name == "noise-between-frames" else []
    assert deframed([*line, *framed(b"next")]) == ([*before, b"next"], bad)


def test_longest() -> None:
    contents = bytes(range(LONGEST_BYTES - 4))
    assert good_frames(framed(contents)) == [contents]


@settings(max_examples=60, deadline=None)
@given(line=st.lists(st.sampled_from([0x7E, 0x7D, LOST, 0x00]) | st.integers(0, 255), max_size=120),
       contents=st.binary(min_size=1, max_size=16), seed=st.none() | st.integers(0, 99))
def test_random_bytes(line: list[int | None], contents: bytes, seed: int | None) -> None:
    """What is between two flags is good exactly if a plain decoder says so; then a good frame."""
    expected = []
    pieces: list[list[int | None]] = [[]]
    for byte in line:
        if byte == 0x7E:
            pieces.append([])
        else:
            pieces[-1].append(byte)
    for piece in [*pieces[1:-1]]:
        decoded, escape = bytearray(), False
        for byte in piece:
            if byte is LOST:
                break
            if byte == 0x7D:
                escape = True
                continue
            decoded.append(byte ^ (0x20 if escape else 0))
            escape = False
        good = (LOST not in piece and not escape and 4 <= len(decoded) <= LONGEST_BYTES
                and zlib.crc32(decoded[:-4]).to_bytes(4, "little") == decoded[-4:])
        if good:
            expected.append(bytes(decoded[:-4]))
    assert good_frames([*line, *framed(contents)], seed=seed) == [*expected, contents]


def test_init_wrong_longest_bytes() -> None:
    with pytest.raises(ValueError, match="^longest_bytes must be at least 4, not 3$"):
        Deframer(3)


def frames_well(module: Any) -> bool:
    contents = [*FRAMES, contents_with_special_fcs()]
    return encoded(contents, module=module) == b"".join(map(framed, contents))


def deframes_well(module: Any) -> bool:
    for line, bad in [*DISTURBED.values(), (b"".join(map(framed, FRAMES)), 0)]:
        if line and deframed([*line, *framed(b"next")], module=module)[1] != bad:
            return False
    return deframed(b"".join(map(framed, FRAMES)), module=module) == (FRAMES, 0)


#: Name: what must fail, and the change.
FAULTS: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "fcs-not-checked": (deframes_well, "crc.match & ", ""),
    "spoiled-is-good": (deframes_well, " & ~spoiled & ~escaped", " & ~escaped"),
    "abort-is-good": (deframes_well, " & ~spoiled & ~escaped", " & ~spoiled"),
    "too-long-is-good": (deframes_well, "self.i.payload.error | full", "self.i.payload.error"),
    "loss-not-seen": (deframes_well, "self.i.payload.error | full", "full"),
    "given-before-a-flag": (deframes_well, "spoiled = Signal(init=1)", "spoiled = Signal()"),
    "empty-frames-end": (deframes_well, "(is_flag & (given_bytes != 0))", "is_flag"),
    "escape-kept": (deframes_well, "escaped.eq(is_escape)", "escaped.eq(escaped | is_escape)"),
    "crc-goes-on": (deframes_well, "crc.start.eq(passing & is_flag)", "crc.start.eq(0)"),
    "flag-not-escaped": (frames_well, "(byte == FLAG) | (byte == ESCAPE)", "byte == ESCAPE"),
    "escape-not-escaped": (frames_well, "(byte == FLAG) | (byte == ESCAPE)", "byte == FLAG"),
    "crc-of-escapes": (frames_well, "crc.i.valid.eq(sent)",
                       "crc.i.valid.eq(self.o.valid & self.o.ready)"),
    "fcs-reversed": (frames_well, "word_select(index, 8)", "word_select(~index, 8)"),
    "no-first-flag": (frames_well, "payload.eq(FLAG),\n                    self",
                      "payload.eq(0),\n                    self"),
}


@cache
def sound(passes: Callable[[Any], bool]) -> bool:
    """Whether it passes without a fault."""
    return passes(framing)


@pytest.mark.parametrize("name", FAULTS)
def test_finds_a_planted_fault(name: str) -> None:
    passes, old, new = FAULTS[name]
    assert sound(passes)
    try:
        found = not passes(mutated(framing, old, new))
    except AssertionError:
        found = True
    assert found
