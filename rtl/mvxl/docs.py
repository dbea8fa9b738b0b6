# SPDX-License-Identifier: Apache-2.0
"""C header and register reference, made from `registers.rdl`: `python -m mvxl.docs DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from systemrdl.node import AddrmapNode, FieldNode, RegNode

from .config import AdapterConfig
from .registers import SOURCE, elaborate, is_privileged

__all__ = ["export_docs"]


def export_docs(directory: Path) -> list[Path]:
    """Write the C header and the register reference of the `default` configuration.

    Needs `peakrdl-cheader` and `peakrdl-markdown`, which nothing else of the package does.

    Returns
    -------
    list of Path
        The files written: `mvxl_adapter.h` and `registers.md`.
    """
    from peakrdl_cheader.exporter import CHeaderExporter
    from peakrdl_markdown.exporter import MarkdownExporter

    class Reference(MarkdownExporter):
        """Describes an array by its first element, lists the values of enumerations, and marks
        privileged registers."""

        def _add_addrmap_regfile_mem(self, node: Any, msg: Any, depth: int) -> Any:
            output = super()._add_addrmap_regfile_mem(node, msg, depth)
            if node.is_array and any(node.current_idx):
                output.generated = ""
            return output

        def _addrnode_header(self, node: Any, msg: Any, heading_level: int) -> str:
            output = super()._addrnode_header(node, msg, heading_level)
            if isinstance(node, RegNode) and is_privileged(node):
                output += "Privileged: it answers only accesses with AxPROT[0] = 1.\n\n"
            return output

        def _add_field(self, node: FieldNode, msg: Any) -> Any:
            output = super()._add_field(node, msg)
            encoding = node.get_property("encode")
            if encoding is not None:
                rows = [f"|{item.value}|{item.name}|{' '.join(item.rdl_desc.split())}|"
                        for item in encoding]
                output.generated += "\n".join(["", "|Value|Name|Meaning|", "|--|--|--|", *rows, ""])
            return output

    top = elaborate(AdapterConfig.named("default"))
    directory.mkdir(parents=True, exist_ok=True)
    header = directory / "mvxl_adapter.h"
    reference = directory / "registers.md"
    CHeaderExporter().export(top, str(header))
    Reference().export(top, str(reference), input_files=[SOURCE.name])
    includes = "#include <assert.h>\n"
    text = header.read_text(encoding="utf-8")
    header.write_text("// SPDX-License-Identifier: Apache-2.0\n"
                      + text.replace(includes, includes + _c_notes(top), 1), encoding="utf-8")
    text = reference.read_text(encoding="utf-8")
    reference.write_text(f"<!-- SPDX-License-Identifier: Apache-2.0 -->\n{text}", encoding="utf-8")
    return [header, reference]


def _c_notes(top: AddrmapNode) -> str:
    """What PeakRDL's C header leaves out: how to access, and the numbers of enumerations."""
    encodings = {}
    for node in top.descendants():
        encoding = node.get_property("encode") if isinstance(node, FieldNode) else None
        if encoding is not None:
            encodings[encoding.type_name] = encoding
    lines = ["", "// The structs are packed: through a pointer to them compilers may access single",
             "// bytes, which the adapter refuses. Access registers as",
             "// *(volatile uint32_t *)(base + offsetof(mvxl_adapter_t, manager.STATUS)).", "",
             "// Privileged: these registers of a partition's page, like the manager's whole page,",
             "// answer only accesses with AxPROT[0] = 1."]
    lines += [f"//   {node.inst_name}" for node in top.descendants()
              if isinstance(node, RegNode) and is_privileged(node)]
    for name, encoding in sorted(encodings.items()):
        lines += ["", f"// enum - {name}"]
        lines += [f"#define {name.upper()}__{item.name} {item.value}" for item in encoding]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m mvxl.docs",
        description="Write the C header and the register reference, made from registers.rdl.")
    parser.add_argument("directory", type=Path,
                        help="directory of mvxl_adapter.h and registers.md")
    for path in export_docs(parser.parse_args(arguments).directory):
        print(path)


if __name__ == "__main__":
    main()
