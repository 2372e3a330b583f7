# `make demo` and `make test` do everything on a fresh machine; both install into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo findings test bench clean

demo: $(VENV)/.installed
	$(BIN)/lit_prompt fit --config configs/demo.yaml
	$(BIN)/lit_prompt test --run "$$(ls -dt logs/demo/version_* | head -n 1)"
	@echo
	@echo "In a shell with 'source $(BIN)/activate' these work as they stand; on another LM:"
	@echo "  lit_prompt fit --config configs/demo.yaml --lm data/lms/tales-gpt2"
	@echo "and with your own targets:"
	@echo "  lit_prompt fit --config configs/die.yaml"

# the paper's three findings on an embedded LM: a few minutes each
findings: $(VENV)/.installed
	for name in entropy outliers lm_made; do \
		$(BIN)/lit_prompt fit --config configs/findings/$$name.yaml && \
		$(BIN)/lit_prompt test --run "$$(ls -dt logs/$$name/version_* | head -n 1)" || exit 1; \
	done

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/soft.py
	$(BIN)/python benchmarks/targets.py
	$(BIN)/python benchmarks/floor.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
