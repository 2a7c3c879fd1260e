PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock

EXTRAS ?= default
# A worker that dies would be replaced, and xdist then waits for ever.
PYTEST := $(BIN)/pytest --dist loadfile --no-loadscope-reorder --max-worker-restart 0
# Tests wait for processes that they have killed: one worker more than there are cores.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

# The conf environment of run, viz, notebooks and results: by `base` C is trained by CMA-ES.
ENV ?= rounds
PORT ?= 4141
TENSORBOARD_PORT ?= 6006
PLAY_PORT ?= 8000
PLAY ?= --env ready --pipelines import,play

.PHONY: run play viz tensorboard notebooks results screenshots check test coverage chaos lint format clean
.DEFAULT_GOAL := run

run: .venv/installed
	$(BIN)/kedro run --env $(ENV)

notebooks: .venv/installed-notebooks
	KEDRO_LOGGING_CONFIG=$(CURDIR)/conf/logging.yml \
	$(BIN)/kedro jupyter lab notebooks --env $(ENV) --ip=127.0.0.1 --KernelManager.transport=ipc

results: .venv/installed
	$(BIN)/kedro run --env $(ENV) --pipelines results

# The pipelines, their parameters and a preview of each result, in the browser.
viz: .venv/installed
	PYTHONWARNINGS="ignore:ORJSONResponse is deprecated" $(BIN)/kedro viz run --env $(ENV) --host 127.0.0.1 --port $(PORT) --no-browser

# The dream in the browser, of the world model in docs/models. Of your own newest one:
# make play PLAY="--env rounds --pipelines play"
play: .venv/installed-play
	$(BIN)/kedro run $(PLAY)
	$(BIN)/python -m wm_pipeline.web data/08_reporting --port $(PLAY_PORT)

# V's, M's and C's curves, also while they train.
tensorboard: .venv/installed
	$(BIN)/tensorboard --logdir data/07_model_output --host 127.0.0.1 --port $(TENSORBOARD_PORT)

# The pictures right in docs/images, from what the last run left in data/.
screenshots: .venv/chromium
	$(BIN)/python -m tests.look_inside

check: lint
	$(PYTEST) -n logical -m fast

test: lint .venv/chromium
	$(PYTEST) -n $(WORKERS) --durations=30

# Which lines no test comes to; every test takes a fifth longer.
coverage: .venv/installed-dev .venv/chromium
	$(PYTEST) -n $(WORKERS) --cov --cov-report=term

# Runs, workers and games killed, options changed, files damaged: half an hour.
chaos: .venv/installed-dev
	$(BIN)/python -m tests.chaos

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml requirements.lock
	@echo "Installing wm_pipeline into .venv (a few minutes, once)"
	$(INSTALL) -e ".$(EXTRAS:%=[%])"
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml requirements.lock
	@echo "Installing wm_pipeline and its test tools into .venv"
	$(INSTALL) -e ".[dev$(EXTRAS:%=,%)]"
	@touch $@ .venv/installed

.venv/installed-notebooks: .venv/bin/python pyproject.toml requirements.lock
	@echo "Installing wm_pipeline and JupyterLab into .venv"
	$(INSTALL) -e ".[notebooks$(EXTRAS:%=,%)]"
	@touch $@ .venv/installed

.venv/installed-play: .venv/bin/python pyproject.toml requirements.lock
	@echo "Installing wm_pipeline and what the page needs into .venv"
	$(INSTALL) -e ".[play$(EXTRAS:%=,%)]"
	@touch $@ .venv/installed

.venv/chromium: .venv/installed-dev tests/chromium.py
	$(BIN)/python -m tests.chromium
