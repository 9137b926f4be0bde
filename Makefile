# What a person types. Everything runs in the one profile that tests run in.
CARGO ?= cargo
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: needs
needs: ## says what is missing on this machine
	@deploy/needs build

.PHONY: build
build: needs ## builds everything
	$(CARGO) build --workspace --locked

.PHONY: demo
demo: build ## three nodes on this machine, with a meeting page (DEMO="--capacity cph-1=2")
	@exec target/debug/systir-relay demo $(DEMO)

.PHONY: lint
lint: ## formatting, clippy, types of the page, licences and advisories
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	cd services/console/web && npm run --silent check

.PHONY: deny
deny: ## licences, advisories and sources of dependencies
	$(CARGO) deny check

.PHONY: test
test: ## everything, against a real etcd, a real browser and real SDKs
	@deploy/needs test
	cd tests/clients && npm ci --no-audit --no-fund --loglevel=error
	tests/clients/python-client
	$(CARGO) build --workspace --all-targets --locked
	@# Every test has a limit of its own; this one ends what escapes them, with all that it started.
	@timeout --kill-after=30s 55m $(CARGO) test --workspace --locked & tests=$$!; \
		trap 'kill $$tests' INT TERM; wait $$tests

.PHONY: bench
bench: ## prints what a packet and a decision cost
	$(CARGO) bench --workspace
