# `make demo` and `make test` need nothing but Python 3.11 to 3.13, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RESOLVE := $(BIN)/uv pip compile --quiet --python-version
LOCK := --universal --all-extras --generate-hashes --no-annotate --custom-compile-command "make lock"

.PHONY: demo test test-slow lint types imports format submit results lock resolve audit clean

demo: $(INSTALLED)  ## train and score SGN on the embedded corpus
	$(BIN)/python jobs/sgn_vggsound.py --output outputs

test: $(INSTALLED) lint types imports  ## everything a change must pass
	$(BIN)/python -m pytest -n 2

test-slow: $(INSTALLED)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow --timeout 1800

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/pyright --warnings

imports: $(INSTALLED)
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

submit: $(INSTALLED)  ## run a job on the cluster, which records this commit: make submit JOB="jobs/sgn.py music --data SHARDS"
	$(BIN)/ray job submit --working-dir . --runtime-env-json "$$(PYTHONPATH=platform:. $(BIN)/python -m \
	    pipelines.experiments.commit)" -- python $(JOB)

results: $(INSTALLED)  ## write the tables of README.md and docs anew from docs/results
	$(BIN)/python jobs/fill_results.py

lock: $(INSTALLED)  ## make the lock files fit pyproject.toml; with UPGRADE=--upgrade, of the newest releases
	$(RESOLVE) 3.11 $(LOCK) $(UPGRADE) pyproject.toml --output-file requirements/python3.11.txt
	$(RESOLVE) 3.13 $(LOCK) $(UPGRADE) pyproject.toml --output-file requirements/python3.13.txt

resolve: $(INSTALLED)  ## whether each Python has wheels for the newest and oldest allowed, and for what is locked
	for python in 3.11 3.12 3.13; do for which in highest lowest-direct; do \
	    $(RESOLVE) $$python --only-binary :all: --all-extras --resolution $$which pyproject.toml > /dev/null || exit; done; done
	for python in 3.11 3.12; do $(RESOLVE) $$python --only-binary :all: requirements/python3.11.txt > /dev/null || exit; done
	$(RESOLVE) 3.13 --only-binary :all: requirements/python3.13.txt > /dev/null

audit: $(INSTALLED)  ## known holes in what is locked; --strict, or what the index does not know would count as sound
	for lock in requirements/python3.11.txt requirements/python3.13.txt; do \
	    $(BIN)/uv tool run pip-audit --strict --disable-pip --require-hashes --requirement $$lock || exit; done

$(INSTALLED): pyproject.toml $(wildcard requirements/*)
	$(PYTHON) requirements/install.py $(VENV)
	touch $@

clean:
	rm -rf $(VENV) outputs
