# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Completion for cmanctl. Made by `cmanctl completion bash`: do not edit.

_cmanctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local verb='' words='' i
	local common='--file --alias --json --quiet --yes --help --version'

	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-f | --file | -c | --alias | --home | --via | --timeout | --to | --service | --drain | --source | --state | -n | --count | -d | --delay) ((i++)) ;;
		-*) ;;
		*) verb=${COMP_WORDS[i]}; break ;;
		esac
	done
	case $prev in
	-f | --file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
	-c | --alias) return ;;
	--home) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
	--via) words='auto fd repair' ;;
	--timeout) return ;;
	--to) return ;;
	--service) return ;;
	--drain) return ;;
	--source) return ;;
	--state) words='accepted connecting handshake relaying leaving prepared closing' ;;
	-n | --count) return ;;
	-d | --delay) return ;;
	esac
	[ -n "$words" ] || case $verb in
	'') words='startup migrate rescue shutdown status show set reload check suspend resume close top image journal help completion version'" $common" ;;
	startup) words='--home --migrate --via --timeout --no-wait '" $common" ;;
	migrate) words='--home --via --timeout --no-wait --check --cancel --rollback --to --service '" $common" ;;
	rescue) words='--home '" $common" ;;
	shutdown) words='--drain --abort '" $common" ;;
	status) words=''" $common" ;;
	show) words='sessions services rules gateways parameters events version --service --source --state '" $common" ;;
	set) words=''" $common" ;;
	reload) words=''" $common" ;;
	check) words=''" $common" ;;
	suspend) words=''" $common" ;;
	resume) words=''" $common" ;;
	close) words='--service --source '" $common" ;;
	top) words='--once --count --delay '" $common" ;;
	image) words='dump --bytes '" $common" ;;
	journal) words='dump '" $common" ;;
	help) words='startup migrate rescue shutdown status show set reload check suspend resume close top image journal help completion version --synopsis '" $common" ;;
	completion) words='bash '" $common" ;;
	version) words=''" $common" ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
# -o default: names of files where no word fits
complete -o default -F _cmanctl cmanctl
