# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Steps with a line each, for people: sourced by tools/run and tools/test. What the commands say goes to $log, and
# is shown only when one fails.

log=/dev/null
step_number=0
step_total=0
[[ -t 1 ]] && terminal=yes || terminal=

# Whole seconds since a value of EPOCHREALTIME, as "1.2 s", "42 s" or "3 min 05 s".
elapsed_since() {
        local tenths=$(((${EPOCHREALTIME/./} - ${1/./}) / 100000))
        if ((tenths < 100)); then
                printf '%d.%d s' $((tenths / 10)) $((tenths % 10))
        elif ((tenths < 1200)); then
                printf '%d s' $((tenths / 10))
        else
                printf '%d min %02d s' $((tenths / 600)) $((tenths / 10 % 60))
        fi
}

# On a terminal: how long it has been, and how far ninja or apt-get has come. Ends when killed.
progress_ticker() {
        local title=$1 began=$2 offset=$3 far
        while sleep 1; do
                far=$(tail -c +$((offset + 1)) "$log" | tail -c 2000 | grep -aoE '^(\[[0-9]+/[0-9]+\]|[a-z]+ [0-9]+ %)' | tail -1)
                printf '\r\e[K%s … %s %s' "$title" "$(elapsed_since "$began")" "$far"
        done
}

# step TITLE COMMAND [ARGUMENT...]: runs it and says how long it took; answers with its exit status.
# A command may leave one line about its result in $step_note.
step() {
        local title began=$EPOCHREALTIME status=0 ticker= offset
        step_number=$((step_number + 1))
        title=$(printf '[%d/%d] %s' "$step_number" "$step_total" "$1")
        shift
        step_note=
        printf '%s … ' "$title"
        printf '\n===== %s: %s\n' "$title" "$*" >>"$log"
        offset=$(stat -c %s "$log")
        if [[ $terminal ]]; then
                progress_ticker "$title" "$began" "$offset" &
                ticker=$!
        fi
        "$@" >>"$log" 2>&1 </dev/null || status=$?
        if [[ $ticker ]]; then
                kill "$ticker"
                wait "$ticker" 2>/dev/null || true
                printf '\r\e[K%s … ' "$title"
        fi
        if ((status == 0)); then
                printf '%s%s\n' "${step_note:+$step_note, }" "$(elapsed_since "$began")"
        else
                printf 'FAILED%s after %s\n' "${step_note:+ ($step_note)}" "$(elapsed_since "$began")"
                tail -c +$((offset + 1)) "$log" | tail -n "${step_tail:-40}" | sed 's/^/      /'
                printf '      The whole log: %s\n' "$log"
        fi
        return "$status"
}

need_root() {
        if ((EUID != 0)); then
                printf '%s: run this as root: it installs packages and boots a host in namespaces\n' "$1" >&2
                exit 1
        fi
}

# Who called sudo shall own what was built.
give_build_back() {
        if [[ -n ${SUDO_UID:-} && -d build ]]; then
                chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" build tests/integration/node_modules 2>/dev/null || true
        fi
}
