# SPDX-License-Identifier: MIT
# The front door. Every target does its own set-up first; Meson and Ninja do the work.
#   make run     set everything up and start the gateway on a built-in mock
#   make test    set everything up and run all tests, under ASan and UBSan
#   make bench   side by side with nginx and HAProxy
MAKEFLAGS += --no-print-directory
SHELL = /bin/bash
.SHELLFLAGS = -o pipefail -c
# Ninja has a line for having nothing to do, also when asked to be quiet.
NINJA = ninja --quiet
QUIETLY = | { grep -v "no work to do" || true; }
MESON = meson setup --fatal-meson-warnings
PREFIX ?= /usr/local
CI ?=
WERROR = $(if $(CI),-Dwerror=true)

.PHONY: all build run test test-unit test-system test-threads fuzz check bench bench-tapes bench-h2 bench-life bench-overload bench-waits \
        bench-infer bench-probe bench-servers bench-tools fmt install clean

all: build

build/release/build.ninja: | builddir
	@./setup
	@$(MESON) build/release --buildtype=release -Doptimization=2 -Ddebug=true -Db_lto=true -Db_pie=true $(WERROR) >build/release.log 2>&1 || { cat build/release.log; exit 1; }

build: | builddir
	@./setup
	@$(MAKE) -s build/release/build.ninja
	@$(NINJA) -C build/release thaw $(QUIETLY)
	@ln -sf release/thaw build/thaw
	@echo build/thaw

builddir:
	@mkdir -p build

run: build
	@echo "try: curl localhost:8080/v1/chat/completions -H 'Content-Type: application/json' \\"
	@echo "          -d '{\"model\":\"mock-1s\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'"
	@exec build/thaw serve --mock

build/asan/build.ninja: | builddir
	@$(MESON) build/asan --buildtype=debug -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false -Dtests=true $(WERROR) >build/asan.log 2>&1 || { cat build/asan.log; exit 1; }

build/tsan/build.ninja: | builddir
	@$(MESON) build/tsan --buildtype=debug -Doptimization=1 -Db_sanitize=thread -Db_lundef=false -Dtests=true $(WERROR) >build/tsan.log 2>&1 || { cat build/tsan.log; exit 1; }

# Meson warns of -fsanitize=fuzzer-no-link, which none of its options stands for: warnings are not fatal here.
build/fuzz/build.ninja: | builddir
	@CC=clang meson setup build/fuzz --buildtype=debug -Doptimization=1 -Dfuzz=true -Db_lundef=false >build/fuzz.log 2>&1 || { cat build/fuzz.log; exit 1; }

test: | builddir
	@./setup test
	@$(MAKE) check test-unit test-system test-threads

check:
	@tools/check

test-unit: | builddir
	@./setup test
	@$(MAKE) -s build/asan/build.ninja
	@$(NINJA) -C build/asan $(QUIETLY)
	@UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 meson test -C build/asan --print-errorlogs

# The whole binary under ASan and UBSan, real sockets, real clients.
test-system: | builddir
	@./setup test
	@$(MAKE) -s build/asan/build.ninja
	@$(NINJA) -C build/asan thaw $(QUIETLY)
	@THAW=$(CURDIR)/build/asan/thaw tests/system/run -m 'not threads'

# What crosses threads, under TSan.
test-threads: | builddir
	@./setup test
	@$(MAKE) -s build/tsan/build.ninja
	@$(NINJA) -C build/tsan thaw $(QUIETLY)
	@meson test -C build/tsan --suite threads --print-errorlogs
	@THAW=$(CURDIR)/build/tsan/thaw tests/system/run -m threads

SECONDS ?= 60
fuzz: | builddir
	@./setup test
	@$(MAKE) -s build/fuzz/build.ninja
	@$(NINJA) -C build/fuzz $(QUIETLY)
	@tests/fuzz/run build/fuzz $(SECONDS)

bench: bench-tools
	@python3 bench/run.py --thaw build/thaw --tools build/release/bench $(BENCH)

bench-tapes: bench-tools
	@python3 bench/tapes.py --thaw build/thaw --tools build/release/bench $(BENCH)

bench-life: bench-tools
	@python3 bench/life.py --thaw build/thaw --tools build/release/bench $(BENCH)

bench-h2: bench-tools
	@python3 bench/h2.py --thaw build/thaw --tools build/release/bench $(BENCH)

# In a memory cgroup of its own: as root.
bench-overload: bench-tools
	@python3 bench/overload.py --thaw build/thaw --tools build/release/bench $(BENCH)

.PHONY: bench-waits
bench-waits: bench-tools
	@python3 bench/waits.py --thaw build/thaw --tools build/release/bench $(BENCH)

# How often the prober is right, on simulated servers: make bench-infer RUNS=20
RUNS ?= 20
bench-infer: build
	@$(NINJA) -C build/release bench/thaw-bench-infer $(QUIETLY)
	@build/release/bench/thaw-bench-infer $(RUNS) 2>build/infer.log

# Is the prober right? The real program against the mock's capacities, and against servers that were not written here.
bench-probe: build
	@python3 bench/probe.py --thaw build/thaw $(BENCH)

bench-servers: build
	@./setup servers
	@python3 bench/servers.py --thaw build/thaw $(BENCH)

bench-tools: build
	@./setup bench
	@$(NINJA) -C build/release bench/thaw-bench-sim bench/thaw-bench-swarm $(QUIETLY)

fmt:
	@./setup fmt
	@git ls-files 'src/*.[ch]' 'tests/*.[ch]' 'bench/*.[ch]' | xargs clang-format -i

install: build
	install -D -m 755 build/release/thaw $(DESTDIR)$(PREFIX)/bin/thaw
	install -D -m 644 thaw.example.yaml $(DESTDIR)$(PREFIX)/share/doc/thaw/thaw.example.yaml

clean:
	rm -rf build
