# Two commands do it all: "make demo" shows the whole pipeline on real servers, "make check" runs every test.
# The rest follows PGXS: all, install, uninstall, clean, installcheck, with PG_CONFIG.
PG_CONFIG ?= pg_config
export PG_CONFIG

PARTS = extension worker

.PHONY: all install uninstall clean installcheck deps demo check $(PARTS) simulator

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

check: deps
	test/run

installcheck:
	test/run --installed

demo: deps
	deploy/demo/demo
