# Every target works alone on a fresh clone with Python 3.11+ and make, and sets up what it needs.
#   make up                 start Signalbox with Envoy         make up ENGINE=kafka ARGS="--no-sample"
#   make test               lint and all tests                 make test ARGS="tests/schemas -k avro"
#   make check              lint and the tests without Envoy, Kafka, PostgreSQL and other languages
#   make bench              measure, write bench/results
#   make lint | make fmt    check | repair the style
#   make lock               pin what pyproject.toml asks for   make lock UPGRADE=1 takes the newest
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that run tests, most of which wait most of the time: for servers, the disk and each other.
WORKERS ?= 3
SEVERAL = --dist loadfile --no-loadscope-reorder -n
READY := $(VENV)/.ready
PRODUCT := api clients/python commands definitions gateways projections schemas signalbox streams xds
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

.PHONY: up test check all-tests pure-tests bench lint product-types style fmt lock
.DELETE_ON_ERROR:

$(READY): requirements.lock pyproject.toml .ci/install
	@PYTHON="$(PYTHON)" .ci/install $(VENV)
	@touch $@

up: $(READY)
	@$(BIN)/signalbox up $(if $(ENGINE),--engine $(ENGINE)) $(ARGS)

test: $(READY)
	@$(MAKE) --no-print-directory -j2 lint all-tests

check: $(READY)
	@$(MAKE) --no-print-directory -j2 product-types pure-tests

# Tests that kill processes come afterwards, two at a time: more rounds of kills at once starve each other.
all-tests: CHAOS = $$(grep -rl --include='test_*.py' 'mark\.chaos' tests)
all-tests: $(READY)
	$(if $(ARGS),.ci/pytest kept $(ARGS),.ci/pytest memory $(SEVERAL) $(WORKERS) -m "not chaos"; status=$$?; \
		.ci/pytest disk $(SEVERAL) 2 -m chaos $(CHAOS) && exit $$status)

pure-tests: $(READY)
	SIGNALBOX_QUICK_LAWS=1 .ci/pytest memory $(SEVERAL) 2 -m "not real and not chaos"

bench: $(READY)
	$(BIN)/python -m bench $(ARGS)

lint: style
	$(BIN)/pyright

product-types: style
	$(BIN)/pyright $(PRODUCT)

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	cd clients/python && $(CURDIR)/$(BIN)/lint-imports

fmt: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# requirements.lock is for working on Signalbox, deploy/requirements.lock for running it; same versions.
lock: $(READY)
	$(COMPILE) --all-extras pyproject.toml .ci/tools.in -o requirements.lock
	$(COMPILE) --extra kafka --extra postgres pyproject.toml .ci/build.in -c requirements.lock -o deploy/requirements.lock
