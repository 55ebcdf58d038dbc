# run, test, check, bench, clean. The first target you use sets up .venv by itself; the second time
# that is a no-op. To use your own package source, set pip's usual variables:
#   PIP_INDEX_URL, PIP_EXTRA_INDEX_URL   an index of one's own, asked before the default one
#   PIP_FIND_LINKS                       a folder or page of wheels
# PyPI's Linux wheel of torch carries CUDA (4.7 GB installed). Where one of the above offers a wheel
# of the pinned version without it (2.x.y+cpu), that one is taken.
PYTHON ?= python3
ARGS ?=
COVERAGE_FLOOR ?= 97
# Tests beside each other; one after the other (to look into one): make test WORKERS=0
WORKERS ?= logical
# Of each mark, in `make test-faults`
STREAMS ?= 20
BESIDE := -n $(WORKERS) --maxprocesses 4
# What a file's tests share is made once. Faults share nothing: each goes where there is room.
BY_FILE := $(BESIDE) --dist loadfile --no-loadscope-reorder
EACH := $(BESIDE) --dist worksteal

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := dev
# Everything that comes is held against its hash, but torch, which comes in two makes (see above). An
# index of one's own that builds anew what others have published: make setup UV_NO_VERIFY_HASHES=1
PINS := -c constraints.txt -c constraints-hashed.txt -b constraints.txt -b constraints-hashed.txt
COMPILE = $(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --quiet \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links

export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where it is set, every program of ours would compile torch anew, for seconds each time.
unexport PYTHONDONTWRITEBYTECODE
# uv reads its own variables; a person or a machine has set up pip's.
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
export UV_INDEX ?= $(PIP_EXTRA_INDEX_URL)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
ifneq ($(strip $(UV_INDEX)),)
export UV_INDEX_STRATEGY ?= unsafe-best-match
endif
# An empty variable is not an unset one.
$(foreach v,UV_DEFAULT_INDEX UV_INDEX UV_FIND_LINKS,$(if $(strip $($(v))),,$(eval unexport $(v))))

.DEFAULT_GOAL := help
.PHONY: help setup run test test-unit test-faults test-long check audit sbom format bench constraints clean

help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Set up .venv (every other target does so by itself)

run: $(STAMP) ## Watch simulated events become candidates: make run ARGS="--help"
	$(BIN)/goat run $(ARGS)

test: $(STAMP) ## All tests, with real Kafka and Qdrant servers, and the coverage floor
	$(BIN)/pytest $(BY_FILE) --cov --cov-fail-under=$(COVERAGE_FLOOR) $(ARGS)

test-unit: $(STAMP) ## The tests that need no server
	$(BIN)/pytest $(BY_FILE) -m "not servers" $(ARGS)

test-faults: $(STAMP) ## Kill, cut, fill and starve it at every mark, on many streams
	GOAT_FAULTS=$(STREAMS) $(BIN)/pytest $(EACH) tests/faults $(ARGS)

test-long: $(STAMP) ## Take each guard away and see a test fail; the longest streams
	GOAT_LONG=1 $(BIN)/pytest $(EACH) tests/faults/test_removals.py tests/stream/test_graph.py $(ARGS)

check: $(STAMP) ## Format, lint, types, import contracts, known holes in dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy stream model consumers $(wildcard benchmarks/*.py)
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q tests/test_house.py
	$(BIN)/python .ci/audit.py

audit: $(STAMP) ## Known holes in what is pinned, where a database of them can be reached
	$(BIN)/python .ci/audit.py

sbom: $(STAMP) ## Write what is installed to build/sbom.json (CycloneDX)
	@mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
	  --short-PURLs -o build/sbom.json $(BIN)/python

format: $(STAMP) ## Format, and mend what lint can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(STAMP) ## Every benchmark; each ends with one line of JSON
	@for script in benchmarks/[a-z]*.py; do \
	  echo "== $$script" >&2; $(BIN)/python "$$script" $(ARGS) || exit 1; done

constraints: $(STAMP) ## Pin what pyproject.toml resolves to now; set UPGRADE=--upgrade for newer ones
	$(COMPILE) $(UPGRADE) -o constraints.txt
	$(COMPILE) -c constraints.txt --generate-hashes --no-emit-package torch -o constraints-hashed.txt

clean: ## Remove what was built; keeps .cache (downloads) and state (yours)
	rm -rf $(VENV) build dist .coverage .coverage.* htmlcov .hypothesis .pytest_cache .mypy_cache \
	  .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not installed: install Python 3.11 or later, or name one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$$($(PYTHON) --version) is too old: 3.11 or later is needed; name one: make PYTHON=python3.12"; exit 1; }
	@echo "setting up $(VENV): once, some minutes and 5 GB (torch)" >&2
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt constraints-hashed.txt | $(BIN)/python
	sed -n '/^uv==/,/[^\\]$$/p' constraints-hashed.txt >$(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install $(PINS) -e '.[$(EXTRAS)]'
	@touch $@
