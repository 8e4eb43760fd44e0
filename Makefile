# The table of contents: `make help` prints it. CI runs only `make check` and `make test`.

CARGO ?= cargo
ADVISORY_DB := $(or $(CARGO_HOME),$(HOME)/.cargo)/advisory-dbs

# Each phase selects the whole workspace and names the targets that it runs: with another selection some dependencies
# would have other features, and cargo would compile nearly everything again for each phase.
TEST = $(CARGO) test --locked --workspace
targets-in = $(foreach dir,$(1),$(patsubst %,--test %,$(notdir $(basename $(wildcard $(dir)/tests/*.rs)) \
  $(patsubst %/main.rs,%,$(wildcard $(dir)/tests/*/main.rs)))))
# The build with deliberate bugs and crash points has its own programs, and shares the dependencies with all other
# builds.
MUTANT = RUSTC_WORKSPACE_WRAPPER="$(CURDIR)/tests/sim/rustc-mutant" CARGO_BUILD_BUILD_DIR="$(CURDIR)/target" CARGO_TARGET_DIR="$(CURDIR)/target/mutant"

.NOTPARALLEL:
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^## /{print "\n" substr($$0, 4)} /^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

define phase
	@echo "== $(1) [$$(date +%T)]"
endef

## Run

.PHONY: dev
dev: bins ## Run a cluster of three nodes on this machine, data in ./raftkv-data
	$(CARGO) run --locked --bin raftkv -- dev

.PHONY: kind
kind: PROFILE = dev
kind: image e2e-up ## Make a kind cluster with the operator in it, and point kubectl at it
	$(call phase,kind: the operator)
	PATH="$(CURDIR)/target/e2e/bin:$$PATH" KUBECONFIG=$(CURDIR)/target/e2e/kubeconfig helm upgrade --install raftkv-operator charts/raftkv-operator \
	  --namespace raftkv-system --create-namespace --values tests/e2e/operator-values.yaml --wait --timeout 120s
	PATH="$(CURDIR)/target/e2e/bin:$$PATH" kind export kubeconfig --name $(or $(E2E_CLUSTER),raftkv-e2e)

## Test, the cheapest first

# The tests print what they count and measure in lines that begin with TABLE: the table at the end is made of these.
.PHONY: test
test: ## Run all tests; the last step makes a Kubernetes of its own
	@mkdir -p target
	@bash -o pipefail -c '$(MAKE) --no-print-directory every-test 2>&1 | tee target/test.log'
	@tests/table target/test.log
	$(call phase,all tests passed)

.PHONY: every-test
every-test: tidy build unit sim mutants cluster chart e2e

.PHONY: tidy
tidy: ## Check the rules of the house: sizes, purity, forbidden calls
	$(call phase,tidy: the rules of the house)
	$(CARGO) test --locked -p raftkv-tidy -- --show-output

.PHONY: build
build: ## Compile everything that the tests need, once
	$(call phase,build: all programs and tests)
	$(CARGO) build --locked --workspace --all-targets

.PHONY: unit
unit: ## Run unit and property tests, and the operator's plan over models and the simulation
	$(call phase,unit: unit and property tests)
	$(TEST) --lib --bins $(call targets-in,lib/api lib/judge lib/client node operator crds ctl tests/fuzz) -- --show-output
	$(TEST) --doc

.PHONY: sim
sim: ## Run golden scripts and the simulation; SEEDS=n builds it faster and runs so many; SEED=n, FULL_SEED=n or POINT=... replay one run
	$(call phase,sim: golden scripts and simulation$(if $(ONE_RUN), of one run)$(if $(SEEDS), of $(SEEDS) seeds))
	$(if $(ONE_RUN),$(ONE_RUN) --exact --nocapture,$(if $(SEEDS),RAFTKV_SIM_SEEDS=$(SEEDS) )$(TEST) \
	  $(if $(SEEDS),--config profile.dev.opt-level=2) $(call targets-in,tests/sim) $(if $(SEEDS),-- --nocapture))

ONE_RUN = $(if $(SEED),RAFTKV_SIM_SEED=$(SEED) $(TEST) --test sim -- one_seed,$(if \
  $(FULL_SEED),RAFTKV_FULL_SEED=$(FULL_SEED) $(TEST) --test full_disks -- a_member_whose_disk_is_full_waits_and_nothing_is_lost,$(if \
  $(POINT),RAFTKV_CRASH_POINT=$(POINT) $(TEST) --test all_crash_points -- every_crash_point_is_survived)))

# `make unit` runs a short form of this. SEED is the clock's time unless given, so that every night sees other inputs.
.PHONY: fuzz
fuzz: ## Mutate what decoders read, for MINUTES (10) in all; DECODER=name only that one, FILE=path only that input, SEED=n
	$(call phase,fuzz: $(or $(DECODER),every decoder)$(if $(FILE), over $(FILE)))
	RAFTKV_FUZZ_MINUTES=$(or $(MINUTES),10) RAFTKV_FUZZ_SEED=$(or $(SEED),$(shell date +%s)) RAFTKV_FUZZ_DECODER=$(DECODER) \
	  RAFTKV_FUZZ_FILE=$(if $(FILE),$(abspath $(FILE))) $(TEST) --test fuzz -- --nocapture

# This is one more build, of our own crates only.
.PHONY: mutants
mutants: ## Run the simulation with each deliberate bug; one that is not found is a failure; LIST=1 finds seeds anew, BUG=name has one only
	$(call phase,mutants: deliberate bugs)
	$(if $(LIST),RAFTKV_MUTANT_SEEDS=1 )$(if $(BUG),RAFTKV_MUTANT=$(BUG) )$(MUTANT) $(TEST) --test mutants --test store_mutants --test golden -- every_deliberate_bug --nocapture

.PHONY: cluster
cluster: bins crash-bin ## Run the tests with real processes
	$(call phase,cluster: real processes)
	cd tests/cluster/porcupine && go test .
	$(CLUSTER_ENV) $(TEST) $(call targets-in,tests/cluster) -- --show-output

CLUSTER_ENV = RAFTKV_BIN_DIR="$(CURDIR)/target/debug" RAFTKV_CRASH_BIN_DIR="$(CURDIR)/target/mutant/debug"

.PHONY: histories
histories: bins ## Check more histories than `make cluster` does, N=600 for a night
	$(call phase,histories: $(or $(N),600) of them)
	RAFTKV_HISTORIES=$(or $(N),600) RAFTKV_BIN_DIR="$(CURDIR)/target/debug" \
	  $(TEST) --test linearizable -- --nocapture

.PHONY: oracle
oracle: ## Replay all acknowledged writes of a long run under faults, with release binaries: OPS=1000000 for a night
	$(call phase,oracle: $(or $(OPS),1000000) writes)
	$(CARGO) build --locked --release -p raftkv-node --bins
	RAFTKV_ORACLE_OPS=$(or $(OPS),1000000) RAFTKV_BIN_DIR="$(CURDIR)/target/release" \
	  $(TEST) --test oracle -- --nocapture

.PHONY: crash-points
crash-points: bins crash-bin ## Kill real processes before and after each place where bytes move
	$(call phase,crash-points: processes that die at an exact place)
	$(CLUSTER_ENV) $(TEST) --test crash_points -- --nocapture

.PHONY: crash-night
crash-night: export RAFTKV_CRASH_HITS = 20
crash-night: crash-points ## The same at the first to the twentieth time that a process gets there; hours

# Only in this build can a node be told to die at an exact place.
.PHONY: crash-bin
crash-bin: ## Build the raftkv that has crash points into target/mutant/debug
	$(call phase,crash-bin: raftkv with crash points)
	$(MUTANT) $(CARGO) build --locked --workspace --bin raftkv

# `make cluster` runs a short form of this.
.PHONY: overload
overload: bins ## Run thousands of bad clients, and ten times the load, for SECONDS (60) each
	$(call phase,overload: more clients than can be served)
	RAFTKV_OVERLOAD_SECONDS=$(or $(SECONDS),60) RAFTKV_BIN_DIR="$(CURDIR)/target/debug" $(TEST) \
	  --test overload -- --nocapture --test-threads=1

.PHONY: chart
chart: e2e-tools ## Run the tests of the Helm chart: what helm renders
	$(call phase,chart: what helm renders)
	PATH="$(CURDIR)/target/e2e/bin:$$PATH" $(TEST) --test chart

.PHONY: bins
bins: ## Build the binaries into target/debug
	$(call phase,bins: the binaries)
	$(CARGO) build --locked --bins

# Makes the binaries into images, makes the cluster, loads the images, and runs the scenarios. The cluster is taken down
# at the end, also after a failure; KEEP=1 leaves it for a look. E2E_KUBECONFIG=file runs the same scenarios on a
# cluster of your own.
.PHONY: e2e
e2e: ## Run the scenarios on a kind cluster; KEEP=1 keeps it, E2E_KUBECONFIG=file uses another
	@$(MAKE) --no-print-directory image PROFILE=dev
	@$(MAKE) --no-print-directory e2e-up
	$(call phase,e2e: scenarios on Kubernetes)
	@code=0; PATH="$(CURDIR)/target/e2e/bin:$$PATH" $(TEST) --test e2e || code=$$?; \
	 if [ -n "$(KEEP)" ]; then echo "KEEP is set, the cluster stays: export KUBECONFIG=$(or $(E2E_KUBECONFIG),$(CURDIR)/target/e2e/kubeconfig)"; \
	 else tests/e2e/kind/down || code=$$?; fi; \
	 exit $$code

.PHONY: e2e-up
e2e-up: ## Make the kind cluster, or use the one that is there, and load the dev images into it
	$(call phase,e2e-up: a kind cluster)
	@tests/e2e/kind/up
	@if ls target/images/*.tar >/dev/null 2>&1; then tests/e2e/kind/load target/images/*.tar; \
	 else echo "no images yet: make image PROFILE=dev, then this again"; fi

.PHONY: e2e-tools
e2e-tools: ## Find or build kind, kubectl and helm, into target/e2e/bin
	$(call phase,e2e-tools: kind and kubectl and helm)
	@tests/e2e/kind/prepare --tools

.PHONY: e2e-down
e2e-down: ## Delete the kind cluster; what was built for it stays
	$(call phase,e2e-down: no kind cluster)
	@tests/e2e/kind/down

## Measure

# Run this on an idle machine, with nothing else beside it. It takes about 15 minutes; BENCH="--blocks 1 --only put" is
# shorter.
.PHONY: bench
bench: ## Measure raftkv beside etcd: three nodes of each in turn on this machine
	$(call phase,bench: raftkv beside etcd)
	@tests/bench/etcd/build
	$(CARGO) build --locked --release -p raftkv-node -p raftkvctl -p raftkv-bench --bins
	RAFTKV_BIN_DIR="$(CURDIR)/target/release" target/release/raftkv-bench --etcd target/bench/etcd $(BENCH)

# This needs 6 GiB of disk. MIB=64 is a quick look.
.PHONY: big-snapshot
big-snapshot: bins ## Snapshot, send, install and prove a database of 1 GiB, and measure the memory of each process
	$(call phase,big-snapshot: the memory of a large snapshot)
	RAFTKV_BIN_DIR="$(CURDIR)/target/debug" $(if $(MIB),MIB=$(MIB) )target/debug/big_snapshot

# This loads release binaries under the tags of the tests: the next `make e2e` loads its own again.
.PHONY: bench-operator
bench-operator: ## Measure the operator on a kind cluster, beside etcd-operator where that is in it; KEEP=1 keeps the cluster
	@$(MAKE) --no-print-directory image PROFILE=release IMAGE_TAG=dev
	@$(MAKE) --no-print-directory e2e-up
	$(call phase,bench-operator: the operator measured)
	@code=0; PATH="$(CURDIR)/target/e2e/bin:$$PATH" $(CARGO) run --locked -q -p raftkv-e2e --bin raftkv-e2e-bench -- $(BENCH) || code=$$?; \
	 if [ -z "$(KEEP)" ]; then tests/e2e/kind/down || code=$$?; fi; \
	 exit $$code

## Package

PROFILE ?= release

.PHONY: image
image: ## Make the images in target/images, without a daemon or a registry; PROFILE=dev for the tests
	$(call phase,image: binaries of profile $(PROFILE) as images)
	$(CARGO) build --locked --bins --profile $(PROFILE)
	$(if $(IMAGE_TAG),IMAGE_TAG=$(IMAGE_TAG) )images/build $(PROFILE)

## Check without writing

.PHONY: check
check: fmt-check lock-check clippy doc deny ## Run all checks; nothing is changed
	$(call phase,all checks passed)

.PHONY: fmt-check
fmt-check: ## Compare the formatting
	$(call phase,fmt: formatting)
	$(CARGO) fmt --all --check

.PHONY: lock-check
lock-check: ## Compare Cargo.lock, the one generated file, with the manifests
	$(call phase,lock: Cargo.lock is what the manifests ask for)
	$(CARGO) metadata --locked --format-version 1 > /dev/null

.PHONY: clippy
clippy: ## Lint everything, tests included
	$(call phase,clippy: lints)
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: doc
doc: ## Build the documentation; a broken link or a missing word is an error
	$(call phase,doc: documentation)
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

# Cargo.lock alone decides about licenses, bans and sources. Advisories need their database: if it cannot be fetched and
# no copy of an earlier run is here, that one check is skipped and says so; with the database, an advisory fails the
# check.
.PHONY: deny
deny: ## Check dependencies: licenses, bans, sources, advisories
	$(call phase,deny: dependencies)
	@$(CARGO) deny --version || { echo "cargo-deny is missing: cargo install --locked --debug cargo-deny"; exit 1; }
	$(CARGO) deny --locked --offline check --hide-inclusion-graph bans licenses sources
	@if timeout 120 $(CARGO) deny --locked fetch db; then \
	   $(CARGO) deny --locked --offline check --hide-inclusion-graph advisories; \
	 elif ls -d $(ADVISORY_DB)/*/ >/dev/null 2>&1; then \
	   echo "advisories: the database cannot be fetched; checking with the copy of an earlier run"; \
	   $(CARGO) deny --locked --offline check --hide-inclusion-graph advisories; \
	 else \
	   echo "advisories: NOT CHECKED, the database cannot be fetched and there is no copy here"; \
	 fi

## Change

.PHONY: fix
fix: ## Format, apply what clippy can apply, regenerate golden files; review the diff
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all
	$(MAKE) generated
	UPDATE_GOLDENFILES=1 $(CARGO) test -p raftkv-sim
	UPDATE_GOLDENFILES=1 $(CARGO) test -p raftkvctl --lib kube
	UPDATE_GOLDENFILES=1 $(CARGO) test -p raftkv-operator
	PATH="$(CURDIR)/target/e2e/bin:$$PATH" UPDATE_GOLDENFILES=1 $(CARGO) test -p raftkv-chart-tests

.PHONY: generated
generated: ## Regenerate the custom resource's schema and its reference; their tests compare
	$(CARGO) run --locked -q -p raftkv-crds > target/crd.yaml
	cp target/crd.yaml crds/raftkvcluster.yaml
	mv target/crd.yaml charts/raftkv-operator/files/raftkvcluster.yaml
	$(CARGO) run --locked -q -p raftkv-crds -- --api-reference > target/api.md
	mv target/api.md docs/api.md

.PHONY: clean-data
clean-data: ## Delete the data of `make dev`
	rm -rf ./raftkv-data
