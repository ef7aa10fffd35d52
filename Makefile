# SPDX-License-Identifier: Apache-2.0
#
# The one list of what a developer can do here; `make` shows it.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
FUZZTIME ?= 10s
N        ?= 5
VERSION  ?= $(shell git describe --tags --dirty 2>/dev/null || \
	echo "0.0.0-dev+$$(git rev-parse --short HEAD 2>/dev/null || echo unknown)")

# Tools that are not part of the module, each at one version. They are built
# once per machine and kept for the next checkout.
GOLANGCI_LINT_VERSION := v2.15.0
TOOL_CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/shale-tools
GOLANGCI_LINT := $(TOOL_CACHE)/golangci-lint-$(GOLANGCI_LINT_VERSION)-$(shell $(GO) env GOVERSION)/golangci-lint

BENCHSTAT_VERSION := v0.0.0-20260908200009-22c9c6c9d4da
BENCHSTAT := $(TOOL_CACHE)/benchstat-$(BENCHSTAT_VERSION)/benchstat

# The race detector needs cgo, and that a C compiler, which deps may install.
RACE = $(shell command -v gcc >/dev/null && echo -race)

.PHONY: build
build: ## build bin/shale, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/shale ./cmd/shale

.PHONY: demo
demo: build ## unpack, edit and repack a real image, with nothing to download
	test/demo.sh

.PHONY: test
test: deps check ## install what the tests need, then run them all

.PHONY: check
check: lint unit hostile sample-faults sample-fuzz bats ## run all tests with what is installed; CI runs this

.PHONY: unit
unit: export SHALE_UMOCI = $(CURDIR)/bin/peers/umoci
# Tests start themselves to be killed, and the race detector has each of these children
# wait for a second before it ends.
unit: export GORACE = atexit_sleep_ms=0
# Collecting garbage is what the race detector makes slowest.
unit: export GOGC = 400
# The package that takes longest comes first, so that it does not run alone at the end.
unit: peers ## run the unit tests, with the race detector where there is a C compiler
	@[ -n "$(RACE)" ] || echo "SKIPPED: the race detector, since gcc is missing"
	$(GO) test -p 4 $(RACE) $$($(GO) list ./transfer ./... | grep -v -e /test/hostile -e /test/faults)

.PHONY: hostile
hostile: ## run hostile inputs against the binary and print a line for each
	$(GO) test -count=1 -v ./test/hostile | grep -v -e '^=== ' -e '^ *--- PASS'

.PHONY: faults
faults: build peers ## kill, starve and crowd the binary in every way there is; takes the better part of an hour
	SHALE_FAULTS=all $(GO) test -count=1 -timeout 120m -v ./test/faults | grep -v -e '^=== ' -e '^ *--- PASS'
	KILLS=500 bats/run.sh concurrency split

.PHONY: sample-faults
sample-faults: ## the same in half a minute, with a sample that SHALE_SEED draws
	$(GO) test -count=1 -v ./test/faults | grep -v -e '^=== ' -e '^ *--- PASS'

.PHONY: bats
bats: build peers ## run the command line's tests, as root and as an ordinary user
	bats/run.sh

.PHONY: lint
lint: $(GOLANGCI_LINT) ## run the linters over Go code and shell scripts
	$(GOLANGCI_LINT) run ./...
	@if command -v shellcheck >/dev/null; then \
		git ls-files -z '*.sh' '*.bash' '*.bats' .ci/run | xargs -0 shellcheck -x; \
	else \
		echo "SKIPPED: checks of shell scripts, since shellcheck is missing"; \
	fi

.PHONY: bench
bench: build peers ## compare speed and memory with peers, N=5 runs each, into docs/benchmarks.md; needs root
	$(GO) run ./test/bench -n $(N) -out docs/benchmarks.md

.PHONY: bench-go
bench-go: $(BENCHSTAT) ## compare the Go benchmarks with those of the last commit, N=5 runs each
	test/bench-go.sh $(BENCHSTAT) $(N)

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME=10s
	test/fuzz.sh $(FUZZTIME)

.PHONY: sample-fuzz
sample-fuzz: ## run every fuzz target for five seconds, as many at once as there are processors
	@FUZZJOBS=$$(nproc) test/fuzz.sh 5s | grep -v 'fuzz: elapsed'

.PHONY: deps
deps: ## install what the tests need from Debian, or say what is missing
	test/deps.sh

.PHONY: peers
peers: bin/peers/umoci bin/peers/crane ## build the tools that shale is compared with

bin/peers/%: test/peers/%/go.mod test/peers/%/go.sum
	cd test/peers/$* && CGO_ENABLED=0 $(GO) build -trimpath -o $(CURDIR)/bin/peers/ tool

$(GOLANGCI_LINT):
	GOBIN=$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

$(BENCHSTAT):
	GOBIN=$(@D) $(GO) install golang.org/x/perf/cmd/benchstat@$(BENCHSTAT_VERSION)

.PHONY: clean
clean: ## remove what was built here; images and tools in ~/.cache stay
	rm -rf bin

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
