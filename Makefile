# Nothing is needed beforehand but make and Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-gpu sanitize cross-bits docs lint format dist release setup clean

setup: $(READY)

$(READY): pyproject.toml setup.py $(wildcard src/dropact/kernels/_cpu*.[ch])
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11) else f"dropact needs Python >= 3.11, $(PYTHON) is {v}; say: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(READY)

demo: $(READY) ## the main job: Drop-Activation against its baselines on real images
	$(BIN)/dropact compare --out runs/demo

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: lint ## two processes of a thread each; .ci/run installs Chromium first, for the tests of the pages
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist worksteal

test-slow: $(READY) ## statistical suites, minutes to an hour
	$(BIN)/pytest -m slow

test-gpu: $(READY) ## what only a GPU can show; docs/gpu.md has the measurements
	$(BIN)/pytest tests/gpu

sanitize: $(READY) ## the kernels' tests under AddressSanitizer and UndefinedBehaviorSanitizer; needs gcc
	PYTHON=$(BIN)/python scripts/sanitize.sh

cross-bits: $(READY) ## the kernels' bits on 64-bit Arm and older x86, under qemu-user; says what apt packages it needs
	PYTHON=$(BIN)/python scripts/cross_bits.sh

docs: $(READY) ## the documentation site, into build/site; needs no network once set up
	$(BIN)/python scripts/build_docs.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: ## sdist and wheel into dist/, checked, and installed into an empty environment
	PYTHON=$(PYTHON) scripts/dist.sh

release: ## make release VERSION=0.2.0: everything is checked, then the commit is tagged; CONTRIBUTING.md
	PYTHON=$(PYTHON) scripts/release.sh "$(VERSION)"

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
