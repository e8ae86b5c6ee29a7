# Every target first installs what it lacks into $(VENV), with the versions of $(CONSTRAINTS).
# PYTHON=python3.12 picks another interpreter, VENV=... another environment, and ARGS are handed on:
#   make example ARGS="--images photos --tags tags.csv"      make test ARGS="-k codes"
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN = $(VENV)/bin

.PHONY: example test test-oldest lint docs dist clean

example: $(VENV)/.has-examples
	$(BIN)/python examples/plot_social_image_search.py $(ARGS)

# The matrices of tests and examples are small: threads would cost more than they bring, and on a busy
# machine they wait for each other.
test: $(VENV)/.has-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ARGS)

# The tests with the oldest versions that the package promises to work with.
test-oldest:
	$(MAKE) test VENV=$(VENV)-oldest CONSTRAINTS=constraints-oldest.txt

lint: $(VENV)/.has-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python

docs: $(VENV)/.has-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going docs docs/_build/html $(ARGS)

# The sdist and the wheel, checked, and the wheel tried in a new environment; for the oldest versions
# too: ARGS=constraints-oldest.txt
dist: $(VENV)/.has-dev
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python tests/check_dist.py $(CONSTRAINTS) $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-oldest dist output docs/_build docs/auto_examples docs/generated

$(VENV)/.has-%: pyproject.toml $(CONSTRAINTS)
	@echo "Installing scikit-hash[$*] into $(VENV); the first time takes a minute or two."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[$*]"
	@touch $@
