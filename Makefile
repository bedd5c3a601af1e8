# The README's two commands are `make demo` and `make test`; each installs what it needs first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: setup setup-test setup-lint build test lint fmt demo bench chaos protections

# Tools that no Debian package has live here, pinned (see scripts/setup.sh).
TOOLS := $(CURDIR)/target/tools
export PATH := $(TOOLS)/bin:$(TOOLS)/python/bin:$(HOME)/.cargo/bin:$(PATH)

# Containers need root. The build does not: only what cargo runs is raised.
ifneq ($(shell id -u),0)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := sudo --preserve-env --preserve-env=PATH
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := sudo --preserve-env --preserve-env=PATH
endif

## setup: install everything that building, testing and linting need, and only what is missing
setup: setup-test setup-lint

setup-test:
	@scripts/setup.sh test

setup-lint:
	@scripts/setup.sh lint

## build: the server and the command line
build:
	cargo build --workspace --bins

# What `make test` runs beside containerd: everything without it, and what a container is from inside if an OCI
# runtime launches it. All of conformance by a runtime: BACKENDS=local-runc make test.
BACKENDS ?= local
RUNTIMES ?= local-runc local-crun

## test: everything, against a real containerd that the tests start themselves; then without containerd
test: setup-test
	cargo build --workspace --bins --tests
	cargo test --workspace --no-fail-fast
	for backend in $(BACKENDS); do \
	    WHARF_TEST_BACKEND=$$backend cargo test --no-fail-fast --test conformance --test e2e; done
	for backend in $(RUNTIMES); do \
	    WHARF_TEST_BACKEND=$$backend cargo test --no-fail-fast --test conformance -- isolation init:: lifecycle; done

## chaos: the long tier of the fault tests, reproducible by WHARF_SEED
chaos: setup-test
	export WHARF_CHAOS_ROUNDS=$${WHARF_CHAOS_ROUNDS:-100}; \
	cargo test --test conformance -- chaos races streams:: faults --nocapture; \
	WHARF_TEST_BACKEND=local cargo test --test conformance -- chaos races streams:: faults --nocapture; \
	WHARF_TEST_BACKEND=local cargo test --test e2e -- local:: --nocapture

## protections: takes each protection of containers away, and looks whether a scenario notices
protections: setup-test
	python3 -B scripts/protections $(NAMES)

## lint: formatting, clippy, dependencies, protos, documentation
lint: setup-lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	scripts/lint-deps.sh
	scripts/lint-protos.sh
	python3 -B scripts/protections --check

## fmt: format all code
fmt:
	cargo fmt --all

## demo: a container from an image made on the spot, without any network
demo:
	@scripts/setup.sh demo
	cargo build --workspace --bins
	@scripts/demo.sh

## bench: tables of times, counts and sizes next to its peers; JSON under target/bench
bench: setup-test
	cargo build --release --workspace --bins
	@$(if $(filter-out 0,$(shell id -u)),sudo --preserve-env=PATH,) $(TOOLS)/python/bin/python -B scripts/bench --programs target/release
