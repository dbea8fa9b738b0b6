# SPDX-License-Identifier: Apache-2.0
"""docs/figures.md and its pictures: as a simulation makes them, and true to the register map."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mvxl.config import AdapterConfig
from mvxl.messages import Op, Status
from mvxl.registers import register_map
from sim import figures
from sim.figures import WALKS, Walk, draw, main, with_tables
from tests.test_bench import EXPECTED

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "figures.md").read_text(encoding="utf-8")
MADE = re.compile(r"<!-- made by sim\.figures: (\w+) -->\n(.*?)<!-- end of \1 -->", re.DOTALL)
WRITTEN = MADE.sub("", PAGE)
TABLES = dict(MADE.findall(PAGE))

#: The steps, by the walks that show them.
STEPS = {"fig11_send": range(1101, 1108), "fig12_engine": range(1201, 1207),
         "fig12_processor": range(1201, 1207)}

MAP = register_map(AdapterConfig.named("default"))
#: A name that both pages have means the register of the partition's.
REGISTERS = {register.name.upper(): register for page in (MAP.manager, MAP.partition)
             for register in page}

STALE = "is stale: run `python -m sim.figures docs`"


@pytest.fixture(scope="module")
def walks() -> dict[str, Walk]:
    return {walk.name: walk for walk in figures.simulate_walks()}


# As the simulation makes them.

def test_tables_are_fresh(walks: dict[str, Walk]) -> None:
    assert with_tables(PAGE, list(walks.values())) == PAGE, f"docs/figures.md {STALE}"


@pytest.mark.parametrize("name", WALKS)
def test_picture_is_fresh(walks: dict[str, Walk], name: str) -> None:
    committed = (DOCS / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    assert committed == draw(walks[name]), f"docs/figures/{name}.svg {STALE}"


def test_no_other_pictures() -> None:
    """But the one of sim/growth.py."""
    made = {f"{name}.svg" for name in WALKS}
    assert {path.name for path in (DOCS / "figures").iterdir()} - {"growth.svg"} == made


def test_command(walks: dict[str, Walk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                 capsys: pytest.CaptureFixture[str]) -> None:
    """It makes the page and its pictures from a page with its tables emptied."""
    monkeypatch.setattr(figures, "simulate_walks", lambda: list(walks.values()))
    (tmp_path / "figures.md").write_text(
        MADE.sub(r"<!-- made by sim.figures: \1 -->\n<!-- end of \1 -->", PAGE), encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    names = ["figures.md", *(f"figures/{name}.svg" for name in WALKS)]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    for name in names:
        assert (tmp_path / name).read_bytes() == (DOCS / name).read_bytes()


def test_command_without_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert f"sim.figures: [Errno 2] No such file or directory: '{tmp_path / 'figures.md'}'" in (
        capsys.readouterr().err)


@pytest.mark.parametrize(("page", "times"), [("", 0), (PAGE + PAGE, 2)])
def test_page_without_marks(walks: dict[str, Walk], page: str, times: int) -> None:
    with pytest.raises(ValueError, match=f"must have the marks of setting once, not {times} times"):
        with_tables(page, list(walks.values()))


# What the page says of the order of things.

def test_figure_11_in_order(walks: dict[str, Walk]) -> None:
    """Lock, move, last response, cursor and lock, COMPLETED: one after the other."""
    walk = walks["fig11_send"]
    seen = walk.transfers["seen"]
    counted, = (row.start for row in walk.rows if "SEND ends OK" in row.text)
    risen, = (row.start for row in walk.rows if row.text == "`irq[0]` rises")
    order = [walk.locked, seen["ar"][0], seen["r"][0], seen["w"][-1], seen["b"][-1],
             walk.unlocked, counted, risen, walk.marks["returned"]]
    assert order == sorted(set(order))
    assert walk.cycle(seen["ar"][0]) == EXPECTED["64B-L1"][1]      # as the README tells


@pytest.mark.parametrize("name", ["fig12_engine", "fig12_processor"])
def test_figure_12_in_order(walks: dict[str, Walk], name: str) -> None:
    """The lock is held from before the driver knows of it until after RELEASE is written."""
    walk = walks[name]
    used, silent = ("seen", "cpu") if name == "fig12_engine" else ("cpu", "seen")
    order = [walk.locked, walk.marks["granted"], walk.transfers[used]["ar"][0],
             walk.transfers[used]["w"][-1], walk.transfers[used]["b"][-1]]
    released, = (access.effect for access in walk.accesses if access.name == "RELEASE")
    order += [released, walk.unlocked, walk.marks["returned"]]
    assert order == sorted(set(order))
    assert not any(walk.transfers[silent].values())


@pytest.mark.parametrize("name", WALKS)
def test_steps_begin_in_order(walks: dict[str, Walk], name: str) -> None:
    """Each step has a row; the first rows of the steps come one after the other."""
    begins: dict[int, int] = {}
    for row in walks[name].rows:
        if row.step and not row.text.startswith(("writes `COMPLETED_COMPARE`",
                                                 "writes `IRQ_ENABLE`", "reads `COMPLETED`")):
            begins[row.step] = min(row.start, begins.get(row.step, row.start))
    assert sorted(begins) == list(STEPS[name])
    assert list(begins.values()) == [begins[step] for step in STEPS[name]]


# Names.

def test_registers_and_fields_exist() -> None:
    """Everything in capitals between backticks is of the register map, or a status or command."""
    others = {one.name for one in chain(Status, Op)}
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+(?:\.\w+)?)`", PAGE))
    assert len(named) > 50
    for name in named:
        register, _, field = name.partition(".")
        assert register in REGISTERS or register in others and not field, name
        assert not field or field in REGISTERS[register].fields, name


def test_told_fields_exist() -> None:
    """The accesses in the tables have fields of their registers."""
    told = re.findall(r"(?:reads|writes) `(\w+)`: (.*) \|", PAGE)
    assert len(told) > 80
    for name, fields in told:
        for field in () if fields == "all fields 0" else fields.split(", "):
            assert field.split()[0] in REGISTERS[name].fields, (name, field)


def test_every_status_is_explained() -> None:
    for status in Status:
        if status is not Status.OK:
            assert f"`{status.name}`" in WRITTEN, status


@pytest.mark.parametrize("name", WALKS)
def test_every_step_is_there(name: str) -> None:
    """In the text, in the table of cycles, and in the picture."""
    heading = {"fig11_send": "## Figure 11: SEND", "fig12_engine": "## Figure 12, with the adapter",
               "fig12_processor": "## Figure 12, with the driver"}[name]
    chapter = WRITTEN.split(f"\n{heading}")[1].split("\n## ")[0]
    words = {"".join(text.itertext()) for text in ElementTree.parse(
        DOCS / "figures" / f"{name}.svg").getroot().iter("{http://www.w3.org/2000/svg}text")}
    for step in STEPS[name]:
        assert re.search(rf"^\| {step} \|", chapter, re.MULTILINE), step
        assert re.search(rf"^\| [-\d to]+ \| {step} \|", TABLES[name], re.MULTILINE), step
        assert str(step) in words


def test_cycles_are_told_in_tables_only() -> None:
    """Those were made by the simulation; the text around them would not follow it."""
    assert re.findall(r"(?i)cycles? -?\d+|\d+ cycles?", WRITTEN) == ["Cycle 0"]


# Links and pictures.

@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)]+)\)", PAGE))))
def test_links(link: str) -> None:
    path, _, anchor = link.partition("#")
    assert (DOCS / path).exists()
    if anchor:
        headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
                   for heading in headings]
        assert not path and anchors.count(anchor) == 1


def test_page_shows_every_picture() -> None:
    assert re.findall(r"!\[.+\]\(figures/(\w+)\.svg\)", PAGE) == list(WALKS)


@pytest.mark.parametrize("name", WALKS)
def test_picture_can_be_read(name: str) -> None:
    """At most 900 pixels wide, letters of at least 10, all of it dark on white."""
    root = ElementTree.parse(DOCS / "figures" / f"{name}.svg").getroot()
    width, height = int(root.get("width", "")), int(root.get("height", ""))
    assert width <= 900
    assert root.get("viewBox") == f"0 0 {width} {height}"
    paper = root.find("{http://www.w3.org/2000/svg}rect")
    assert paper is not None
    assert paper.attrib == {"width": str(width), "height": str(height), "fill": "#ffffff"}
    assert all(float(one.get("font-size", "10")) >= 10 for one in root.iter())
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        colour = text.get("fill", root.get("fill", ""))
        red, green, blue = (int(colour[at:at + 2], 16) for at in (1, 3, 5))
        assert 0.3 * red + 0.59 * green + 0.11 * blue < 100, colour
