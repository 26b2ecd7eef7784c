# make solve   the first answer, from a fresh clone; QUANTIZATION=nf4, fp4, int8 or none
# make test    the whole suite
# make quick   tests that take long, and ablations at their quick size: their outcomes come out again
# make long    every move on languages with blank steps, under every scheme; hours
# make lint    format, lint, types, direction of imports
# make bench   beside other libraries: particles a second (bench-particles) and tokens a second
#              (bench-engine, hours), into docs/speed_of_particles.md and docs/speed.md
# make real    real models: fetched into LLMSMC_REAL_MODELS (by default ~/.cache/llmsmc/real-models),
#              a question answered by one of them, and the tests that need them, with the time it
#              took; half a gigabyte
# make package the archives for the package index, into dist/: built, installed and tested
# make docs    the site, into site/; any warning fails it

PYTHON ?= python3
QUANTIZATION ?= nf4
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: solve test quick long lint real package bench bench-particles bench-engine docs format clean
.DEFAULT_GOAL := test

solve: $(INSTALLED)
	$(BIN)/llmsmc solve --sample-problem 3 --quantization $(QUANTIZATION)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto

quick: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -m quick tests

long: $(INSTALLED)
	OMP_NUM_THREADS=1 LLMSMC_LONG=1 $(BIN)/python -m pytest -q -n auto -m quick tests/models/reasoning

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

REAL_MODELS := $(or $(LLMSMC_REAL_MODELS),$(HOME)/.cache/llmsmc/real-models)

real: $(INSTALLED)
	$(eval STARTED := $(shell date +%s))
	$(BIN)/python -m benchmarks.real_models --folder "$(REAL_MODELS)"
	$(BIN)/llmsmc solve "Ann has 3 apples. She buys 4 more. How many apples does she have?" \
	  --policy "$(REAL_MODELS)/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf" --system boxed \
	  --algorithm self-consistency --particles 4 --max-steps 8 --max-tokens-per-step 64 --seed 0
	$(BIN)/llmsmc solve "Ann has 3 apples. She buys 4 more. How many apples does she have?" \
	  --policy "$(REAL_MODELS)/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf" --system boxed \
	  --reward own-log-prob --reward arithmetic --algorithm bootstrap --particles 4 --max-steps 8 \
	  --max-tokens-per-step 64 --seed 0
	LLMSMC_REAL_MODELS="$(REAL_MODELS)" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m real_model tests
	@echo "make real took $$(($$(date +%s) - $(STARTED))) seconds, without the installation"

package: $(INSTALLED)
	.ci/package

bench: bench-particles bench-engine

bench-particles: $(INSTALLED)
	$(BIN)/python -m benchmarks.particle_mathematics --out docs/figures/particle_mathematics.json --page docs/speed_of_particles.md

bench-engine: $(INSTALLED)
	$(BIN)/python -m benchmarks.engine --rounds 5 --out docs/figures/engine.json --page docs/speed.md

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist site *.egg-info

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@
