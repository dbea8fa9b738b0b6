# SPDX-License-Identifier: Apache-2.0
"""The command `yosys`, over the native library in the pyosys wheel, which has no command.

Understands what Amaranth, SymbiYosys and this project use: `-q`, `-l LOG`, `-p COMMANDS`,
`-s SCRIPT`, `-V`, and file names (`-` is a script on the standard input). Imports nothing of the
project, because it is run by tools that know nothing of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from pyosys import libyosys


def parse(arguments: list[str]) -> argparse.Namespace:
    """Take the command line apart. Exits with a usage message if it is wrong."""
    parser = argparse.ArgumentParser(prog="yosys")
    parser.add_argument("-q", dest="quiet", action="store_true", help="errors only")
    parser.add_argument("-l", dest="log", metavar="LOG", help="write the log to this file")
    parser.add_argument("-p", dest="commands", metavar="COMMANDS", action="append", default=[],
                        help="run these commands, after the files")
    parser.add_argument("-s", dest="scripts", metavar="SCRIPT", action="append", default=[],
                        help="run this script")
    parser.add_argument("-V", "--version", dest="version", action="store_true")
    parser.add_argument("files", nargs="*", help="scripts (.ys, -), or designs to read")
    return parser.parse_args(arguments)


def word(path: str) -> str:
    """`path` as one word of a Yosys command, which can quote nothing."""
    if any(character.isspace() for character in path):
        sys.exit(f"ERROR: a file name for yosys must be without white space, not {path!r}")
    return path


def command_of(path: str) -> str:
    """The command that runs or reads the file `path`, by its suffix."""
    readers = {".ys": "script", ".il": "read_rtlil", ".json": "read_json",
               ".v": "read_verilog", ".sv": "read_verilog -sv"}
    suffix = os.path.splitext(path)[1]
    if suffix not in readers:
        sys.exit(f"ERROR: a file for yosys must end in {', '.join(readers)}, not {path!r}")
    return f"{readers[suffix]} {word(path)}"


def script_of(options: argparse.Namespace) -> str:
    """The script that does what the command line asks for."""
    lines = [sys.stdin.read() if path == "-" else command_of(path) for path in options.files]
    lines += [f"script {word(path)}" for path in options.scripts]
    return "\n".join([*lines, *options.commands, ""])


def errors_of(log: str) -> str:
    """The part of a log from its first error on."""
    with open(log, encoding="utf-8", errors="replace") as lines:
        text = lines.read()
    return text[max(text.find("ERROR:"), 0):]


def main() -> None:
    """Run the command line in a child, because the library exits on an error without telling it.

    Both leave without the library's teardown, which can crash.
    """
    options = parse(sys.argv[1:])
    if options.version:
        print(libyosys.yosys_maybe_version(), flush=True)
        os._exit(0)
    with tempfile.TemporaryDirectory() as scratch:
        log = options.log or os.path.join(scratch, "log")
        script = os.path.join(scratch, "command_line.ys")
        with open(script, "w", encoding="utf-8") as lines:
            lines.write(script_of(options))
        child = os.fork()
        if child == 0:
            # One `tee` around everything, for it opens its log anew each time.
            quiet = "-q " if options.quiet else ""
            libyosys.Pass.call(libyosys.Design(), f"tee {quiet}-o {word(log)} script {script}")
            libyosys.log_flush()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status and options.quiet:
            print(errors_of(log), file=sys.stderr, flush=True)
    os._exit(1 if status else 0)


if __name__ == "__main__":
    main()
