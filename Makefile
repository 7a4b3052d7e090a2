# Two commands matter: `make demo` and `make test`. Each sets up what it needs; running it again is fast.
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test drills check format packages test-packages clean help
help:
	@echo "make demo    see it find animals on the bundled clip"
	@echo "make test    style, types and tests, with the real servers they need"
	@echo "make drills  the fault and fuzz drills in full; resumable"

demo: $(VENV)/.installed | packages
	$(BIN)/wildlane demo --out out

test: $(VENV)/.installed-dev | packages test-packages
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest --durations=15

drills: $(VENV)/.installed-dev | packages test-packages
	$(BIN)/python tools/drills.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

packages:
	@tools/debian_packages.sh run

test-packages:
	@tools/debian_packages.sh test

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) out state build dist
