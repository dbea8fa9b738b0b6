# SPDX-License-Identifier: Apache-2.0
"""What a service scenario's software knows, and what is made of its outcome.

The bytes of every request follow from the scenario's seed, so that the client, the server and the
judge all know them.
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from mvxl.driver import Counters

from .scenario import Manager, Scenario, Service
from .velocity import Change, Figures, Pair, Snapshot, intervals

__all__ = ["changes_of", "judge_replies", "pair_name", "report_intervals", "request_of",
           "snapshots_of", "watched_pairs"]


@cache
def _request_counts(service: Service, client: int) -> list[int]:
    return service.request_counts(client)


def request_of(service: Service, client: int, number: int) -> bytes:
    """The bytes of a request; `client` is an index of the service's clients."""
    count = _request_counts(service, client)[number]
    return Random(f"{service.seed} {client} {number}").randbytes(count)


def watched_pairs(scenario: Scenario) -> list[Pair]:
    """The ordered pairs between which messages can go."""
    pairs = {(sender, entry.owner) for entry in scenario.entries for sender in entry.senders}
    pairs |= {(one.partition, one.partition) for one in scenario.traffic if one.op == "mvcl"}
    return sorted(pairs)


def judge_replies(service: Service, checks: list[dict[str, Any]]) -> list[str]:
    """Requests that came wrong, replies that came wrong, and what did not come; each once."""
    problems = []
    for check in checks:
        if check["equal"]:
            continue
        way = ("on its way to partition {}" if check["what"] == "request" else
               "and partition {} answered something else").format(service.server)
        counts = (f"{check['wrong_bytes']} of its {check['count']} bytes, the first at its byte "
                  f"{check['first_wrong']}" if check["count"] == check["must_count"] else
                  f"it has {check['count']} bytes instead of {check['must_count']}")
        what = ("request" if check["what"] == "request" else "the reply to request")
        total = service.requests[service.clients.index(check["partition"])]
        problems.append(f"{what} {check['number']} of 0 to {total - 1} of partition "
                        f"{check['partition']} is wrong, {way}: {counts}")
    for what in ("request", "reply"):
        for client, partition in enumerate(service.clients):
            came = sum(one["what"] == what and one["partition"] == partition for one in checks)
            if came != service.requests[client]:
                problems.append(f"partition {partition}: {service.requests[client]} of what is a "
                                f"{what} must arrive, not {came}")
    return problems


def snapshots_of(outcome: dict[str, Any]) -> list[Snapshot]:
    """The workload manager's snapshots, as they were written down."""
    return [Snapshot(cycle=one["cycle"], counters={
        (sender, receiver): Counters(**counters)
        for sender, receiver, counters in one["counters"]}) for one in outcome["snapshots"]]


def changes_of(outcome: dict[str, Any]) -> list[Change]:
    """What the workload manager changed."""
    return [Change(**{**one, "pair": tuple(one["pair"])}) for one in outcome["changes"]]


def pair_name(pair: Pair) -> str:
    sender, receiver = pair
    return f"{sender} → {'none' if receiver is None else receiver}"


def _cells(figures: Figures, clock_mhz: int) -> list[str]:
    velocity = figures.velocity
    return [f"{figures.messages:,}", f"{figures.bytes_per_cycle:.3f}",
            f"{figures.bytes_per_cycle * clock_mhz:.1f}", f"{figures.refused:,}",
            f"{figures.wait_percent:.0f} %", "–" if velocity is None else f"{velocity:.1f}"]


def report_intervals(manager: Manager, outcome: dict[str, Any], data_bytes: int,
                     start_cycle: int, console: Console) -> None:
    """Print what the workload manager saw, interval by interval, and what it changed."""
    table = Table(title="What the workload manager saw", title_justify="left", box=box.SIMPLE)
    for name in ("cycles", "pair", "messages", "B/cycle", "MB/s", "refused", "waited",
                 "velocity"):
        table.add_column(name, justify="left" if name in ("cycles", "pair") else "right")
    changes = {one.cycle: one for one in changes_of(outcome)}
    for one in intervals(snapshots_of(outcome), data_bytes):
        span = f"{one.start_cycle - start_cycle:,} to {one.end_cycle - start_cycle:,}"
        for pair, figures in one.pairs.items():
            if figures.velocity is not None or figures.refused:
                table.add_row(span, pair_name(pair), *_cells(figures, manager.clock_mhz))
                span = ""
        table.add_section()
        if change := changes.get(one.end_cycle):
            table.add_row("", f"[bold]weight of {change.partition}: {change.weight_before} → "
                              f"{change.weight}[/bold]")
            table.add_section()
    console.print(table)
    for change in changes.values():
        console.print(
            f"After cycle {change.cycle - start_cycle:,}: {pair_name(change.pair)} had the "
            f"velocity {change.velocity:.1f} and the goal is {manager.velocity_goal}; it waits for "
            f"partition {change.partition}, whose weight became {change.weight}.")
    console.print(f"[dim]Velocity: 100 × beats / (beats + cycles waited), see docs/velocity.md. "
                  f"MB/s at {manager.clock_mhz} MHz. Waited: of the interval's cycles.[/dim]\n")
