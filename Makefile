# `make demo` and `make test` need nothing but Python >= 3.11; a stamp in .venv
# for each stage of the installation makes repeated calls quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEXT := requirements/text.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
OLD := this needs Python 3.11 or newer and its venv module, '$(PYTHON)' is \
  `$(PYTHON) --version 2>&1`; name another one: make PYTHON=python3.12

.PHONY: demo gallery test test-full lint format venv clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/python -m lumiere_jax.sample --config=configs/demo_cascade.py \
	  --prompt="a rocket sliding up on a blue background" --out=out --seed=0

gallery: $(VENV)/.demo
	$(BIN)/python docs/gallery.py

test: lint
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile \
	  --no-loadscope-reorder

test-full: $(VENV)/.test
	XLA_FLAGS= $(BIN)/python -m pytest -m full

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

venv: $(VENV)/.created

$(VENV)/.created:
	@$(PYTHON) -c 'import ensurepip, sys, venv; \
	  sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "$(OLD)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.created setup.py pyproject.toml $(TEXT)
	@echo "installing into $(VENV) (once; about two minutes)"
	$(PIP) --editable .
	$(PIP) --no-deps --require-hashes --requirement $(TEXT)
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
