# SPDX-License-Identifier: Apache-2.0
"""What the README says: its figures, its C code, its files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.test_bench import EXPECTED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

#: Row of the table "How fast" → its figures, made from the cycles that the bench is tested for.
FIGURES = {
    "64 B messages, stream, L = 1": [("64B-L1", 64_000)],
    "L = 10": [("64B-L10", 64_000)],
    "L = 50": [("64B-L50", 64_000)],
    "L = 100": [("64B-L100", 64_000)],
    "4 KiB messages, stream, L = 10 / 100": [("4KiB-L10", 4_096_000), ("4KiB-L100", 4_096_000)],
    "64 B stream, unaligned (+3 → +5), L = 10": [("64B-unaligned-L10", 64_000)],
}
USES = {
    "one 64 KiB message, L = 100, use of the bus": ("64KiB-single-L100", 8192),
    "4 KiB single, unaligned, L = 10, use of the bus": ("4KiB-single-unaligned-L10", 512),
    "512 KiB, 25 % stalls on both sides, L = 10": ("512KiB-stalls-L10", 65_536),
}


def last_cell(label: str) -> str:
    rows = [line for line in README.splitlines() if line.startswith(f"| {label} |")]
    assert len(rows) == 1, label
    return rows[0].split("|")[-2].strip()


@pytest.mark.parametrize("label", FIGURES)
def test_rates(label: str) -> None:
    expected = [f"{count / EXPECTED[name][0]:.2f}" for name, count in FIGURES[label]]
    assert last_cell(label) == " / ".join(expected)


@pytest.mark.parametrize("label", USES)
def test_uses(label: str) -> None:
    name, beats = USES[label]
    assert last_cell(label) == f"{100 * beats / EXPECTED[name][0]:.1f} %"


def test_start() -> None:
    assert last_cell("COMMAND to ARVALID, cycles") == str(EXPECTED["64B-L1"][1])


def test_c_code_compiles(tmp_path: Path) -> None:
    code, = re.findall(r"```c\n(.*?)```", README, re.DOTALL)
    source = tmp_path / "readme.cpp"
    source.write_text(code, encoding="utf-8")
    done = subprocess.run(
        ["g++", "-std=c++17", "-Wall", "-Wextra", "-Wno-invalid-offsetof", "-Werror",
         "-fsyntax-only", f"-I{ROOT / 'docs'}", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_links(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:tests|tb|formal|sim|rtl)/[\w/]+\.\w+)`", README))))
def test_files(path: str) -> None:
    assert (ROOT / path).is_file()
