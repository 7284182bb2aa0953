# make demo            predict the response to the example film (FILM=path takes another)
# make test            lint, types, layers, tests
# Both make a virtual environment in VENV (.venv) first.

PYTHON ?= python3
VENV ?= .venv
FILM ?= examples/film.mp4
BIN = $(VENV)/bin
INSTALLED = $(VENV)/installed

# The example film comes with its words; another film is predicted with what it holds.
ifeq ($(FILM),examples/film.mp4)
WORDS = --transcript examples/film_words.tsv --text examples/film_text.txt
endif

.PHONY: setup demo test format
setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints-cpu.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints-cpu.txt --editable ".[dev]"
	touch $(INSTALLED)

demo: setup
	$(BIN)/tribrain predict "$(FILM)" $(WORDS)

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
