# SPDX-License-Identifier: GPL-2.0-or-later
#
# The whole graph, not recursive: sources are found by wildcard, one folder one library or program,
# everything lands under $(BUILD). A variant (sanitizers, crash points, other version) is the same
# graph with another BUILD. Nothing here runs a tool while the file is read, except cksum and git-free
# greps: tools may have to be installed first (see DEPS_BUILD).
#
# @var BUILD=build             where everything goes; variants: build/asan, build/crash, build/fuzz
# @var SAN=1                   address and undefined sanitizers (use with BUILD=build/asan)
# @var CRASH=1                 -DCMAN_CRASH_POINTS (use with BUILD=build/crash)
# @var WERROR=1                warnings are errors; recompiles only what warned before
# @var VERSION=x               version string of the programs (default: the file VERSION)
# @var CC, CLANG, BPFTOOL        the tools
# @var EXTRA_CFLAGS=           appended to the compiler's flags
# @var V=1                     show the commands
# @var PREFIX, DESTDIR           for install (default /usr/local, nothing)
# @var SUITES, T                 for check: suites (lint,unit,asan,fuzz,sim,model,net,fault,apps,vm), names of tests
# @var CMAN_VM_KERNELS         for check-vm: 6.1,6.12; X.Y of Debian's backports, newest
# @var NODEPS=1                never try to install packages

BUILD        ?= build
VERSION      ?= $(shell cat VERSION)
NEXT_VERSION ?= $(shell awk -F. '{ print $$1 "." $$2 + 1 ".0" }' VERSION)
PREFIX       ?= /usr/local
DESTDIR      ?=
CC           := $(if $(filter default,$(origin CC)),gcc,$(CC))
CLANG        ?= clang
BPFTOOL      ?= $(shell PATH="$$PATH:/usr/sbin:/sbin" command -v bpftool || echo bpftool)
PKG_CONFIG   ?= pkg-config
LLVM_STRIP   ?= llvm-strip
FUZZ_TIME    ?= 60

MAKEFLAGS += --no-builtin-rules --no-print-directory
# all processors, unless the user or a make above has said how many
ifeq (0,$(MAKELEVEL))
ifeq (,$(filter -j%,$(MAKEFLAGS)))
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 1)
endif
endif
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
FORCE:
.PHONY: FORCE

ifeq ($(V),1)
Q    :=
say   = @:
else
Q    := @
# two columns: what is done, to which file
say   = @printf '  %-8s %s\n' '$1' '$(patsubst $(BUILD)/%,%,$@)'
endif

# --- dependencies: installed once per content of the script, remembered outside of the variants

DEPS_HASH  := $(shell cksum < scripts/install-deps.sh | cut -d' ' -f1)
ifneq ($(NODEPS),1)
DEPS_BUILD := build/.deps-build-$(DEPS_HASH)
DEPS_TEST  := build/.deps-test-$(DEPS_HASH)
endif
# test after build: two apt-get at a time would only wait for each other's lock
build/.deps-test-$(DEPS_HASH): | build/.deps-build-$(DEPS_HASH)
build/.deps-%-$(DEPS_HASH):
	@bash scripts/install-deps.sh $*
	@mkdir -p $(@D) && rm -f build/.deps-$*-* && touch $@

# --- flags

WARN      := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes
INCLUDES   = -I. -Iusr -Iusr/include -I$(BUILD)/gen
SANFLAGS  := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZFLAGS := -fsanitize=fuzzer-no-link $(SANFLAGS)
BASEFLAGS := -std=gnu11 -O2 -g $(WARN) -D_GNU_SOURCE $(if $(CRASH),-DCMAN_CRASH_POINTS) \
	$(if $(SAN),$(SANFLAGS)) \
	$(if $(FUZZ),$(FUZZFLAGS)) \
	$(EXTRA_CFLAGS)
DEFVERSION = -DCMAN_VERSION=\"$(VERSION)\"
COMPILE    = $(CC) $(BASEFLAGS) $(DEFVERSION) $(INCLUDES)
LDFLAGS_A  = -Wl,--as-needed $(if $(SAN),$(SANFLAGS)) \
	$(if $(FUZZ),$(SANFLAGS)) $(LDFLAGS)
# Every program is offered all libraries; --as-needed keeps those that it uses.
PACKAGES  := libbpf libelf zlib libuv libconfuse jansson libmnl libcap-ng libseccomp libssl \
	libcrypto sqlite3 libcurl libmicrohttpd libedit
# asked of pkg-config once, at the first link, when the packages are surely there
LIBS       = $(eval LIBS := $$(shell for p in $(PACKAGES); do \
	$(PKG_CONFIG) --libs $$$$p 2>/dev/null || echo "$$$$p: not found" >&2; done) -lpthread -lm)$(LIBS)

# --- stamps: a file that changes only when its text does, so that dependents are rebuilt

define STAMP
$1: FORCE
	@mkdir -p $$(@D); printf '%s\n' '$(strip $2)' | cmp -s - $$@ || printf '%s\n' '$(strip $2)' > $$@
endef
$(eval $(call STAMP,$(BUILD)/.flags,$(CC) $(BASEFLAGS) $(INCLUDES) $(PACKAGES) $(LDFLAGS)))
$(eval $(call STAMP,$(BUILD)/.version,$(VERSION)))
$(eval $(call STAMP,$(BUILD)/.kernel,$(shell uname -rv)))

# --- libraries: one folder of usr/ each, the lower ones last when linking

srcs = $(sort $(foreach d,$1,$(wildcard $d/*.c)))
objs = $(patsubst %.c,$(BUILD)/obj/%.o,$(call srcs,$1))

# A library without sources yet is left out.
define LIBRARY
LIB_$1 := $(if $(call srcs,$2),$(BUILD)/lib/libcman-$1.a)
$(call STAMP,$(BUILD)/.list-$1,$(call srcs,$2))
$(BUILD)/lib/libcman-$1.a: $(call objs,$2) $(BUILD)/.list-$1
	$$(call say,AR)
	$(Q)mkdir -p $$(@D) && rm -f $$@ && $(AR) rcs $$@ $(call objs,$2)
endef
$(eval $(call LIBRARY,core,usr/core))
$(eval $(call LIBRARY,sys,usr/sys))
$(eval $(call LIBRARY,tls,usr/tls))
$(eval $(call LIBRARY,test,selftests/lib))
LIB_ALL := $(LIB_tls) $(LIB_sys) $(LIB_core)

# what other programs may use (usr/include/cman): complete in itself, LGPL
LIBCMAN := $(BUILD)/lib/libcman.a
LIBCMAN_OBJS := $(patsubst %.c,$(BUILD)/obj/%.o,$(sort $(wildcard usr/sys/repair*.c)))
$(eval $(call STAMP,$(BUILD)/.list-libcman,$(LIBCMAN_OBJS)))
$(LIBCMAN): $(LIBCMAN_OBJS) $(BUILD)/.list-libcman
	$(call say,AR)
	$(Q)mkdir -p $(@D) && rm -f $@ && $(AR) rcs $@ $(LIBCMAN_OBJS)

# --- programs: name, folders; a program whose first folder has no sources yet is left out

define PROGRAM
ifneq (,$(call srcs,$(firstword $2)))
PROGRAMS += $(BUILD)/bin/$1
$(call STAMP,$(BUILD)/.list-$1,$(call srcs,$2))
$(BUILD)/bin/$1: $(call objs,$2) $(LIB_ALL) $(BUILD)/.list-$1 $(BUILD)/.flags
	$$(call say,LINK)
	$(Q)mkdir -p $$(@D) && $(CC) $(LDFLAGS_A) -o $$@ $(call objs,$2) $(LIB_ALL) $$(LIBS)
endif
endef
PROGRAMS :=
$(eval $(call PROGRAM,cmand,usr/manager usr/gateway usr/keeper usr/http))
$(eval $(call PROGRAM,cman-coordd,usr/coord))
$(eval $(call PROGRAM,cmanctl,tools/cmanctl))
$(eval $(call PROGRAM,cman-bench,tools/bench))

# --- BPF: each file an object, all linked into one, one skeleton of it

# The file that defines the maps comes first: libbpf 1.1 links an object that declares a map extern
# before its definition into one that does not load ("map relo failed").
# Loaded on its own, when somebody asks for it, because not every kernel takes it:
BPF_OWN  := $(wildcard bpf/splice.bpf.c)
BPF_SRCS := $(wildcard bpf/maps.bpf.c) $(filter-out bpf/maps.bpf.c $(BPF_OWN),$(sort $(wildcard bpf/*.bpf.c)))
BPF_OBJS := $(patsubst %.c,$(BUILD)/obj/%.o,$(BPF_SRCS))
SKEL     := $(if $(BPF_SRCS),$(BUILD)/gen/cman.skel.h) $(patsubst bpf/%.bpf.c,$(BUILD)/gen/%.skel.h,$(BPF_OWN))
BPF_ARCH := $(shell uname -m | sed 's/x86_64/x86/; s/aarch64/arm64/; s/ppc64le/powerpc/; \
	s/mips.*/mips/; s/armv.*/arm/; s/riscv64/riscv/; s/s390x/s390/; s/loongarch.*/loongarch/')
BPF_FLAGS = -g -O2 -std=gnu11 -target bpf -mcpu=v3 -D__TARGET_ARCH_$(BPF_ARCH) -Wall \
	-Wno-unused-function -Wno-missing-declarations -Wno-compare-distinct-pointer-types \
	$(if $(CRASH),-DCMAN_CRASH_POINTS) -I. -I$(BUILD)/gen \
	-idirafter /usr/include/$$($(CC) -print-multiarch 2>/dev/null)
$(eval $(call STAMP,$(BUILD)/.bpfflags,$(CLANG) $(subst $$,,$(BPF_FLAGS))))
$(eval $(call STAMP,$(BUILD)/.list-bpf,$(BPF_SRCS)))

$(BUILD)/gen/vmlinux.h: scripts/vmlinux.sh $(BUILD)/.kernel $(wildcard bpf/vmlinux_min.h) | $(DEPS_BUILD)
	$(call say,GEN)
	$(Q)bash scripts/vmlinux.sh '$(BPFTOOL)' $@

$(BUILD)/obj/bpf/%.bpf.o: bpf/%.bpf.c $(BUILD)/gen/vmlinux.h $(BUILD)/.bpfflags | $(DEPS_BUILD)
	$(call say,BPF)
	$(Q)mkdir -p $(@D) && $(CLANG) $(BPF_FLAGS) $(if $(WERROR),-Werror) -MMD -MP -MT $@ \
		-MF $(@:.o=.d) -c $< -o $@ && $(LLVM_STRIP) -g $@

$(BUILD)/bpf/cman.bpf.o: $(BPF_OBJS) $(BUILD)/.list-bpf
	$(call say,BPFLINK)
	$(Q)mkdir -p $(@D) && $(BPFTOOL) gen object $@ $(BPF_OBJS)

$(BUILD)/gen/cman.skel.h: $(BUILD)/bpf/cman.bpf.o
	$(call say,SKEL)
	$(Q)mkdir -p $(@D) && $(BPFTOOL) gen skeleton $< name cman_bpf > $@

$(patsubst bpf/%.bpf.c,$(BUILD)/gen/%.skel.h,$(BPF_OWN)): $(BUILD)/gen/%.skel.h: $(BUILD)/obj/bpf/%.bpf.o
	$(call say,SKEL)
	$(Q)mkdir -p $(@D) && $(BPFTOOL) gen skeleton $< name $*_bpf > $@

# --- C objects. What a compiler warns about is kept beside the object (x.o.warn): a later WERROR=1
# compiles just these again. Only sources that mention CMAN_VERSION (or all, when a header does) are
# rebuilt for another version.

C_DIRS   := usr/core usr/sys usr/tls usr/manager usr/gateway usr/keeper usr/http usr/coord \
	tools/cmanctl tools/bench selftests/lib selftests/unit selftests/fuzz selftests/net \
	selftests/fault selftests/sim selftests/apps
ALL_SRCS := $(call srcs,$(C_DIRS))
ALL_OBJS := $(call objs,$(C_DIRS))
CORE_OBJS := $(call objs,usr/core)
VERSION_HDRS := $(shell grep -lsw CMAN_VERSION /dev/null $(wildcard $(addsuffix /*.h,$(C_DIRS) usr/include/cman)))
VERSION_SRCS := $(if $(VERSION_HDRS),$(ALL_SRCS),$(shell grep -lsw CMAN_VERSION /dev/null $(ALL_SRCS)))

$(patsubst %.c,$(BUILD)/obj/%.o,$(VERSION_SRCS)): $(BUILD)/.version
# the first time no .d file tells yet that the skeleton is included
$(filter-out $(CORE_OBJS),$(ALL_OBJS)): | $(SKEL)
ifneq (,$(WERROR))
$(foreach o,$(ALL_OBJS),$(if $(wildcard $o.warn),$(eval $o: FORCE)))
endif

$(BUILD)/obj/%.o: %.c $(BUILD)/.flags | $(DEPS_BUILD)
	$(call say,CC)
	$(Q)mkdir -p $(@D); $(COMPILE) $(if $(WERROR),-Werror) $(if $(MAKE_TERMERR),-fdiagnostics-color=always) \
		-MMD -MP -c $< -o $@ 2>$@.warn; rc=$$?; cat $@.warn >&2; \
		[ -s $@.warn ] || rm -f $@.warn; exit $$rc

$(BUILD)/compile_commands.json: scripts/compile-commands.sh $(BUILD)/.flags $(BUILD)/.list-all
	$(call say,GEN)
	$(Q)printf '%s\n' $(ALL_SRCS) | bash scripts/compile-commands.sh $(BUILD)/obj $(COMPILE) > $@
$(eval $(call STAMP,$(BUILD)/.list-all,$(ALL_SRCS)))

# --- tests: each test_*.c, fuzz_*.c and each .c of net/, fault/, apps/ is a program of its own.
# The other .c files of selftests/unit are linked into every unit test.

UNIT_COMMON  := $(filter-out $(BUILD)/obj/selftests/unit/test_%,$(call objs,selftests/unit))
UNIT_TESTS   := $(patsubst selftests/unit/%.c,$(BUILD)/tests/unit/%,$(sort $(wildcard selftests/unit/test_*.c)))
FUZZ_TESTS   := $(patsubst selftests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(sort $(wildcard selftests/fuzz/fuzz_*.c)))
TEST_HELPERS := $(patsubst selftests/%.c,$(BUILD)/tests/%,$(call srcs,selftests/net selftests/fault selftests/sim selftests/apps))
FUZZ_MAIN    := $(if $(FUZZ),,$(BUILD)/obj/selftests/fuzz/driver.o)

LINK_TEST = $(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS_A)
$(UNIT_TESTS): $(BUILD)/tests/%: $(BUILD)/obj/selftests/%.o $(UNIT_COMMON) $(LIB_test) $(LIB_ALL) $(BUILD)/.flags | $(DEPS_TEST)
	$(call say,LINK)
	$(LINK_TEST) -o $@ $< $(UNIT_COMMON) $(LIB_test) $(LIB_ALL) \
		$$($(PKG_CONFIG) --libs criterion) $(LIBS)
$(FUZZ_TESTS): $(BUILD)/tests/%: $(BUILD)/obj/selftests/%.o $(FUZZ_MAIN) $(LIB_ALL) $(BUILD)/.flags
	$(call say,LINK)
	$(LINK_TEST) $(if $(FUZZ),-fsanitize=fuzzer) -o $@ $< $(FUZZ_MAIN) $(LIB_ALL) $(LIBS)
$(TEST_HELPERS): $(BUILD)/tests/%: $(BUILD)/obj/selftests/%.o $(LIB_test) $(LIB_ALL) $(BUILD)/.flags
	$(call say,LINK)
	$(LINK_TEST) -o $@ $< $(LIB_test) $(LIB_ALL) $(LIBS)
# criterion's headers come with the test packages
$(call objs,selftests/unit): | $(DEPS_TEST)

tests-unit: $(UNIT_TESTS)
tests-fuzz: $(FUZZ_TESTS)
.PHONY: tests-unit tests-fuzz fuzz-run

fuzz-run: $(FUZZ_TESTS)
	$(Q)set -e; for t in $(FUZZ_TESTS); do \
		n=$${t##*/}; case "$$n" in *"$(T)"*) ;; *) continue ;; esac; \
		mkdir -p $(BUILD)/corpus/$$n $(BUILD)/found/$$n; \
		seeds=selftests/fuzz/corpus/$${n#fuzz_}; [ -d $$seeds ] || seeds=; \
		echo "== $$n, $(FUZZ_TIME) s"; \
		$$t -max_total_time=$(FUZZ_TIME) -print_final_stats=1 \
			-artifact_prefix=$(BUILD)/found/$$n/ $(BUILD)/corpus/$$n $$seeds; \
	done

RUNNER = CMAN_BUILD='$(BUILD)' MAKE='$(MAKE)' NEXT_VERSION='$(NEXT_VERSION)' bash scripts/run-tests.sh

# --- man pages: Documentation/man/NAME.SECTION.rst, or NAME.rst with a field ":Manual section: N"

MAN_SRCS := $(wildcard Documentation/man/*.rst)
mansec    = $(or $(filter 1 2 3 4 5 6 7 8 9,$(subst .,,$(suffix $(basename $(notdir $1))))), \
	$(shell sed -n 's/^:Manual section: *\([1-9]\).*/\1/p' $1),8)
manname   = $(strip $(foreach s,$(call mansec,$1),$(patsubst %.$s,%,$(basename $(notdir $1))).$(strip $s)))
define MANPAGE
MANPAGES += $(BUILD)/man/$(call manname,$1)
$(BUILD)/man/$(call manname,$1): $1 | $(DEPS_BUILD)
	$$(call say,MAN)
	$(Q)mkdir -p $$(@D) && rst2man $$< $$@
endef
MANPAGES :=
$(foreach m,$(MAN_SRCS),$(eval $(call MANPAGE,$m)))

# --- install: what exists is installed, and the same list is removed

INST_BIN   := $(PROGRAMS)
INST_UNITS := $(wildcard scripts/systemd/*.service)
INST_COMP  := $(wildcard scripts/completion/*.bash)
INST_HDRS  := $(wildcard usr/include/cman/*.h)
D           = $(DESTDIR)$(PREFIX)
compname    = $(basename $(notdir $1))

define install-all
	$(Q)set -e; \
	$(foreach f,$(INST_BIN),install -D -m 0755 $f '$D/bin/$(notdir $f)';) \
	$(foreach f,$(MANPAGES),install -D -m 0644 $f '$D/share/man/man$(subst .,,$(suffix $f))/$(notdir $f)';) \
	$(foreach f,$(INST_COMP),install -D -m 0644 $f '$D/share/bash-completion/completions/$(call compname,$f)';) \
	$(foreach f,$(INST_UNITS),install -d '$D/lib/systemd/system'; \
		sed 's|/usr/local/bin|$(PREFIX)/bin|g; s|@PREFIX@|$(PREFIX)|g' $f > '$D/lib/systemd/system/$(notdir $f)'; \
		chmod 0644 '$D/lib/systemd/system/$(notdir $f)';) \
	$(foreach f,$(INST_HDRS),install -D -m 0644 $f '$D/include/cman/$(notdir $f)';) \
	install -D -m 0644 $(LIBCMAN) '$D/lib/$(notdir $(LIBCMAN))'; \
	echo "installed under $D"
endef

define uninstall-all
	$(Q)rm -f $(foreach f,$(INST_BIN),'$D/bin/$(notdir $f)') \
	$(foreach f,$(MANPAGES),'$D/share/man/man$(subst .,,$(suffix $f))/$(notdir $f)') \
	$(foreach f,$(INST_COMP),'$D/share/bash-completion/completions/$(call compname,$f)') \
	$(foreach f,$(INST_UNITS),'$D/lib/systemd/system/$(notdir $f)') \
	$(foreach f,$(INST_HDRS),'$D/include/cman/$(notdir $f)') '$D/lib/$(notdir $(LIBCMAN))'
	$(Q)rmdir '$D/include/cman' 2>/dev/null || :
endef

-include $(ALL_OBJS:.o=.d) $(BPF_OBJS:.o=.d) $(patsubst %.c,$(BUILD)/obj/%.d,$(BPF_OWN))
