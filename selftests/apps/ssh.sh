#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# SSH, which notices any wrong byte by itself, behind an instance that is moved from release to release:
# scp of 200 MB each way, and a session that answers line by line.
# timeout: 120
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=selftests/lib/tap.sh
run_in_own_netns "$@"
. "$(dirname "$TAP_SELF")/lib.sh"
# shellcheck source=selftests/apps/lib.sh
# the runner builds $CMAN_NEXT_BIN for tests that name it
need_cmd sshd ssh scp ssh-keygen jq

MBYTES=200
KBIT=120000	# 15 MB/s: about 14 seconds

# --- a private server: host key, folder of privilege separation and root's (un)locked password

cd "$T" || bail "no $T"
mount -t tmpfs tmpfs /run && mkdir -p /run/sshd || bail "cannot mount a private /run"
# without PAM sshd refuses an account whose password begins with "!"
sed 's/^root:![^:]*/root:*/' /etc/shadow > shadow && chmod 600 shadow &&
	mount --bind shadow /etc/shadow || bail "cannot mount a private /etc/shadow"
ssh-keygen -q -t ed25519 -N '' -f host && ssh-keygen -q -t ed25519 -N '' -f user ||
	bail "ssh-keygen"
cp user.pub authorized
cat > sshd.conf <<END
ListenAddress 127.0.0.1:6001
HostKey $T/host
PidFile none
AuthorizedKeysFile $T/authorized
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
UsePAM no
PermitUserRC no
PrintMotd no
Subsystem sftp internal-sftp
END
"$(command -v sshd)" -D -e -f "$T/sshd.conf" > sshd.log 2>&1 &
track $!
wait_for 10 listens 6001 || bail "sshd: $(tail -n 3 sshd.log)"
printf '[127.0.0.1]:8001 %s\n' "$(cut -d' ' -f1,2 host.pub)" > known
opts=(-F none -i "$T/user" -o "UserKnownHostsFile=$T/known" -o GlobalKnownHostsFile=none
	-o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=10 -o LogLevel=ERROR)
app_start 01
is "$(ssh "${opts[@]}" -p 8001 root@127.0.0.1 'echo $((6 * 7))' 2>&1)" 42 "a command goes through" ||
	bail "$(tail -n 3 sshd.log)"

# --- what runs all the time

head -c ${MBYTES}M /dev/urandom > sent
sum=$(sum_of sent)
# shellcheck disable=SC2016	# $l is the remote shell's
coproc HELD { ssh "${opts[@]}" -p 8001 root@127.0.0.1 'while read -r l; do echo "$l"; done; echo end'; }
held=$HELD_PID
exec {to}>&"${HELD[1]}" {from}<&"${HELD[0]}"
ask() {
	local answer
	echo "$1" >&"$to"
	IFS= read -r -t 20 answer <&"$from" && printf '%s\n' "$answer"
}
is "$(ask hello)" hello "a session answers"
scp "${opts[@]}" -P 8001 -l $KBIT sent "root@127.0.0.1:$T/up" > up.log 2>&1 &
up=$!
scp "${opts[@]}" -P 8001 -l $KBIT "root@127.0.0.1:$T/sent" down > down.log 2>&1 &
down=$!
track $held $up $down
wait_for 10 test -s up && wait_for 10 test -s down || not_ok "scp begins" "$(cat up.log down.log)"

# --- migrate

good=0 busy=0
step() {
	[ "$(ask "line $during")" = "line $during" ] && good=$((good + 1))
	works $up && works $down && busy=$((busy + 1))
}
migrate_often $MIGRATIONS step
is "$good" $MIGRATIONS "the session answers after each of $MIGRATIONS migrations"
migrate_during $up $down
cmp_num $((busy + during)) '>=' $MIGRATIONS "$MIGRATIONS migrations or more while scp copies"

wait $up; is $? 0 "scp to the server ends well"
wait $down; is $? 0 "scp from the server ends well"
is "$(sum_of up)" "$sum" "$MBYTES MB to the server are equal"
is "$(sum_of down)" "$sum" "$MBYTES MB from the server are equal"
diag "$(cat up.log down.log)"
is "$(ask last)" last "the session still answers"
first=${HELD[1]}
exec {to}>&-
exec {first}>&-
wait_for 10 is_gone $held
IFS= read -r -t 5 answer <&"$from"
is "$answer" end "and ends when its input does"
is "$(grep -cE 'error|Bad packet|Corrupted MAC|Connection reset' sshd.log)" 0 "sshd has met no error"
app_verdict
