# Build, run and test socket-snoop. The work is done by the short scripts in scripts/.
.PHONY: help run test test-kernels fuzz bench release check setup clean

help:
	@echo 'make run      build the program and run it, as root (ARGS="--dst-port 443" passes flags)'
	@echo 'make test     build the release binaries and run all tests (live ones need root)'
	@echo 'make test-kernels  run the suite on stock kernels in QEMU (ARGS=--ci for a few of them)'
	@echo 'make fuzz     feed what is read from outside with any input (ARGS="--seconds 60")'
	@echo 'make bench    measure what an event costs the kernel (as root)'
	@echo 'make release  build dist/socket-snoop-x86_64 and dist/socket-snoop-aarch64'
	@echo 'make check    formatting and lints'
	@echo 'make setup    install what the tests need from the packages of Debian'
	@echo 'make clean    remove what was built'

run:
	@scripts/run $(ARGS)

test:
	@scripts/test $(ARGS)

test-kernels:
	@scripts/vm-matrix $(ARGS)

fuzz:
	@scripts/fuzz $(ARGS)

bench:
	@scripts/bench

release:
	@scripts/build x86_64
	@scripts/build aarch64

check:
	@scripts/check

setup:
	@scripts/setup

clean:
	rm -rf target dist
