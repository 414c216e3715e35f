# Two commands are enough: `make demo` and `make test`. Both install everything they need.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed-$(shell cksum requirements.txt | cut -d' ' -f1)

.PHONY: setup demo test test-all lint bench report

setup: $(STAMP)

$(STAMP): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or 3.12 is needed: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -r requirements.txt
	rm -f $(VENV)/.installed-* && touch $@

demo: setup
	$(RUN) -m functa_jax.meta_train digits

# A process a core, each with one thread: threads that wait for each other take a tenth longer.
test test-all: export OMP_NUM_THREADS = 1
test test-all: export OPENBLAS_NUM_THREADS = 1

test: setup
	$(RUN) -m pytest -n auto --dist loadfile

test-all: setup
	$(RUN) -m pytest -n auto --dist loadfile -m ""

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m experiments.tables --check

bench: setup
	$(RUN) -m experiments.bench functa
	$(RUN) -m experiments.bench dessilbi
	$(RUN) -m experiments.bench streams

report: setup
	$(RUN) -m experiments.report
