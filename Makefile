# Two commands matter: `make demo` and `make test`. Each sets up what it needs; running it again is fast.
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test drills sbom evaluation results check format packages test-packages drill-packages clean help
help:
	@echo "make demo    see it find animals on the bundled clip"
	@echo "make test    style, types and tests, with the real servers they need"
	@echo "make drills  the fault and fuzz drills in full; resumable"
	@echo "make sbom    what it consists of, as CycloneDX, in out/sbom.json"
	@echo "make results DATA=...  crossings found and false alarms, by size, light and weather, into docs/results.md"
	@echo "make evaluation DATA=...  accuracy on the classes that no training saw; half an hour, resumable"

demo: $(VENV)/.installed | packages
	$(BIN)/wildlane demo --out out

# What learns needs the cores; what watches mostly waits for its clock, and so do pages and commands: they are tested
# beside each other, the first at the lowest priority, so that it takes no time from the others. Then nodes alone, of
# many processes each, which are to be back in time.
LEARNING := $(filter-out tests/adapters/test_c%,$(wildcard tests/adapters/test_*.py)) tests/adapters/evaluation tests/adapters/training \
	tests/faults/test_fuzz.py tests/monitor/cluster/test_learning.py
WAITING := tests/monitor/console tests/test_cli.py tests/faults/test_roll_out.py \
	$(addprefix tests/monitor/test_,accept.py backup.py calibrate.py fleet.py model_releases.py report.py)
NODES := $(filter-out $(LEARNING),$(wildcard tests/monitor/cluster/test_*.py))
WATCHING := tests $(LEARNING:%=--ignore=%) $(WAITING:%=--ignore=%) $(NODES:%=--ignore=%)
PYTEST := $(BIN)/python -m pytest --durations=15

test: $(VENV)/.installed-dev | packages test-packages
	@$(MAKE) --no-print-directory check
	@mkdir -p out
	@nice -n 19 $(PYTEST) $(LEARNING) > out/test-learning.log 2>&1 & learning=$$!; \
	$(PYTEST) $(WAITING) > out/test-waiting.log 2>&1 & waiting=$$!; \
	$(PYTEST) $(WATCHING); watching=$$?; \
	wait $$waiting; waiting=$$?; cat out/test-waiting.log; \
	wait $$learning; learning=$$?; cat out/test-learning.log; \
	$(PYTEST) $(NODES); nodes=$$?; \
	exit $$((watching || waiting || learning || nodes))

drills: $(VENV)/.installed-dev | packages test-packages drill-packages
	$(BIN)/python tools/drills.py

sbom: $(VENV)/.installed-dev
	$(BIN)/python tools/sbom.py out/sbom.json

# 600 episodes each on classes that no training saw; what is newer than the shipped model is not done again
DATA ?= ../shared/data
EVALUATED := species-clean species-32px species-infrared species-imagenet-c mini-imagenet-clean
ROWS := $(EVALUATED:%=docs/evaluations/%/rows.json)

evaluation: $(ROWS)
	$(BIN)/python tools/results_table.py $(ROWS)

docs/evaluations/species-%/rows.json: adapters/models/manifest.json | out/report
	$(BIN)/wildlane evaluate --images out/report/species --condition $* --state out/state --out out/evaluations/species-$*
	mkdir -p $(@D) && cp out/evaluations/species-$*/rows.json $@

docs/evaluations/mini-imagenet-%/rows.json: adapters/models/manifest.json | out/report
	$(BIN)/wildlane evaluate --images out/report/mini-imagenet --shots 1,5,20 --condition $* --state out/state --out out/evaluations/mini-imagenet-$*
	mkdir -p $(@D) && cp out/evaluations/mini-imagenet-$*/rows.json $@

out/report: | $(VENV)/.installed-dev
	$(BIN)/python tools/held_back.py --data $(DATA) --role report --out $@

# synthetic crossings in every condition and the real clips; what was judged with the same program is not judged again
results: $(VENV)/.installed-dev | packages
	$(BIN)/python tools/scenes.py --data $(DATA) --out out/scenes
	$(BIN)/python tools/results.py --data $(DATA) --scenes out/scenes --out docs/results.md

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

drill-packages:
	@tools/debian_packages.sh drill

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
