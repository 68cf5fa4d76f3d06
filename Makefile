# Everything this project does on a machine. What is downloaded goes into .local/ (and cargo's own cache); `make clean`
# removes it. Every run takes free ports and a stack of its own: `make demo` left running does not disturb `make test`.

PYTHON ?= python3
LOCAL := .local
READERS := $(LOCAL)/readers/bin
RUN := PYTHONPATH=tests $(READERS)/python -m
PIP_FLAGS := --quiet --no-input

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help preflight setup demo test test-rust test-template test-contract test-audit test-e2e test-long sim fuzz lint-template sam-local bench costs example clean

help:
	@echo 'make demo            the whole pipeline on this machine, with a month of real flights'
	@echo 'make test            everything that is checked before a merge'
	@echo 'make test-long       a year of flights, functions killed on the way; more engines that read; more rows against the oracle; the JSON Schema suite'
	@echo 'make sim             seeded lives of the pipeline under faults and deaths (SEEDS=from..to)'
	@echo 'make fuzz            any bytes into what parses them (TARGET=csv SECONDS=60; fuzz/README.md)'
	@echo 'make lint-template   sam validate --lint and cfn-lint (installs sam, 342 MB)'
	@echo 'make sam-local       the functions under sam local invoke, in a container'
	@echo 'make bench           the tables of docs/benchmarks.md'
	@echo 'make costs           the tables of docs/costs.md'
	@echo 'make clean           removes what was built and downloaded'

preflight:
	@PYTHON=$(PYTHON) tests/local/preflight.sh

setup: preflight $(LOCAL)/emulator.ready $(LOCAL)/readers.ready

# A virtual environment per list; the stamp is newer than its list when the environment holds just that.
$(LOCAL)/%.ready: requirements/%.txt
	@echo 'Installing $< into $(LOCAL)/$* …'
	@rm -rf $(LOCAL)/$*
	@$(PYTHON) -m venv $(LOCAL)/$*
	@$(LOCAL)/$*/bin/pip install $(PIP_FLAGS) -r $<
	@touch $@

# ClickHouse asks for packages that only its data frames use.
$(LOCAL)/oracle.ready: PIP_FLAGS += --no-deps

# Not an environment but a data set, for the year of flights.
$(LOCAL)/flights.ready: requirements/flights.txt $(LOCAL)/readers.ready
	@$(READERS)/pip install $(PIP_FLAGS) --no-deps -r $<
	@touch $@

# Nor these: what exports are held against, and the official suite of JSON Schema, which the source of jsonschema brings.
$(LOCAL)/contract.ready: requirements/contract.txt $(LOCAL)/readers.ready
	@$(READERS)/pip install $(PIP_FLAGS) --no-deps -r $<
	@touch $@

$(LOCAL)/suite.ready: requirements/suite.txt $(LOCAL)/readers.ready
	@rm -rf $(LOCAL)/suite && mkdir $(LOCAL)/suite
	@$(READERS)/pip download $(PIP_FLAGS) --no-deps --no-binary jsonschema --dest $(LOCAL)/suite -r $<
	@tar -xzf $(LOCAL)/suite/*.tar.gz -C $(LOCAL)/suite --strip-components 1
	@touch $@

demo: setup
	@$(RUN) local.demo

test: test-rust test-template test-contract test-audit test-e2e

# Format first, since it takes a second; clippy shares its build with the tests.
test-rust: setup
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	$(RUN) local.emulator -- cargo test --locked --workspace --all-features

test-template: setup
	$(READERS)/cfn-lint template.yaml
	$(READERS)/python -m pytest tests/template

test-contract: setup $(LOCAL)/contract.ready
	$(READERS)/python -m pytest tests/contract

test-audit: setup
	$(READERS)/python -m pytest tests/audit -m 'not long'

test-e2e: setup
	$(READERS)/python -m pytest tests/e2e -m 'not long'

test-long: setup $(LOCAL)/flights.ready $(LOCAL)/suite.ready $(LOCAL)/oracle.ready
	DIFFERENTIAL_CASES=120000 cargo test --locked -p sluicegate-audit --test differential
	JSON_SCHEMA_TEST_SUITE=$(CURDIR)/$(LOCAL)/suite/json/tests/draft2020-12 \
		cargo test --locked -p sluicegate-contract --test suite -- --ignored
	cargo build --locked --manifest-path tests/oracle/Cargo.toml --target-dir $(or $(CARGO_TARGET_DIR),target)/oracle
	$(READERS)/python -m pytest tests/audit -m long
	$(READERS)/python -m pytest tests/e2e -m long

# More lives of the pipeline than a test run has: make sim SEEDS=0..10000 [STEPS=200]
sim:
	SEEDS=$(or $(SEEDS),0..1000) STEPS=$(or $(STEPS),200) cargo test --locked --profile sim -p sluicegate-tests --test simulation -- --nocapture no_seed

# One target of fuzz/ for some time: make fuzz TARGET=csv SECONDS=60. Needs a nightly toolchain and cargo-fuzz.
TARGET ?= csv
SECONDS ?= 60

fuzz:
	@mkdir -p fuzz/corpus/$(TARGET)
	@cp fuzz/seeds/$(TARGET)/* fuzz/corpus/$(TARGET)/
	cargo +nightly fuzz run --sanitizer none $(TARGET) -- -max_total_time=$(SECONDS) -max_len=8192 -timeout=20 -rss_limit_mb=2048 \
		$(addprefix -dict=,$(wildcard fuzz/dictionaries/$(TARGET).dict))

lint-template: setup $(LOCAL)/sam.ready
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 $(LOCAL)/sam/bin/sam validate --lint --template template.yaml
	$(READERS)/cfn-lint template.yaml

sam-local: setup $(LOCAL)/sam.ready
	PATH="$(CURDIR)/$(LOCAL)/sam/bin:$$PATH" infra/sam-local.sh

# The tables of docs/benchmarks.md. Optimised as deployed: fat LTO takes minutes a binary.
bench: setup $(LOCAL)/bench.ready $(LOCAL)/flights.ready $(LOCAL)/pandera.ready
	cargo build --locked --release -p sluicegate-land -p sluicegate-stage -p sluicegate-promote -p sluicegate-replay -p sluicegate-table \
		-p sluicegate-audit -p sluicegate-tests --bins --example local_lake --example commit_cost --example contract_speed
	@$(RUN) bench.coldstart
	@$(RUN) bench.stage
	@$(RUN) bench.contract
	@$(RUN) bench.burst
	@target/release/examples/commit_cost 1000 10000 100000 1000000

$(LOCAL)/bench.ready: requirements/bench.txt $(LOCAL)/readers.ready
	@$(READERS)/pip install $(PIP_FLAGS) --no-deps -r $<
	@touch $@

# The tables of docs/costs.md: requests as they are counted, prices as infra/prices.json says.
costs:
	@cargo run --locked --quiet -p sluicegate-tests --example costs

# Rewrites the data of examples/ from their sources: the same bytes every time.
example: $(LOCAL)/flights.ready
	$(READERS)/python examples/flights/make_data.py
	$(READERS)/python examples/make_data.py
	$(READERS)/python examples/orders/make_data.py

clean:
	rm -rf $(LOCAL) .aws-sam target
