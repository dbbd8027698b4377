# Everything that a person or a CI system runs. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

HOST := $(shell rustc -vV | sed -n 's/^host: //p')
# The release binary has no shared library to look for: it runs on any Linux of its architecture.
RELEASE := target/$(HOST)/release/holdfast
# The benchmarks are built alike, so that what they depend on is built once.
STATIC := RUSTFLAGS="-C target-feature=+crt-static"
# What the machine must have, by command. kubectl may also come from elsewhere. Of PostgreSQL only the programs
# are used, for servers that tests start: the package is kept from starting one.
PACKAGES := e2fsprogs xfsprogs btrfs-progs util-linux

.PHONY: help setup build release demo test test-vm lint fmt bench clean fuzz fuzz-api

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST)

setup: ## install what is missing (Debian packages; needs root)
	@need=(); \
	command -v cc >/dev/null || need+=(gcc libc6-dev); \
	for tool in mkfs.ext4 mkfs.xfs mkfs.btrfs losetup; do command -v $$tool >/dev/null || need+=($(PACKAGES)); done; \
	command -v kubectl >/dev/null || need+=(kubernetes-client); \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need+=(postgresql); \
	command -v openssl >/dev/null || need+=(openssl); \
	command -v ip >/dev/null || need+=(iproute2); \
	if [ $${#need[@]} -gt 0 ]; then \
	  [ "$$(id -u)" = 0 ] || { echo "make setup: needs root to install $${need[*]}" >&2; exit 1; }; \
	  export DEBIAN_FRONTEND=noninteractive; install() { apt-get install -y -qq --no-install-recommends "$$@" >/dev/null; }; \
	  apt-get update -qq; \
	  if [[ " $${need[*]} " == *" postgresql "* ]] && ! [ -e /etc/postgresql-common/createcluster.conf ]; then \
	    install postgresql-common; \
	    sed -i 's/^#* *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf; \
	  fi; \
	  install "$${need[@]}"; \
	fi

build: setup ## build for development
	cargo build --workspace

release: setup ## build the static binary
	$(STATIC) cargo build --release --target $(HOST) -p holdfast
	@ls -l $(RELEASE)

demo: release ## a claim becomes a mounted volume, grows, moves to a second pod, and goes (needs root)
	deploy/demo/demo.sh $(RELEASE)

test: setup ## run every test; those that this machine cannot run (no root, no btrfs, …) are named at the end
	cargo build --workspace
	@rm -f target/not-run target/totals
	@status=0; export HOLDFAST_NOT_RUN="$$PWD/target/not-run" HOLDFAST_TOTALS="$$PWD/target/totals"; \
	if command -v cargo-nextest >/dev/null; then cargo nextest run --workspace; else cargo test --workspace --tests; fi || status=$$?; \
	if [ -s target/totals ]; then sort target/totals; fi; \
	if [ -s target/not-run ]; then echo "These tests could not run on this machine:"; sort -u target/not-run; fi; \
	exit $$status
	cargo test --workspace --doc --quiet

# BIN= takes a static binary that is there already; then no root is needed.
test-vm: $(if $(BIN),,release) ## run what needs another kernel, in virtual machines (CASE=name: one case; see tests/vm)
	tests/vm/run $(or $(BIN),$(RELEASE)) $(CASE)

SECONDS ?= 60
fuzz: setup ## fuzz the CSI driver's services for SECONDS= each (SERVICE=node: one; SEED=… repeats a run)
	HOLDFAST_FUZZ_SECONDS=$(SECONDS) $(if $(SEED),HOLDFAST_FUZZ_SEED=$(SEED)) \
	  cargo test -p holdfast-csi-driver --test driver -- --nocapture --test-threads 1 fuzz::$(SERVICE)

fuzz-api: setup ## fuzz the API server's decoders for SECONDS= each (DECODER=json_patches: one; SEED=… repeats a run)
	HOLDFAST_FUZZ_SECONDS=$(SECONDS) $(if $(SEED),HOLDFAST_FUZZ_SEED=$(SEED)) \
	  cargo test -p holdfast-volume-controller --lib -- --nocapture --test-threads 1 fuzz_tests::$(DECODER)

lint: setup ## formatting, clippy, licences and sources of dependencies
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	command -v cargo-deny >/dev/null || cargo install --quiet --locked cargo-deny
	cargo fetch --locked
	cargo deny --offline --log-level error check bans licenses sources

fmt: ## format the code
	cargo fmt --all

# BENCH=api, claims or driver: one table only.
bench: release ## measure, against bare limits in the same run
	$(STATIC) HOLDFAST_BIN=$(RELEASE) cargo run --release --target $(HOST) -p holdfast-tests --bin bench -- $(BENCH)
	$(STATIC) cargo test --release --target $(HOST) -p holdfast-volume-controller --test store -- --ignored --nocapture --test-threads 1 speed

clean: ## remove what was built
	cargo clean
