# Two commands do it all: "make demo" shows the whole pipeline on real servers, "make check" runs every test.
# The rest follows PGXS: all, install, uninstall, clean, installcheck, with PG_CONFIG.
PG_CONFIG ?= pg_config
export PG_CONFIG

PARTS = extension worker top

.PHONY: all install uninstall clean installcheck deps demo dashboard notebook check bench chaos soak dist image-check $(PARTS) simulator

all: $(PARTS) simulator

$(PARTS):
	$(MAKE) -C $@ all

simulator:
	test ! -f simulator/Makefile || $(MAKE) -C simulator all

install uninstall:
	for part in $(PARTS); do $(MAKE) -C $$part $@ || exit 1; done

clean:
	for part in $(PARTS); do $(MAKE) -C $$part clean || exit 1; done
	test ! -f simulator/Makefile || $(MAKE) -C simulator clean

deps:
	deploy/deps/install.sh

# Both install into a private copy of PostgreSQL, so that neither needs root nor touches the system's; as root
# they step down to an ordinary user.
demo: deps
	deploy/demo/demo

# The live page alone: of the database that PGHOST, PGDATABASE, ... name, or else of the demo that is running.
dashboard:
	deploy/local/dashboard run

# notebooks/exploratory_analysis.ipynb, run from nothing; prints where the run is.
notebook: deps
	deploy/demo/notebook

check: deps
	$(MAKE) -s -j2 all
	$(MAKE) -s install PG_CONFIG="$$(deploy/local/postgres prepare)"
	deploy/local/unprivileged test/run

# Figures, no verdict: how fast everything is, beside what one would do without us. BENCH="drain latency" measures only
# these; test/bench/report --keep makes the figures those that later ones are compared with.
bench: deps
	$(MAKE) -s -j2 all
	$(MAKE) -s install PG_CONFIG="$$(deploy/local/postgres prepare)"
	rm -f .local/bench/*.json
	deploy/local/unprivileged test/run $(if $(BENCH),$(BENCH:%=bench/%.t),bench)
	test/bench/report

# Everything dies, in the middle of a stream, as SEED says: FAULTS=200 SECONDS=600 EVENTS=2000000, SINKS=1 with
# Elasticsearch, ONLY=word for the faults whose names match. A minute of it is part of check.
chaos: deps
	$(MAKE) -s -j2 all
	$(MAKE) -s install PG_CONFIG="$$(deploy/local/postgres prepare)"
	deploy/local/unprivileged test/run chaos

# Rollups under all that can go on at once, as SEED says: SECONDS=300 RATE=5000. Some seconds of it are part of check.
soak: deps
	$(MAKE) -s -j2 all
	$(MAKE) -s install PG_CONFIG="$$(deploy/local/postgres prepare)"
	deploy/local/unprivileged test/run soak

# A tarball of what is committed, in dist/; META.json is held against the tree first.
dist:
	deploy/dist/dist

# The steps of the container images, in a fresh Debian 12 of their own. As root; some minutes.
image-check:
	deploy/docker/try

# What is installed where PG_CONFIG points, tried from a copy of it.
installcheck:
	deploy/local/postgres prepare
	deploy/local/unprivileged test/run
