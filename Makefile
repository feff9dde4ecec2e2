# `make test` is the command that proves a checkout; `make ci` is what the machine runs.
.PHONY: bare corpus need move interop drill test unit guards real rules cases control variants fuzz suites faults soak revoked ci fmt lint deny advisories sbom repro demo bench bench-peers bench-instructions
CARGO ?= cargo
# What is said of somebody's own installation says nothing of those that are tested here.
unexport AUTHFERRY_CONFIG AUTHFERRY_LISTEN AUTHFERRY_ADMIN_LISTEN AUTHFERRY_ADMIN_SOCKET AUTHFERRY_STATE_DIR AUTHFERRY_KILL AUTHFERRY_LOG

# Everything: unit and integration tests, then the tests against real servers (started and stopped here).
test: need unit real

# What the tests against real servers need is there before the long part begins.
need:
	tests/real/run --need

unit:
	$(CARGO) test

# Real identity providers, a real Redis, a real Prometheus, a real browser, and the suites of tests/suites. Installs what is missing.
real:
	tests/real/run

# The alerts under their unit tests, the queries of the dashboard: a second of promtool.
rules:
	tests/real/rules

ci: fmt lint bare deny corpus test fuzz-short

fmt:
	$(CARGO) fmt --check

lint:
	$(CARGO) clippy --all-targets --features real-servers,bench -- -D warnings

# A build without LDAP compiles, and names what it lacks.
bare:
	$(CARGO) test --no-default-features --test config a_directory_needs_a_build

# What takes longer than a landing may wait has its own target, which writes what it showed into a RESULTS.md, with day and
# revision: commit that.
LAST = target/last-run.json

# The security cases: `make cases CASES=FILE` takes any file of the same schema, and keeps no record of others.
CASES ?= tests/security/cases.yaml
OWN = $(filter tests/security/cases.yaml,$(CASES))
cases:
	rm -f $(LAST)
	$(CARGO) test --test security -- --json $(LAST) $(CASES); status=$$?; $(if $(OWN),tests/results.py cases $(LAST);) exit $$status

# The cases as every landing runs them: those that do not measure time, and whatever is critical (`make cases` runs all). No record is kept.
corpus: need
	$(CARGO) test --test security -- --only '^((JWT|HDR|PATH|FRM|OIDC|RED|SESS|OUT|XCH|POP|MIG|WS|TLS|ADM)-|AF-(0|10[01456])|DOS-0(13|15|20|22)|JWKS-0(04|05|16)|REL-0(07|08|09|19|20|24))'

# The same cases against a proxy as it is written in an afternoon, which must fail at least half of them.
control:
	rm -f $(LAST)
	-$(CARGO) test --test security -- --target naive --json $(LAST) tests/security/cases.yaml
	test -e $(LAST)
	tests/results.py control $(LAST)

# Other spellings of the cases, the same without credentials, and in HTTP/2.
variants:
	rm -f $(LAST)
	$(CARGO) test --test security -- --variants --json $(LAST) $(CASES); status=$$?; $(if $(OWN),tests/results.py variants $(LAST);) exit $$status

# Clients that others wrote (npm, PyPI, Go) against our token endpoint; the table is tests/interop/expected.tsv.
interop:
	rm -f $(LAST)
	INTEROP_ROWS=$(abspath $(LAST)) tests/interop/run; status=$$?; tests/results.py interop $(LAST); exit $$status

# How soon what is revoked at one of two instances is over at both: over one Redis, kept verdicts and restarts among it.
revoked:
	rm -f $(LAST)
	REVOKED_ROWS=$(abspath $(LAST)) $(CARGO) test --features real-servers --test integration -- within_two_seconds --test-threads=1; status=$$?; tests/results.py revoked $(LAST); exit $$status

# What the guards promise, with all runs: a healthy day 300 times, and both tables of deploy/README.md.
guards:
	rm -f $(LAST)
	GUARD_ROWS=$(abspath $(LAST)) $(CARGO) test --release --lib rollout::guard::; status=$$?; tests/results.py guards $(LAST); exit $$status

# Six stages of a rollout in a minute, twice: with the rollback, and without it. Recomputes both tables.
drill:
	rm -f $(LAST)
	DRILL_ROWS=$(abspath $(LAST)) $(CARGO) test --release --test drill -- --nocapture; status=$$?; tests/results.py drill $(LAST); exit $$status

# Two hundred people move stage by stage, and back, ten of them in Chromium where it is there, and a hundred with sessions of an old
# system: every sign-in is counted. Then the same to a real Keycloak: two hundred from an oidc-provider, ten of them in Chromium, a hundred from a
# PHP application, and a hundred with passwords of OpenLDAP; every form is counted at whoever sends it and at whoever takes it.
move:
	tests/real/run --need
	rm -f $(LAST)
	MOVE_CHROMIUM=$$(command -v chromium) MOVE_ROWS=$(abspath $(LAST)) $(CARGO) test --test integration moved:: -- --nocapture \
	  && MOVE_ROWS=$(abspath $(LAST)) tests/real/run --move; status=$$?; tests/results.py move $(LAST); exit $$status

# Looks for bytes that break a promise of a parser: `make fuzz SECONDS=3600` is the long run.
SECONDS ?= 60
fuzz:
	fuzz/run $(SECONDS)

# Two seconds of each: all targets compile, and hold for what is near their corpora. No record is kept.
.PHONY: fuzz-short
fuzz-short:
	ALLOW_SKIP=1 NO_RECORD=1 FUZZ_PROFILE=--dev fuzz/run 2

# Suites that others wrote, each with its pass line: `make suites SUITES="h2spec-tls grpc"`.
suites:
	$(CARGO) build
	tests/suites/run --results tests/suites/RESULTS.md $(SUITES)

# Faults, and what is promised in each: `make faults ROWS="17 27"`, `make faults SEED=7 FAULT_SECONDS=300 ROWS=32`.
FAULT_SECONDS ?= 1200
faults:
	tests/faults/run --need
	$(CARGO) build
	tests/faults/run --results tests/faults/RESULTS.md --seconds $(FAULT_SECONDS) $(if $(SEED),--seed $(SEED)) $(ROWS)

# An hour of mixed load with reloads, and with restarts of Redis and of both providers: `make soak DURATION=120` is a trial.
DURATION ?= 3600
soak:
	tests/faults/run --need
	$(CARGO) build --release
	AUTHFERRY_BIN=$(abspath target/release/authferry) tests/faults/soak --seconds $(DURATION) --results tests/faults/RESULTS.md

# Licences, sources, versions of everything that is linked.
deny:
	command -v cargo-deny >/dev/null || $(CARGO) install --locked --quiet cargo-deny
	cargo deny --locked check licenses bans sources

# Known vulnerabilities. Needs the advisory database from the network, so no landing waits for it.
advisories:
	command -v cargo-deny >/dev/null || $(CARGO) install --locked --quiet cargo-deny
	cargo deny --locked check advisories
	printf 'known vulnerabilities\tnone in %s crates (RustSec database of %s)\n' "$$(grep -c '^\[\[package' Cargo.lock)" \
	  "$$(for d in $${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs/advisory-db-*; do git -C $$d log -1 --format=%cs; done | sort | tail -1)" \
	  | tests/results.py release

# The bill of materials of the program: `make sbom OUT=FILE.json`.
OUT_SBOM = $(if $(OUT),$(OUT),target/authferry.cdx.json)
sbom:
	deploy/sbom $(OUT_SBOM)

# The same bytes from two directories.
repro:
	deploy/repro

# Medians of nine: start to ready, idle memory, reload of 1,000 routes; then what a token costs, single steps of a request, and a million
# sessions in the embedded store (`make bench SESSIONS=100000` is a trial). Fails above a bound.
bench:
	$(CARGO) build --release
	benches/process.py target/release/authferry
	$(CARGO) bench --features bench --bench token --bench micro
	$(CARGO) bench --features bench --bench sessions -- --sessions $(SESSIONS)

# The last part of `make bench` alone: start, look-ups, size, and what expires. Up to eight minutes, and 4 GiB of disk below TMPDIR:
# `make bench-sessions SESSIONS=100000` is a trial. Writes the table of benches/README.md.
.PHONY: bench-sessions
SESSIONS ?= 1000000
bench-sessions:
	$(CARGO) bench --features bench --bench sessions -- --sessions $(SESSIONS) --table benches/README.md

# Beside every peer, interleaved: `make bench-peers OUT=FILE.json [SCENARIOS=hot,session] [TARGETS=authferry,nginx] [ROUNDS=9]`.
bench-peers:
	$(CARGO) build --release
	benches/peers/run $(if $(OUT),--out $(OUT)) $(if $(SCENARIOS),--scenarios $(SCENARIOS)) $(if $(TARGETS),--targets $(TARGETS)) $(if $(ROUNDS),--rounds $(ROUNDS))

# Instructions per request, held to benches/instructions.json; `make bench-instructions RECORD='what moved them'` adds an entry.
bench-instructions:
	$(CARGO) build --release
	benches/instructions.py target/release/authferry $(if $(RECORD),--record '$(RECORD)')

# What second opinions at full budget cost the tail, in pairs of rounds.
.PHONY: bench-shadow
bench-shadow:
	$(CARGO) build --release
	benches/shadow.py target/release/authferry $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(UNBOUNDED),--unbounded)

# Memory of connections that rest and of large bodies, what is added to the time of a request, how long a reload is in the way: five minutes.
.PHONY: bench-figures
bench-figures:
	$(CARGO) build --release
	rm -f $(LAST)
	benches/figures.py target/release/authferry --rows $(LAST); status=$$?; tests/results.py figures $(LAST); exit $$status

# How they grow with the configuration; writes the table of benches/README.md.
.PHONY: bench-growth
bench-growth:
	$(CARGO) build --release
	benches/growth.py target/release/authferry

# Where the instructions of a hot request go: draws benches/hot.svg.
.PHONY: bench-flame
bench-flame:
	$(CARGO) build --release
	benches/flame.py target/release/authferry

demo:
	$(CARGO) run --release -- demo
