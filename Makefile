# make            build ./aikv (release)
# make test       formatting, lints, all tests (and tests-tcl, where it is)
# make docs       write the generated pages anew: config.toml, docs/config.md, docs/commands.md
# make bench      compare with redis-server and valkey-server, where they are on PATH
# make fuzz       a million random frames (tests/fuzz_frames.rs), damaged snapshots (tests/fuzz_rdb.rs)
# make install    copy the program to $(PREFIX)/bin

PREFIX ?= /usr/local
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: all test lint docs bench install fuzz clean

# A link, not a copy: a running server does not stop the next build from taking its name.
all:
	$(CARGO) build --release
	ln -sf $(TARGET)/release/aikv aikv

test: lint
	$(CARGO) test
	if [ -x tests-tcl/run ]; then $(MAKE) all && tests-tcl/run; fi

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

docs:
	AIKV_UPDATE_DOCS=1 $(CARGO) test --test docs --test conformance

# `make bench ROWS="--only GET"` runs some rows only; all of them write docs/performance.md.
ROWS ?= --write docs/performance.md
bench:
	$(CARGO) bench --bench peers -- $(ROWS)

install: all
	install -D -m 755 $(TARGET)/release/aikv $(DESTDIR)$(PREFIX)/bin/aikv

# A million random frames against the parser and every command; half a million damaged snapshots.
fuzz:
	$(CARGO) test --test fuzz_frames --test fuzz_rdb -- --ignored --nocapture

clean:
	$(CARGO) clean
	rm -f aikv
