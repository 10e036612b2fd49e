# Owns: where the local servers keep their data, who runs them, and how one is started, found again and
# stopped. Sourced by every script of this folder; does nothing by itself but leave root behind.
#
#   $local_dir/SERVER/INSTANCE/   port, pid, log, and the server's own files
#
# A server is only ever reached through its pid file, which names a process by pid and start time: one
# that these scripts did not start is never touched.
# shellcheck shell=bash
set -euo pipefail
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)

# Servers refuse root, and so do we.
if [ "$(id -u)" = 0 ]; then
    exec "$here/unprivileged" "deploy/local/$(basename "$0")" "$@"
fi

local_dir=${CLICKSTREAM_LOCAL:-$top/.local}
# Java's first compiler alone: a server is up for half the CPU, and slower from its first minute on. For tests, which
# start many servers and ask little of each.
jvm_in_a_hurry=${CLICKSTREAM_HURRY:+-XX:TieredStopAtLevel=1}
instance=main
home=                   # $local_dir/SERVER/INSTANCE, set by the script
mkdir -p "$local_dir/bin"

say() { echo "$(basename "$0"): $*" >&2; }
fail() { say "$@"; exit 1; }

# The small programs beside the scripts, built when they are first called: tool NAME [compiler's argument].
tool() {
    local name=$1 more=${2:-}
    local built=$local_dir/bin/$name
    if [ ! "$built" -nt "$here/$name.c" ]; then
        # shellcheck disable=SC2086
        ${CC:-cc} -std=gnu11 -O1 -Wall -Wextra -o "$built.$$" "$here/$name.c" $more
        mv "$built.$$" "$built"
    fi
    echo "$built"
}

servers_dir() {
    local dir
    dir=$("$top/deploy/deps/install.sh" --where)
    [ -e "$dir/complete" ] || fail "the servers are not installed: run  make deps"
    echo "$dir"
}

# A free port on loopback below the range that outgoing connections take theirs from. It is kept, so that
# an instance comes back under its own address.
pick_port() {
    local name=$1 port
    local file=$home/$name
    if [ ! -s "$file" ]; then
        mkdir -p "$home"
        for _ in {1..200}; do
            port=$((12000 + (RANDOM * 32768 + RANDOM) % 20000))
            listening "$port" || break
        done
        echo "$port" >"$file"
    fi
    cat "$file"
}

# 0100007F is 127.0.0.1; any listener counts, on whatever address.
listening() {
    local hex
    hex=$(printf ':%04X ' "$1")
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { print $2 " " }' | grep -q -- "$hex"
}

# The supervisor's pid, if it is the very process that wrote the pid file.
running() {
    local pid start stat
    [ -r "$home/pid" ] || return 1
    read -r pid start <"$home/pid" || return 1
    stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [ "${20}" = "$start" ] && [ "$1" != Z ] || return 1
    echo "$pid"
}

# Two starts of one instance at the same time: the second finds the first one's server.
one_at_a_time() {
    mkdir -p "$home"
    exec 8<"$home"
    flock 8
}

# launch STOP_SIGNAL COMMAND...: under a supervisor that ends with CLICKSTREAM_OWNER, a pid, if that is set.
launch() {
    local signal=$1
    shift
    : >"$home/log"
    # shellcheck disable=SC2086
    "$(tool supervise)" -d ${CLICKSTREAM_OWNER:+-o $CLICKSTREAM_OWNER} \
        -p "$home/pid" -l "$home/log" -s "$signal" -g 30 -- "$@"
}

# what a server that runs, but is not ready, says of itself; one that can be asked has its own
tell_why() { :; }

# wait_ready SECONDS COMMAND...: until the command succeeds; shows the log if the server ends before that.
wait_ready() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if ! running >/dev/null; then
            tail -n 20 "$home/log" >&2
            fail "the server ended before it was ready; its log is $home/log"
        fi
        if [ $SECONDS -ge $until ]; then
            tail -n 20 "$home/log" >&2
            tell_why 2>&1 | head -n 20 >&2 || true
            stop_server
            fail "the server was not ready in time; its log is $home/log"
        fi
        sleep 0.1
    done
}

# end_server SIGNAL: to the supervisor, and waits until it is gone and everything below it.
end_server() {
    local pid
    pid=$(running) || return 0
    kill -s "$1" "$pid" 2>/dev/null || true
    while running >/dev/null; do
        sleep 0.05
    done
}
stop_server() { end_server TERM; }
kill_server() { end_server USR1; }

# What every server understands; `start`, `address` and what is its own come from the script.
usage() {
    fail "usage: $(basename "$0") start|stop|kill|restart|status|address|port|log${1:+|$1} [--instance NAME] ..."
}

# common_command SERVER VERB: true if it was one of the verbs that all servers share.
common_command() {
    local pid
    case $2 in
    stop) stop_server ;;
    kill) kill_server ;;
    restart)
        stop_server
        start
        ;;
    status)
        if pid=$(running); then
            echo "$1 $instance: running, $(address), supervisor $pid"
        else
            echo "$1 $instance: stopped"
            exit 3
        fi
        ;;
    address) address ;;
    port) pick_port port ;;
    log) cat "$home/log" ;;
    remove)
        stop_server
        rm -rf "$home"
        ;;
    *) return 1 ;;
    esac
}
