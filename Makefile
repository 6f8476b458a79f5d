# Commands for people and CI. Everything runs in .venv, which `make` builds from pyproject.toml and constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test check format bench deb package-test clean kernel kernel-short
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "roadwitness needs Python 3.11 or newer: sudo apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing: sudo apt install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[receiver,formats,device,dev]'
	$(BIN)/roadwitness warm
	@touch $@

run: $(STAMP)
	$(BIN)/roadwitness demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile

# On a real kernel in QEMU; needs root and Debian 12 (tests/kernel/README.md).
kernel: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -rs tests/kernel

kernel-short: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -rs tests/kernel -m short --arch amd64

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# ARCH=amd64 or arm64, PACKAGE=roadwitness or roadwitness-receiver, SUITE=bookworm or trixie, TRUST=root.json of a repository
deb: $(STAMP)
	$(BIN)/python packaging/build.py $(or $(PACKAGE),roadwitness) --arch $(or $(ARCH),amd64) --suite $(or $(SUITE),bookworm) $(and $(TRUST),--trust $(TRUST))

package-test: $(STAMP)
	$(BIN)/python -m pytest -n0 --timeout 1800 tests/packaging

clean:
	rm -rf --one-file-system $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
