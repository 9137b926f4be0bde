# What a person types. Everything runs in the one profile that tests run in.
CARGO ?= cargo
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-11s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: needs
needs: ## says what is missing on this machine
	@deploy/needs build

.PHONY: build
build: needs ## builds everything
	$(CARGO) build --workspace --locked

.PHONY: demo
demo: build ## three nodes on this machine, with a meeting page (DEMO="--capacity cph-1=2")
	@exec target/debug/systir-relay demo $(DEMO)

.PHONY: proto
proto: ## writes the Rust code of the protocol descriptions anew
	SYSTIR_REGENERATE=1 $(CARGO) test --locked -p systir-proto --test generated

.PHONY: lint
lint: ## formatting, clippy, types of the page
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
test: ## everything, against a real etcd, a real browser and real SDKs
	@deploy/needs test
	cd tests/clients && npm ci --no-audit --no-fund --loglevel=error
	tests/clients/python-client
	tests/clients/go-client
	$(CARGO) build --workspace --all-targets --locked
	@# Every test has a limit of its own; this one ends what escapes them, with all that it started.
	@timeout --kill-after=30s 55m $(CARGO) test --workspace --locked & tests=$$!; \
		trap 'kill $$tests' INT TERM; wait $$tests

# Benchmarks run in the profile of everything else, so that they cost no second build of all
# dependencies; `make bench PROFILE=release` measures what an operator installs.
PROFILE ?= dev

.PHONY: bench
bench: ## the promised figures beside their goals (BENCH=--json for programs, PROFILE=release)
	@deploy/needs bench
	$(CARGO) build --workspace --locked --profile $(PROFILE)
	$(CARGO) bench --workspace --locked --profile $(PROFILE) --bench figures -- $(BENCH)

.PHONY: bench-parts
bench-parts: ## what a packet, a decision, a placement and a link cost, each by itself
	$(CARGO) bench --workspace --locked --profile $(PROFILE) \
		--bench forward --bench decision --bench placement --bench cascade

.PHONY: fuzz
fuzz: ## each parser a minute under the fuzzer (FUZZ_SECONDS=60; needs nightly Rust and cargo-fuzz)
	cd tests/fuzz && for target in $$(cargo +nightly fuzz list --fuzz-dir .); do \
		cargo +nightly fuzz run --fuzz-dir . $$target -- -max_total_time=$(or $(FUZZ_SECONDS),60) || exit 1; \
	done
