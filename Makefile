# Everything runs in .venv, which the first command makes. `make help` lists the commands.
PYTHON ?= python3
BIN := .venv/bin
# A thread that spins while it waits slows every other process on the machine.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-cluster lint type docs cost torture build clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	@echo "Installing into .venv: several GB with PyTorch, a few minutes the first time"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,docs,ray]"
	@# An oracle for one test. It asks for an older pandas than users get, and works with theirs.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "lifelines>=0.30,<0.31"
	@touch $@

install: .venv/.installed  ## set up .venv (the others do it when it is missing)

demo: .venv/.installed  ## run the whole study on real images, a few minutes; results in demo/
	$(BIN)/steps-to-epsilon demo

test: .venv/.installed  ## run the tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not cluster"

test-cluster: .venv/.installed  ## run the tests that start clusters of several processes and kill them
	$(BIN)/python -m pytest -m cluster

lint: .venv/.installed  ## check style, formatting, and which package imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: .venv/.installed  ## check types
	$(BIN)/mypy

docs: .venv/.installed  ## build the documents into docs/_build/, without a network; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -n -q docs docs/_build
	@echo "Open docs/_build/index.html"

cost: .venv/.installed  ## measure what a Trainer for every example costs on this machine
	$(BIN)/python scripts/cost_of_the_shape.py

torture: demo  ## kill a study of the demo's digits 60 times, and small ones at every file operation; eight minutes
	$(BIN)/python -m tests.torture
	$(BIN)/python -m tests.store.kills

build: .venv/.installed  ## build the wheel and the source archive into dist/, and check them
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

clean:  ## remove .venv and what tools left behind; results are not touched
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist docs/_build *.egg-info
