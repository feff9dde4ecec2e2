# `make test` is the command that proves a checkout; `make ci` is what the machine runs.
.PHONY: test unit real cases ci fmt lint demo bench bench-peers bench-instructions
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

# The security cases: `make cases CASES=FILE` takes any file of the same schema.
CASES ?= tests/security/cases.yaml
cases:
	$(CARGO) test --test security -- $(CASES)

# Medians of nine: start to ready, idle memory, reload of 1,000 routes; then what a token costs.
bench:
	$(CARGO) build --release
	benches/process.py target/release/authferry
	$(CARGO) bench --bench token

# Beside nginx and a bare hyper proxy, interleaved: `make bench-peers OUT=FILE.json`.
bench-peers:
	$(CARGO) build --release
	benches/peers/run $(if $(OUT),--out $(OUT))

# Instructions per request, held to benches/instructions.json.
bench-instructions:
	$(CARGO) build --release
	benches/instructions.py target/release/authferry

demo:
	$(CARGO) run --release -- demo
