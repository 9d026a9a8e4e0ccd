# SPDX-License-Identifier: GPL-2.0-or-later
#
# The entry of the build: the commands of a user, each one line of `make help`. The graph itself
# (what is compiled from what) is scripts/build.mk; the tests' runner is scripts/run-tests.sh.

.DEFAULT_GOAL := all

include scripts/build.mk

##@ Build
all: $(PROGRAMS) $(LIBCMAN) $(MANPAGES) $(BUILD)/compile_commands.json ## build all programs (and library, man pages) into $(BUILD)/
programs: $(PROGRAMS) ## build the programs only
tests: $(UNIT_TESTS) $(FUZZ_TESTS) $(TEST_HELPERS) ## build unit tests, fuzz targets and helpers of tests
bpf: $(SKEL) ## build the BPF objects and their skeleton
compile_commands.json: $(BUILD)/compile_commands.json ## write $(BUILD)/compile_commands.json for clangd
deps: $(DEPS_BUILD) $(DEPS_TEST) ## install what build and tests need (apt-get, as root)
clean: ## remove build/ (and $(BUILD)/ when it is elsewhere)
	$(Q)rm -rf build "$(BUILD)"

##@ Use
demo: $(DEPS_TEST) all ## run the demonstration
	+$(Q)CMAN_BUILD='$(BUILD)' MAKE='$(MAKE)' bash scripts/demo.sh
bench: $(DEPS_TEST) all ## run the benchmarks
	+$(Q)CMAN_BUILD='$(BUILD)' MAKE='$(MAKE)' bash scripts/bench.sh
install: all ## install under $(DESTDIR)$(PREFIX)
	$(install-all)
uninstall: ## remove what install has put there
	$(uninstall-all)

##@ Test
check: $(DEPS_BUILD) $(DEPS_TEST) ## lint, all builds, all tests; SUITES=unit,net T=name select; ends with "N passed, N failed"
	+$(Q)$(RUNNER)
check-vm: $(DEPS_BUILD) $(DEPS_TEST) ## some of the tests under kernels 6.1 and 6.12 in QEMU; T="6.1 relay" selects
	+$(Q)SUITES=vm $(RUNNER)
check-vm-all: $(DEPS_BUILD) $(DEPS_TEST) ## more tests, also under the newest kernel of Debian's backports
	+$(Q)SUITES=vm CMAN_VM_LEVEL=all CMAN_VM_KERNELS=$${CMAN_VM_KERNELS:-6.1,6.12,newest} $(RUNNER)
lint: $(DEPS_BUILD) $(DEPS_TEST) ## format, -Werror, cppcheck, shellcheck, layering, SPDX
	+$(Q)CMAN_BUILD='$(BUILD)' MAKE='$(MAKE)' bash scripts/lint.sh
format: ## let clang-format rewrite all C sources (bpf, usr, tools, selftests)
	$(Q)bash scripts/lint.sh --fix
asan: $(DEPS_BUILD) $(DEPS_TEST) ## unit tests and fuzz smoke with address and undefined sanitizers
	+$(Q)SUITES=asan,fuzz $(RUNNER)
crash: ## build the variant with crash points into build/crash
	+$(Q)$(MAKE) BUILD=build/crash CRASH=1 programs tests
next: ## build the same sources as the next release into build/next, for migrations between releases
	+$(Q)$(MAKE) BUILD=build/next VERSION='$(NEXT_VERSION)' programs
fuzz: $(DEPS_TEST) ## coverage-guided fuzzing with clang; FUZZ_TIME=60 seconds a target, T=name selects
	+$(Q)$(MAKE) BUILD=build/fuzz CC=clang FUZZ=1 fuzz-run

##@ Help
help: ## this text
	@awk 'BEGIN { FS = ":.*## " } \
	/^##@/ { printf "\n%s\n", substr($$0, 5); next } \
	/^[a-z_.-]+:.*## / { printf "  %-24s %s\n", $$1, $$2 }' Makefile
	@printf '\nVariables\n'
	@sed -n 's/^# *@var \([^ ]*\(, [A-Z]*\)*\)  *\([^ ]\)/\1\t\3/p' scripts/build.mk | \
	awk -F '\t' '{ printf "  %-24s %s\n", $$1, $$2 }'

.PHONY: all programs tests bpf compile_commands.json deps clean demo bench install uninstall \
	check check-vm check-vm-all lint format asan crash next fuzz help
