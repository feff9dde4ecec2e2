# `make test` is the command that proves a checkout; `make ci` is what the machine runs.
.PHONY: test unit real ci fmt lint demo bench
CARGO ?= cargo

# Everything: unit and integration tests, then the tests against real servers (started and stopped here).
test: unit real

unit:
	$(CARGO) test

# Real identity providers, a real Prometheus, a real browser's protocols. Installs what is missing.
real:
	tests/real/run

ci: fmt lint test

fmt:
	$(CARGO) fmt --check

lint:
	$(CARGO) clippy --all-targets -- -D warnings

# Medians of nine: start to ready, idle memory, reload of 1,000 routes; then what a token costs.
bench:
	$(CARGO) build --release
	benches/process.py target/release/authferry
	$(CARGO) bench --bench token

demo:
	$(CARGO) run --release -- demo
