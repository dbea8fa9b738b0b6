# SPDX-License-Identifier: Apache-2.0
"""Exports the adapter as Verilog: `python -m mvxl -o mvxl_adapter.v --config default`.

Beside the Verilog it writes `<name>.json`: the configuration, and the register map with the
address of every register and the bits of its fields.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amaranth.back.verilog import YosysError

from . import __version__
from .adapter import Adapter
from .config import CONFIGS, AdapterConfig
from .export import to_verilog
from .registers import Page, register_map

MODULE = "mvxl_adapter"


def configured(name: str, settings: list[str]) -> AdapterConfig:
    """The configuration called `name`, changed by settings of the form `parameter=value`.

    Raises
    ------
    ValueError
        A setting has another form, names no parameter, or breaks a rule of `AdapterConfig`.
    """
    base = AdapterConfig.named(name)
    changes: dict[str, Any] = {}
    for setting in settings:
        parameter, equals, text = setting.partition("=")
        if not equals or parameter not in base.describe():
            raise ValueError(f"a setting must be one of {', '.join(base.describe())}, "
                             f"followed by =VALUE, not {setting!r}")
        if isinstance(getattr(base, parameter), bool):
            if text not in ("0", "1"):
                raise ValueError(f"{parameter} must be 0 or 1, not {text!r}")
            changes[parameter] = text == "1"
        else:
            try:
                changes[parameter] = int(text, 0)
            except ValueError:
                raise ValueError(f"{parameter} must be an integer, not {text!r}") from None
    return dataclasses.replace(base, **changes)


def described(config: AdapterConfig) -> dict[str, Any]:
    """Configuration and register map (addresses and strides in bytes) for tools that read JSON."""
    pages = register_map(config)

    def registers(page: Page, address: Callable[[str], int]) -> dict[str, Any]:
        return {register.name: {
            "address": address(register.name),
            **({"stride": register.array.stride} if register.array else {}),
            "fields": {field.name: {"lsb": field.lsb, "width": field.width}
                       for field in register.fields.values()},
        } for register in page}

    return {
        "module": MODULE,
        "version": __version__,
        "config": config.describe(),
        "partition_pages": {
            "stride": config.page_bytes,
            "registers": registers(
                pages.partition, lambda name: pages.partition_address(0, name))},
        "manager_page": {"registers": registers(pages.manager, pages.manager_address)},
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m mvxl", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path(f"{MODULE}.v"),
                        help="the Verilog file (default: %(default)s)")
    parser.add_argument("--config", default="default", metavar="NAME",
                        help=f"a named configuration: {', '.join(CONFIGS)} (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="PARAMETER=VALUE",
                        help="change a parameter of it; may be repeated")
    options = parser.parse_args(arguments)
    try:
        config = configured(options.config, options.set)
    except ValueError as error:
        parser.error(str(error))
    try:
        verilog = to_verilog(Adapter(config), MODULE)
        options.output.write_text(verilog)
        options.output.with_suffix(".json").write_text(
            json.dumps(described(config), indent=2) + "\n")
    except (OSError, YosysError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {MODULE}, {config.partitions} partitions, {config.entries} entries, "
          f"{config.data_bits}-bit data, {config.address_bits}-bit addresses")
    return 0


if __name__ == "__main__":
    sys.exit(main())
