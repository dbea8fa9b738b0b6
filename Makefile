# SPDX-License-Identifier: Apache-2.0
# Every target first makes .venv with all tools; nothing else of the machine is changed.

VENV := .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
# Where launchers of the tools are, for commands that find a tool by its name.
WITH_TOOLS = PATH="$$($(PY) -m sim.toolchain):$$PATH"
# Options of several targets, each given if its variable is.
AS_CONFIGURED = $(if $(CONFIG),--config $(CONFIG))
ON_BOARD = --board $(BOARD) $(if $(DEVICE),--device $(DEVICE)) $(AS_CONFIGURED)

# Variables of the targets below; empty means the default of the command.
FILE ?=
FLIP ?=
SCENARIO ?=
CONFIG ?=
BOARD ?= ulx3s
DEVICE ?=
CLOCK_MHZ ?=
FLASH ?=
PYTEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help test demo bench fmax growth prove regress verilog bitstream flash boards docs clean
.DELETE_ON_ERROR:

help: ## this list
	@echo "Targets:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

$(READY): pyproject.toml scripts/setup_venv.sh
	@PYTHON="$(PYTHON)" scripts/setup_venv.sh $(VENV)
	@touch $@

test: $(READY) ## every test, proofs included
	$(PY) -m pytest -n $(PYTEST_WORKERS)

demo: $(READY) ## a file through all partitions, or SCENARIO=my.toml (FILE=path, FLIP=1)
	$(PY) -m sim.demo $(if $(FILE),--file "$(FILE)") $(if $(FLIP),--flip) \
		$(if $(SCENARIO),--scenario "$(SCENARIO)")

bench: $(READY) ## throughput and latency, beside other engines
	$(PY) -m sim.bench

fmax: $(READY) ## area and clock frequency on an ECP5-85F (CONFIG=default)
	$(PY) -m sim.fmax $(AS_CONFIGURED)

growth: $(READY) ## cycles, area, clock from 4 to 65,536 entries, to 32 partitions, to 512 bits
	$(PY) -m sim.growth docs

prove: $(READY) ## every proof
	$(PY) -m formal.run --all

regress: $(READY) ## many random messages against the reference model, and every planted fault
	$(PY) -m sim.regress
	MVXL_REGRESS=1 $(PY) -m pytest -n $(PYTEST_WORKERS) tests/test_faults_planted.py \
		tests/test_figures.py tests/test_grants_planted.py tests/test_exhaustive.py \
		tests/test_growth.py tests/test_timeout.py tests/test_board.py \
		tests/test_gowin_board.py tests/test_tang_nano.py

verilog: $(READY) ## build/verilog/mvxl_adapter.v and its register map (CONFIG=default)
	@mkdir -p build/verilog
	$(WITH_TOOLS) $(PY) -m mvxl -o build/verilog/mvxl_adapter.v $(AS_CONFIGURED)

bitstream: $(READY) ## for a board (BOARD=tang_nano_20k, DEVICE=45F, CONFIG=tiny, CLOCK_MHZ=54)
	$(PY) -m boards.build $(ON_BOARD) $(if $(CLOCK_MHZ),--clock-mhz $(CLOCK_MHZ))

flash: $(READY) ## load that bitstream into the board (FLASH=1: into its flash memory)
	$(PY) -m boards.flash $(ON_BOARD) $(if $(FLASH),--flash)

boards: $(READY) ## a bitstream for each device of each board (CONFIG=tiny, CLOCK_MHZ=54)
	$(PY) -m boards.build --all $(AS_CONFIGURED) \
		$(if $(CLOCK_MHZ),--clock-mhz $(CLOCK_MHZ))

docs: $(READY) ## C header, register reference, and the pictures of figures.md, in docs/
	$(PY) -m mvxl.docs docs
	$(PY) -m sim.figures docs

clean: ## remove what was generated, but not .venv
	rm -rf build dist .pytest_cache .hypothesis
