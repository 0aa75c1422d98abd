# Build, run and test socket-snoop. The work is done by the short scripts in scripts/.
.PHONY: help run test test-kernels test-service test-ingest test-package test-trace bench soak fuzz release deb install uninstall keys man check setup clean

# Where things go: see scripts/install.
DESTDIR =
PREFIX = /usr/local
UNITDIR =

help:
	@echo 'make run      build the program and run it, as root (ARGS="--dst-port 443" passes flags)'
	@echo 'make test     build the release binaries and run all tests (live ones need root)'
	@echo 'make test-kernels  run the suite on stock kernels in QEMU (ARGS=--ci for a few of them)'
	@echo 'make test-service  run the service under systemd in QEMU'
	@echo 'make test-ingest  read the JSON lines by their schema, and run the recipes of contrib/'
	@echo 'make test-package  look at the Debian packages with lintian; install, run and purge them'
	@echo 'make test-trace  open the files of --format trace in speedscope, by a headless Chromium'
	@echo 'make fuzz     feed what is read from outside with any input (ARGS="--seconds 60")'
	@echo 'make bench    what watching costs, beside other tools and the least possible (as root)'
	@echo 'make soak     watch memory, descriptors and losses under load for ten minutes (as root)'
	@echo 'make release  build both editions for x86_64 and aarch64 into dist/'
	@echo 'make deb      build dist/socket-snoop_VERSION_amd64.deb and _arm64.deb (MAINTAINER="NAME <ADDRESS>")'
	@echo 'make install  put the release binaries, their service, manual page and completions in place (DESTDIR, PREFIX, UNITDIR); also uninstall'
	@echo 'make keys     write the tables of JSON keys in docs/, and schema/, anew'
	@echo 'make man      write the manual page and the completions anew, from --help'
	@echo 'make check    formatting, lints, and whether THIRD-PARTY is current'
	@echo 'make setup    install what the tests need from the packages of Debian'
	@echo 'make clean    remove what was built'

run:
	@scripts/run $(ARGS)

test:
	@scripts/test $(ARGS)

test-kernels:
	@scripts/vm-matrix $(ARGS)

test-service:
	@scripts/vm-service $(ARGS)

test-ingest:
	@scripts/ingest

test-package:
	@scripts/package

test-trace:
	@scripts/trace $(ARGS)

fuzz:
	@scripts/fuzz $(ARGS)

bench:
	@scripts/bench $(ARGS)

soak:
	@scripts/soak $(ARGS)

release:
	@scripts/build x86_64
	@scripts/build aarch64

deb: release
	@scripts/deb

install:
	@scripts/install "$(DESTDIR)" "$(PREFIX)" "$(UNITDIR)"

uninstall:
	@scripts/install --remove "$(DESTDIR)" "$(PREFIX)" "$(UNITDIR)"

keys:
	@scripts/keys

man:
	@scripts/man

check:
	@scripts/check

setup:
	@scripts/setup

clean:
	rm -rf target dist
