# What a person types. Everything runs in the one profile that tests run in.
CARGO ?= cargo
# Where rustup puts cargo, for a shell that was opened before.
export PATH := $(PATH):$(HOME)/.cargo/bin
BUILT := $(or $(CARGO_TARGET_DIR),target)/debug
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-11s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: needs
needs: ## says what is missing on this machine and installs nothing
	@deploy/needs test && echo "nothing is missing"

.PHONY: build
build: ## builds everything
	@deploy/needs --install build
	$(CARGO) build --workspace --locked

.PHONY: demo
demo: ## three nodes on this machine, with a meeting page (DEMO="--capacity cph-1=2")
	@deploy/needs --install build
	$(CARGO) build --locked --bin systir-relay --bin systirctl --bin systir-load
	@exec $(BUILT)/systir-relay demo $(DEMO)

.PHONY: proto
proto: ## writes the Rust code of the protocol descriptions anew
	SYSTIR_REGENERATE=1 $(CARGO) test --locked -p systir-proto --test generated

# The spelling checker, of a pinned version, in an environment of its own.
TYPOS := target/typos
TYPOS_VERSION := 1.52.0
$(TYPOS)/$(TYPOS_VERSION):
	python3 -m venv --clear $(TYPOS)
	$(TYPOS)/bin/pip install --quiet --disable-pip-version-check typos==$(TYPOS_VERSION)
	@touch $@

.PHONY: words
words: ## spelling, retired words, references of documents, import cycles, type names
	@deploy/needs --install lint
	@$(MAKE) --no-print-directory $(TYPOS)/$(TYPOS_VERSION)
	$(TYPOS)/bin/typos
	tests/documents
	tests/import-cycles
	tests/type-names

.PHONY: doc
doc: ## documentation of all crates, private items included; a warning fails
	@deploy/needs --install build
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

.PHONY: lint
lint: words doc ## words, documentation, formatting, clippy, types of the page
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	cd services/console/web && npm run --silent check

.PHONY: deny
deny: ## licences, sources and advisories of dependencies (needs cargo-deny; advisories need the net)
	@$(CARGO) deny --version >/dev/null 2>&1 || \
		{ echo "missing: cargo-deny (cargo install cargo-deny --locked)" >&2; exit 1; }
	$(CARGO) deny --locked check bans licenses sources
	$(CARGO) deny --locked check advisories

.PHONY: test
test: clients chart-tools ## everything, against a real etcd, a real browser and real SDKs
	$(CARGO) build --workspace --bins --tests --locked
	@exec tests/run --minutes 55 $(CARGO) test --workspace --locked --no-fail-fast

UNIT := --workspace --exclude systir-tests --lib --bins --locked

.PHONY: test-unit
test-unit: ## unit and property tests of all crates: no etcd, no browser, no network
	@deploy/needs --install unit
	$(CARGO) test $(UNIT) --no-run
	@exec tests/run --minutes 10 $(CARGO) test $(UNIT) --no-fail-fast

.PHONY: e2e
e2e: clients ## end-to-end scenarios with NAME in their module or test (NAME=spill; all without it)
	$(CARGO) build --workspace --bins --test e2e --locked
	@exec tests/run --minutes 45 $(CARGO) test --workspace --test e2e --locked -- $(NAME)

.PHONY: chart
chart: chart-tools ## tests of the Helm chart: objects, refusals, a node that it configures (NAME=refusals)
	$(CARGO) build --workspace --bins --test chart --locked
	@exec tests/run --minutes 10 $(CARGO) test --workspace --test chart --locked -- $(NAME)

.PHONY: chart-renew
chart-renew: chart-tools ## writes the chart's expected objects and its table of values anew
	SYSTIR_RENEW=1 $(CARGO) test --workspace --test chart --locked -- examples

.PHONY: chart-tools
chart-tools:
	@deploy/needs --install chart
	tests/chart/tools

.PHONY: e2e-cluster
e2e-cluster: chart-tools ## the chart on a cluster of yours (KUBECONFIG=FILE; VALUES=FILE and ENROL=COMMAND install, test and remove it)
	tests/chart/e2e-cluster $(VALUES)

.PHONY: hostile-etcd
hostile-etcd: export HOSTILE_ETCD_SECONDS ?= 120
hostile-etcd: export HOSTILE_ETCD_SEEDS ?= 7,8,9
hostile-etcd: ## meetings while etcd is attacked for two minutes with each of three seeds
	$(MAKE) e2e NAME=hostile_etcd

# Clients of the end-to-end tests, and all that they need.
.PHONY: clients
clients:
	@deploy/needs --install test
	tests/clients/node-clients
	tests/clients/python-client
	tests/clients/go-client

# Benchmarks run in the profile of everything else, so that they cost no second build of all
# dependencies; `make bench PROFILE=release` measures what an operator installs.
PROFILE ?= dev

.PHONY: bench
bench: ## the target figures, measured, beside their goals (BENCH=--json for programs, PROFILE=release)
	@deploy/needs --install bench
	$(CARGO) build --workspace --locked --profile $(PROFILE)
	$(CARGO) bench --workspace --locked --profile $(PROFILE) --bench figures -- $(BENCH)

.PHONY: bench-faults
bench-faults: ## how long the cluster takes to recover after each fault of etcd
	@deploy/needs --install bench
	$(CARGO) build --workspace --locked --profile $(PROFILE)
	$(CARGO) bench -p systir-tests --locked --profile $(PROFILE) --bench figures -- --faults $(BENCH)

.PHONY: bench-attacks
bench-attacks: ## what floods of connections and packets cost others: joins, media, memory
	@deploy/needs --install bench
	$(CARGO) build --workspace --locked --profile $(PROFILE)
	$(CARGO) bench -p systir-tests --locked --profile $(PROFILE) --bench figures -- --attacks $(BENCH)

.PHONY: bench-parts
bench-parts: ## what a packet, a decision, a grant, a placement and a link cost, each by itself
	@deploy/needs --install build
	$(CARGO) bench --workspace --locked --profile $(PROFILE) \
		--bench forward --bench decision --bench grants --bench placement --bench cascade

# LiveKit's server, of a pinned version, and the Go client with optimisations; its driver in tests has none.
COMPARED := target/compare
LIVEKIT_VERSION := v1.11.0
$(COMPARED)/livekit-$(LIVEKIT_VERSION):
	@echo "building LiveKit's server $(LIVEKIT_VERSION)"
	@mkdir -p $(COMPARED)
	GOBIN=$(abspath $(COMPARED)) go install github.com/livekit/livekit-server/cmd/server@$(LIVEKIT_VERSION)
	@touch $@

.PHONY: compare
compare: ## a release node beside LiveKit's server, with the same clients (COMPARE="--quick --only video")
	@deploy/needs --install compare
	@$(MAKE) --no-print-directory $(COMPARED)/livekit-$(LIVEKIT_VERSION)
	tests/clients/node-clients
	go build -C tests/clients/go -o $(abspath $(COMPARED))/client .
	$(CARGO) build --release --locked --bin systir-relay
	$(CARGO) bench --workspace --locked --profile $(PROFILE) --bench compare -- $(COMPARE)

.PHONY: fuzz
fuzz: ## each parser a minute of processor time under the fuzzer (FUZZ_SECONDS=60, FUZZ="--merge offer"; needs cargo-fuzz)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || \
		{ echo "missing: cargo-fuzz (cargo install cargo-fuzz --locked)" >&2; exit 1; }
	cd tests/fuzz && $(CARGO) fuzz build --fuzz-dir . --sanitizer none
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) tests/fuzz/run $(FUZZ)
