#!/bin/bash
# Owns: the events of the notebook: six weeks of a shop, up to now. The simulator's shop has some events each second, and of its
# visitors one in ten is kept, with all that he does: so days, sessions and returns are as they are in the whole.
#   events.sh BROKER TOPIC [WEEKS [PATTERN of the last digits of those who are kept]]
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seconds=$((${3:-6} * 7 * 86400))
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)

# The last of these ends at the first event that is still to come, and with it the others.
{ "$top/simulator/clickstream_simulator" --print --quiet --seed 12 --users 200000 --event-rate 1 --rhythm on --count $((2 * seconds)) \
    --start "$(date -u -d "-$seconds seconds" +%Y-%m-%dT%H:%M:%SZ)" 2>/dev/null || true; } |
    { grep -E "\"user_id\":\"[^\"]*${4:-0}\"" || true; } |
    awk -v now="$now" '{ at = $0; sub(/.*"timestamp":"/, "", at); sub(/".*/, "", at); if (at > now) exit; print }' |
    "$top/deploy/local/topic" --broker "$1" produce "$2"
