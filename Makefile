# Penstock: `make demo` and `make test` do all of their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROGRAMS := $(wildcard bpf/progs/*.c bpf/progs/*.h bpf/include/penstock/*.h)
ROOTS := xds-server/src gateway-api/src policies/src bpf/src node-proxy/src
CONFORMANCE := PYTHONPATH=tests:deploy/images $(BIN)/python -m conformance
MACHINE := PYTHONPATH=tests:deploy/images $(BIN)/python -m support.machine
CLUSTER := PYTHONPATH=tests:deploy/images $(BIN)/python -m support.cluster
export PYTHONWARNINGS = error
# Modules are compiled once, as they are in an image, not at each start of a process.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: explore help images demo test test-kube e2e soak check golden bench bpf clean setup lock kube-tools cluster cluster-down cluster-images conformance conformance-quick e2e-machine

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## run the shop: policy, refusal, canary and failures, on this machine, in about a minute
	@$(BIN)/python -m penstock.cli demo

test: setup kube-tools ## all tests on one machine: kernel, Envoy, a real API server (as root; builds the API server once)
	@$(BIN)/python -m pytest -q tests --ignore=tests/cluster

test-kube: setup kube-tools ## of these, the tests against a real API server
	@$(BIN)/python -m pytest -q tests/kube

e2e: setup ## tests on a real cluster of two nodes (as root; builds Kubernetes once); some with TESTS=FILE
	@deploy/setup/system-packages cluster
	@deploy/kube-tools/build cluster
	@$(BIN)/python -m pytest -q $(or $(TESTS),tests/cluster)

e2e-machine: setup ## make e2e in a virtual machine: Debian 12, its kernel, systemd, cgroup v2 alone; RUN="make test", ACCEL=tcg
	@deploy/setup/system-packages machine
	@deploy/kube-tools/build cluster
	@$(MACHINE) run $(if $(ACCEL),--accel $(ACCEL)) sh -c '$(or $(RUN),make e2e $(if $(TESTS),TESTS="$(TESTS)"))'

soak: setup ## the fault tests on a cluster, with an API server that is away for five minutes
	@deploy/setup/system-packages cluster
	@deploy/kube-tools/build cluster
	@PENSTOCK_SOAK=1 $(BIN)/python -m pytest -q tests/cluster/test_faults.py

explore: setup ## tests of properties with other examples each time, ROUNDS=5 times over; what fails is a fault
	@for round in $$(seq $(or $(ROUNDS),5)); do $(BIN)/python -m pytest -q tests --ignore=tests/cluster -m hypothesis --hypothesis-profile=others || exit 1; done

check: setup ## formatting, lint, types, layers, generated files
	@deploy/setup/system-packages check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PYTHONWARNINGS=default $(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports
	@$(BIN)/python xds-server/protogen.py --check
	@$(BIN)/python policies/crdgen.py --check

golden: setup ## rewrite golden files; review the diff
	@$(BIN)/python -m pytest -q tests --golden-rewrite -k golden

bench: setup ## measure; results go to docs/measurements; some with TOPICS="change path"
	@deploy/setup/system-packages bench
	@PYTHONPATH=tests $(BIN)/python -m bench $(TOPICS)

kube-tools: ## build what tests run against (etcd, API server, helm), once, into ~/.cache/penstock; more with TOOLS="kubelet"
	@deploy/kube-tools/build $(TOOLS)

cluster: setup ## a Kubernetes cluster of two nodes on this machine, as root (builds Kubernetes once)
	@$(CLUSTER) check
	@deploy/setup/system-packages cluster
	@deploy/kube-tools/build cluster
	@$(CLUSTER) up --own-images

cluster-down: ## remove it
	@$(CLUSTER) down

cluster-images: ## make Penstock's images anew and give them to the running cluster
	@$(CLUSTER) images

conformance: setup ## the official suite of Gateway API on a cluster, as root; PROFILES=GATEWAY-HTTP,… CRDS=1.7.0; results go to docs
	@deploy/setup/system-packages cluster
	@deploy/kube-tools/build all
	@$(CONFORMANCE) $(if $(PROFILES),--profiles $(PROFILES)) $(if $(CRDS),--crds $(CRDS))

conformance-quick: setup ## a fixed set of its tests, of all profiles
	@deploy/setup/system-packages cluster
	@deploy/kube-tools/build all
	@$(CONFORMANCE) --quick

images: setup ## Penstock's container images as OCI archives, into ~/.cache/penstock/images
	@PYTHON=$(BIN)/python deploy/images/build

bpf: setup ## compile the eBPF programs
	@$(BIN)/python -m penstock.bpf.build

setup: $(STAMP)

$(STAMP): requirements-dev.txt pyproject.toml xds-server/protogen.py xds-server/proto/penstock/node/v1/node.proto hatch_build.py $(PROGRAMS)
	@deploy/setup/system-packages
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: Python packages (locked, hashed)"
	@PYTHONWARNINGS=ignore $(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@PYTHONWARNINGS=ignore $(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock: ## resolve the dependencies anew into hashed requirements files
	@$(BIN)/python -m piptools compile -q --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-header -o requirements.txt pyproject.toml
	@$(BIN)/python -m piptools compile -q --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-header --extra dev -o requirements-dev.txt pyproject.toml

clean: ## remove what was built here
	@rm -rf $(VENV) dist build xds-server/src/penstock/pb bpf/src/penstock/bpf/objects .pytest_cache .mypy_cache .ruff_cache .hypothesis
