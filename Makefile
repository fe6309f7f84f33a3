PYTHON ?= .venv/bin/python

.PHONY: venv test slow lint types

venv:
	python3 -m venv .venv
	.venv/bin/pip install -c constraints.txt -e '.[test]'

test:
	$(PYTHON) -m pytest

slow:
	$(PYTHON) -m pip install -q -c constraints.txt -e '.[test,test-slow]'
	$(PYTHON) -m pytest -m slow

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

# mypy finds the package by its name: the repository's folder may have any.
types:
	mkdir -p build/types
	ln -sfn ../.. build/types/effnas
	cd build/types && MYPYPATH=. $(abspath $(PYTHON)) -m mypy --config-file ../../pyproject.toml -p effnas
