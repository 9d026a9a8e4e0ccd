#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The command line of cmanctl, without any instance: broken command lines and what is said about them,
# help of every command, the configuration errors that need no daemon, --json on failure; and that the
# texts made from the option tables (completion, the manual's SYNOPSIS) are those in the tree.
# timeout: 60
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=selftests/lib/tap.sh

unset COLUMNS
CTL=$CMAN_BIN/cmanctl
MAN=$CMAN_ROOT/Documentation/man/cmanctl.8.rst
COMPLETION=$CMAN_ROOT/scripts/completion/cmanctl.bash
[ -x "$CTL" ] || bail "$CTL is not built"

cat > "$T/good.conf" <<END
instance cman1 {
    run_dir = "$T"
    listener front { address = "127.0.0.1:5432"  service = "pg" }
    service pg { targets = { "10.0.0.5:5432" } }
}
END
cat > "$T/two.conf" <<END
instance one { run_dir = "$T"
    listener front { address = "127.0.0.1:5432"  service = "pg" }
    service pg { targets = { "10.0.0.5:5432" } } }
instance two { run_dir = "$T"
    listener front { address = "127.0.0.1:5433"  service = "pg" }
    service pg { targets = { "10.0.0.5:5432" } } }
END
printf 'instance cman1 {\n    run_dir = "%s"\n    colour = "red"\n}\n' "$T" > "$T/broken.conf"
cd "$T" || bail "no $T"

# --- wrong command lines: exit code, what stderr must match, arguments

while IFS='|' read -r code want args; do
	[ -n "$code" ] || continue
	eval "set -- $args"
	rc=0
	out=$("$CTL" "$@" 2> err < /dev/null) || rc=$?
	err=$(cat err)
	if [ "$rc" = "$code" ] && [[ $err =~ $want ]] && [ -z "$out" ]; then
		ok "cmanctl $args"
	else
		not_ok "cmanctl $args" "exit code $rc, wanted $code; stderr wanted: $want" "$err" \
			"${out:+stdout: $out}"
	fi
done <<'END'
2|^Usage|
2|unknown command "stauts": did you mean status\?; expected: startup, migrate,|stauts
2|unknown command "start": did you mean startup\?|start
2|unknown command "frobnicate"; expected: .*version|frobnicate
2|unknown command ""|""
2|no command is given|-f good.conf
2|no command is given|-q
2|startup: unknown option --migarte: did you mean --migrate\?; expected: --home|startup --migarte
2|startup: unknown option --frob; expected: .*-f -c -j|--frob startup
2|status: unknown option -x|status -x
2|status: unknown option --drain; expected: -f|--drain 3 status
2|migrate: unknown option --from;|migrate --from siteb
2|unknown option --nothing; expected: --file --alias|--nothing
2|-f needs a value: -f FILE|status -f
2|-c needs a value: -c ALIAS|-c
2|--home needs a value: --home DIR .*"--migrate" is an option|startup --home --migrate
2|--via needs a value|migrate --via
2|--home DIR: the value is empty|startup --home ''
2|-c ALIAS: the value is empty|status -c ''
2|--home DIR: the value is empty|startup --home=
2|--json takes no value|status --json=yes
2|--migrate takes no value|startup --migrate=now
2|unknown via "fast"; expected: auto, fd, repair|migrate --via fast
2|unknown via "rep".*did you mean repair|migrate --via rep
2|--timeout soon: not a number; expected 1 to 86400|migrate --timeout soon
2|--timeout 10s: not a number|migrate --timeout 10s
2|--timeout 0: out of range; expected 1 to 86400|migrate --timeout 0
2|--timeout -5: not a number|migrate --timeout -5
2|--timeout 99999999999999999999: out of range|migrate --timeout 99999999999999999999
2|--drain 86401: out of range; expected 0 to 86400|shutdown --drain 86401
2|-n x: not a number|top -n x
2|-n 0: out of range|top -n0
2|--home is given twice: "a" and "b"|startup --home a --home b
2|-c is given twice|-c a status -c b
2|startup: too many arguments at "now"; it takes none|startup now
2|set: too many arguments at "c"; it takes PARAMETER VALUE|set a b c
2|suspend: too many arguments at "b"|suspend a b
2|show: too many arguments|show sessions services
2|migrate: too many arguments at "group"|migrate group G
2|set needs PARAMETER VALUE|set handover_timeout
2|show needs WHAT: one of sessions, services|show
2|close needs SESSION|close
2|completion needs SHELL: one of bash|completion
2|unknown WHAT "session": did you mean sessions\?|show session
2|unknown WHAT "all"; expected: sessions, services, rules|show all
2|unknown SHELL "zsh"; expected: bash|completion zsh
2|unknown state "relayign".*did you mean relaying|show sessions --state relayign
2|--source 10.0.0.0/33:|show sessions --source 10.0.0.0/33
2|--source 10.0.0.1/8:|show sessions --source 10.0.0.1/8
2|--source here:|close --source here
2|--service filters sessions|show rules --service pg
2|--timeout goes only with --migrate|startup --timeout 5
2|--no-wait goes only with --migrate|startup --no-wait
2|--rollback goes only with --cancel|migrate --rollback
2|--check and --cancel exclude each other|migrate --check --cancel
2|--check and --home exclude each other|migrate --check --home /opt
2|--via and --cancel exclude each other|--via fd migrate --cancel
2|--timeout and --check exclude each other|migrate --check --timeout 5
2|--timeout and --cancel exclude each other|migrate --cancel --timeout 5
2|--to needs a value: --to PEER|migrate --to
2|--via fd: sessions move to another host by repair|migrate --to siteb --via fd
2|--service goes only with --to|migrate --service pg
2|--service goes only with --to|migrate --via repair --service pg
2|--to and --home exclude each other|migrate --to siteb --home /opt
2|--to and --no-wait exclude each other|migrate --to siteb --no-wait
2|--check and --to exclude each other|migrate --check --to siteb
2|--cancel and --to exclude each other|migrate --cancel --to siteb
2|--rollback goes only with --cancel|migrate --to siteb --rollback
1|there is no old instance cman1_old|-f good.conf -c cman1_old migrate --to siteb
2|--rollback goes only with --cancel|migrate --check --rollback
2|--service and --source exclude each other|close --service pg --source 10.0.0.0/8
2|close takes either SESSION... or --service, not both|close 12 --service pg
2|--once and --count exclude each other|top --once -n 3
2|"xyz" is not a session id|-f good.conf close xyz
2|"12345678901234567" is not a session id|-f good.conf close 12345678901234567
2|the live screen needs a terminal|-f good.conf top
2|no command "statsu"; did you mean status\?|help statsu
2|none.conf: .*|-f none.conf status
2|none.conf: .*|-f none.conf check
2|^broken.conf:3: .*colour|-f broken.conf check
2|^broken.conf:3: .*colour|-f broken.conf startup
2|^broken.conf:3: .*colour|-f broken.conf status
2|two.conf defines 2 instances \(one, two\): choose one with -c|-f two.conf status
2|two.conf defines no instance "three"; it has: one, two|-f two.conf -c three status
2|two.conf: no instance "three"|-f two.conf -c three check
2|cman1_old is the old instance of a migration: it cannot be started; say -c cman1|-f good.conf -c cman1_old startup
2|cman1_old is the old instance|-f good.conf -c cman1_old migrate
2|--home /none: there is no program /none/bin/cmand|-f good.conf startup --home /none
2|--home /none: there is no program /none/bin/cmand|-f good.conf migrate --home /none
2|--home /none: there is no program /none/bin/cmand|-f good.conf rescue --home /none
1|instance cman1 is not running .*: there is nothing to migrate|-f good.conf migrate --via repair
1|instance cman1 is not running .*: there is nothing to migrate|-f good.conf startup --migrate --via=repair
1|instance cman1 is not running|-f good.conf migrate --to siteb --service pg --timeout 5
1|instance cman1 is not running|-f good.conf migrate --check --via repair
1|instance cman1 is not running \(no answer on .*/cman1.sock\): start it with cmanctl startup|-f good.conf status
1|instance cman1 is not running|status -qfgood.conf -c cman1
1|instance two is not running|-c two -f two.conf show sessions
1|instance cman1 is not running|-f good.conf shutdown
1|instance cman1 is not running|-f good.conf close -- 12ab
1|instance cman1 is not running|-f good.conf set idle -5
1|instance cman1 is not running|-f good.conf top --once
1|there is no old instance cman1_old|-f good.conf -c cman1_old status
END

# --- errors in JSON

is "$("$CTL" -j -f good.conf status 2> /dev/null | jq -r '.code, (.error | type)' | paste -sd' ')" \
	"1 string" "--json: a failure is one document with error and code"
is "$("$CTL" startup --frob --json 2> /dev/null | jq -r .code)" 2 \
	"--json: wrong use too, wherever --json stands"
is "$("$CTL" -j -f broken.conf check 2> /dev/null | jq -c '[.ok, (.errors | length), .errors[0].line]')" \
	"[false,1,3]" "check --json: the error and its line"
text=$("$CTL" -j -f broken.conf check 2> /dev/null | jq -r '.errors[0].text')
isnt "${text#broken.conf}" "" "check --json: the error has a text"
is "${text#broken.conf}" "$text" "check --json: the text does not repeat FILE:LINE"
is "$("$CTL" -j -f good.conf check | jq -c .)" '{"ok":true,"errors":[]}' "check --json: all right"
like "$("$CTL" check -f good.conf)" \
	'^good.conf: OK \(1 instance, 1 listener, 1 service\)$' "check: all right"
like "$("$CTL" check -f two.conf)" '2 instances, 2 listeners' "check: two instances"
is "$("$CTL" -q -f good.conf check)" "" "check -q says nothing"

# --- a file with an error still leads to the socket of a running instance

nc -N -lU "$T/cman1.sock" <<< "HTTP/1.0 400 Bad request" > /dev/null 2>&1 &
track $!
if wait_for 5 test -S "$T/cman1.sock"; then
	err=$("$CTL" -f broken.conf status 2>&1 > /dev/null) || :
	like "$err" "broken.conf:3: .*going on with $T/cman1.sock" \
		"a broken file: the instance is found, with a warning"
	like "$err" "instance cman1 and this cmanctl .* do not understand each other" "and the answer of the instance counts"
else
	not_ok "nc listens"
fi
rm -f "$T/cman1.sock"

# --- help

for verb in $("$CTL" help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
	like "$("$CTL" help "$verb")" "^Usage"$'\n'"  cmanctl $verb" "help $verb"
	is "$("$CTL" "$verb" --help)" "$("$CTL" help "$verb")" "$verb --help is the same"
done
is "$("$CTL" --help)" "$("$CTL" help)" "--help is help"
like "$("$CTL" startup --frob -h)" "^Usage" "-h wins over a mistake"
is "$("$CTL" help | awk 'length > 80')" "" "help fits into 80 columns"
like "$("$CTL" --version)" '^cmanctl [0-9]+\.' "--version"
is "$("$CTL" version)" "$("$CTL" -V)" "version is the same"
like "$("$CTL" version --json | jq -c .)" '^\{"version":"[0-9.]+","wire":\[1,' "version --json"
exits 1 "a full disk is an error" bash -c '"$1" help > /dev/full' - "$CTL"

# --- what is made from the tables

is "$(cat "$COMPLETION")" "$("$CTL" completion bash)" \
	"scripts/completion/cmanctl.bash is what 'cmanctl completion bash' prints"
is "$(sed -n '/^\.\. synopsis: begin/,/^\.\. synopsis: end/p' "$MAN" | grep '^|')" \
	"$("$CTL" help --synopsis)" "the manual's SYNOPSIS is what 'cmanctl help --synopsis' prints"
missing=
for option in $("$CTL" help --synopsis | grep -o -- '--[a-z-]*' | sort -u); do
	grep -q -- "^ *\*\*.*$option\*\*" "$MAN" || missing+=" $option"
done
is "$missing" "" "the manual describes every option"

# complete WORD…: what the completion offers for the last word
complete_words() {
	(
		# shellcheck source=/dev/null
		. "$COMPLETION"
		COMP_WORDS=(cmanctl "$@")
		COMP_CWORD=$#
		_cmanctl
		echo "${COMPREPLY[*]}"
	)
}
is "$(complete_words sta)" "startup status" "completion of a command"
is "$(complete_words startup --mi)" "--migrate" "completion of an option"
is "$(complete_words -c cman1 -j show se)" "sessions services" "completion behind options with values"
is "$(complete_words migrate --via '')" "auto fd repair" "completion of an option's words"
is "$(complete_words --to siteb migrate --se)" "--service" "completion behind the name of a peer"
is "$(complete_words -f go)" "good.conf" "completion of a file"
is "$(complete_words help res)" "rescue resume" "completion of a command's name"
