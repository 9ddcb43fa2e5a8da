# Every target first makes the environment it needs in .venv, from Python 3.11 or newer, pip and the versions in
# constraints.txt; nothing is downloaded but packages. A stamp file named after the contents of pyproject.toml and
# constraints.txt marks a finished environment, so a second call starts at once.
#
#   make test PYTHON=python3.12                                        another interpreter
#   make test TORCH_INDEX=https://download.pytorch.org/whl/cpu         torch without the GPU libraries (Linux)
#   make test PYTEST_ARGS="tests/test_layers.py -x"                    some tests only
#   make test WORKERS=8                                                on more processors than two

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV ?= .venv
TORCH_INDEX ?=
PYTEST_ARGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH := $(shell sed -n 's/^\(torch==[0-9.]*\).*/\1/p' constraints.txt)
KEY := $(shell { pwd; cat pyproject.toml constraints.txt; } | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint docs bench clean
.DELETE_ON_ERROR:

help:
	@echo "make demo      fit, audit and draw the embedded data; writes results/demo"
	@echo "make test      the tests, without the long calibration runs"
	@echo "make test-all  all tests"
	@echo "make lint      ruff and mypy"
	@echo "make docs      the documentation, as docs/_build/index.html"
	@echo "make bench     each script of benchmarks/, beside the peer it names"
	@echo "make clean     remove the environment, caches and built documentation (results stay)"

demo: $(VENV)/ready-base-$(KEY)
	$(BIN)/probae demo --output results/demo

# Each worker is one thread: libraries that take all processors would wait for each other.
test test-all: export OMP_NUM_THREADS = 1

test: $(VENV)/ready-test-$(KEY)
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal $(PYTEST_ARGS)

test-all: $(VENV)/ready-test-$(KEY)
	$(BIN)/python -m pytest -m "" --numprocesses=$(WORKERS) --dist=worksteal $(PYTEST_ARGS)

lint: $(VENV)/ready-lint-$(KEY)
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/ready-docs-$(KEY)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo "built docs/_build/index.html"

bench: $(VENV)/ready-bench-$(KEY)
	set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python -m "benchmarks.$$(basename "$$script" .py)"; done

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis docs/_build docs/_generated build dist
	find probae tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone: it is by far the largest, and pip prefers a CPU build wherever it is offered one.
$(VENV)/ready-base-$(KEY):
	@$(PYTHON) -c 'import sys; sys.exit("probae needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + "; call make with PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -f $(VENV)/ready-*
	@echo "installing the tested versions into $(VENV): a few minutes, once"
	$(INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$(TORCH)"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/ready-%-$(KEY): $(VENV)/ready-base-$(KEY)
	$(INSTALL) --editable ".[$*]"
	@touch $@
