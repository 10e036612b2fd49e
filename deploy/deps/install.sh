#!/bin/bash
# Owns: everything clickstream needs beside its own source: Debian's packages (debian-packages.txt) and the
# Kafka and Elasticsearch servers (pom.xml, SHA256SUMS), kept in a cache outside the tree.
# Installs only what is missing; with nothing missing it changes nothing and takes a moment.
# Must never: start a server, or touch a PostgreSQL cluster. Called by `make deps`.
#   install.sh            install what is missing
#   install.sh --where    print the folder that holds kafka/ and elasticsearch/, installed or not
set -euo pipefail
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Root's own cache cannot be read by the user that runs the servers, so root uses the system's.
if [ -n "${CLICKSTREAM_CACHE:-}" ]; then
    cache=$CLICKSTREAM_CACHE
elif [ "$(id -u)" = 0 ]; then
    cache=/var/cache/clickstream
else
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/clickstream
fi
pins=$(sha256sum <"$here/SHA256SUMS")
servers=$cache/servers-${pins:0:12}

if [ "${1:-}" = --where ]; then
    echo "$servers"
    exit
fi

say() { echo "deps: $*" >&2; }
fail() { say "$@"; exit 1; }

missing_packages() {
    local line name found
    declare -A installed
    while read -r name; do
        installed[$name]=1
    done < <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
    while read -r line; do
        found=
        for name in ${line//|/ }; do
            [ -z "${installed[$name]:-}" ] || found=1
        done
        [ -n "$found" ] || echo "${line%% *}"
    done < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$here/debian-packages.txt")
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -- "$@"
    fi
}

# Debian makes and starts a cluster when a server is installed; nobody asked for one. A machine that
# already has postgresql-common keeps its administrator's choice.
no_default_cluster() {
    local dir=/etc/postgresql-common
    [ ! -e "$dir" ] || return 0
    as_root mkdir -p "$dir"
    echo 'create_main_cluster = false' | as_root tee "$dir/createcluster.conf" >/dev/null
}

install_packages() {
    local missing
    command -v dpkg-query >/dev/null || fail "this is not Debian: install by hand what $here/debian-packages.txt lists"
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        say "missing packages: ${missing[*]}"
        fail "neither root nor sudo here: have an administrator run  apt-get install ${missing[*]}"
    fi
    say "installing from Debian: ${missing[*]}"
    no_default_cluster
    as_root apt-get update -qq || fail "apt-get update failed; missing packages: ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "${missing[@]}" >&2 ||
        fail "could not install: ${missing[*]}"
}

# Fetched into a folder beside the final one, verified, unpacked and renamed: an interrupted run leaves
# nothing that looks whole.
install_servers() {
    local new zip
    [ ! -e "$servers/complete" ] || return 0
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    [ ! -e "$servers/complete" ] || return 0
    say "fetching Kafka and Elasticsearch through Maven into $cache"
    new=$servers.new
    rm -rf "$servers" "$new"
    mkdir -p "$new/kafka"
    mvn -B -q -f "$here/pom.xml" -Dmaven.repo.local="$cache/maven" -Dfetch.to="$new/kafka" >&2 ||
        fail "Maven could not fetch the servers (the lines above say why); run it again to try once more"
    (cd "$new/kafka" && sha256sum --quiet --strict -c "$here/SHA256SUMS" >&2) ||
        fail "a fetched file is not the one pinned in $here/SHA256SUMS: nothing was installed"
    (cd "$new/kafka" && ls) | LC_ALL=C sort | diff - <(sed 's/.*  //' "$here/SHA256SUMS" | LC_ALL=C sort) >&2 ||
        fail "a file was fetched that $here/SHA256SUMS does not list: nothing was installed"
    for zip in "$new/kafka/elasticsearch-"*.zip; do
        unzip -q "$zip" -d "$new"
        rm "$zip"
    done
    ln -s "$(cd "$new" && ls -d elasticsearch-8.*)" "$new/elasticsearch"
    touch "$new/complete"
    chmod -R a+rX "$new"
    mv "$new" "$servers"
    rm -rf "$cache/maven"
    say "installed $servers"
}

install_packages
install_servers
