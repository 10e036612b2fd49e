# Owns: the proof at the end: each total beside the one it must equal. Sourced by demo.
# shellcheck shell=bash

disagreements=0
backlog_seconds=0

# agree TEXT VALUE TEXT VALUE: a line, and a disagreement if they are not the same
agree() {
    local verdict=agree
    if [ "$2" != "$4" ] || [ -z "$2" ]; then
        verdict=DISAGREE
        disagreements=$((disagreements + 1))
    fi
    printf '  %-36s%12s   %-36s%12s  %s\n' "$1" "$(grouped "$2")" "$3" "$(grouped "$4")" "$verdict"
}

# value QUERY: one number
value() { sql -c "$1"; }

# equal_groups ROLLUP: those of which every column is what the rollup's query says now, none being missing or extra
equal_groups() {
    value "SELECT (SELECT count(*) FROM $1) - (SELECT count(*) FROM clickstream.check_rollup('$1'))"
}

# kafka_holds: by the broker's own first and next offsets
kafka_holds() { deploy/local/topic --broker "$KAFKA" offsets clicks | awk '{ held += $3 - $2 } END { print held }'; }

totals() {
    local messages rows dead_letters skipped in_table in_rollup
    IFS=$'\t' read -r messages rows dead_letters skipped \
        < <(sql -c "SELECT messages, rows, dead_letters, skipped FROM clickstream.stat_sources WHERE source = 'clicks'")
    in_table=$(value 'SELECT count(*) FROM clicks')
    in_rollup=$(value 'SELECT count(*) FROM page_views_1m')

    printf '\nTotals\n'
    agree 'acknowledged by Kafka' "${simulated[sent]}" 'held by Kafka' "$(kafka_holds)"
    agree 'acknowledged by Kafka' "${simulated[sent]}" 'messages read' "$messages"
    agree 'messages read' "$messages" 'rows + dead letters + skipped' $((rows + dead_letters + skipped))
    agree 'rows written' "$rows" 'rows in clicks' "$in_table"
    agree 'malformed messages sent' "${simulated[malformed]}" 'dead letters' "$dead_letters"
    agree 'dead letters' "$dead_letters" 'rows in clickstream.dead_letters' \
        "$(value 'SELECT count(*) FROM clickstream.dead_letters')"
    agree 'empty messages sent' "${simulated[tombstones]}" 'skipped' "$skipped"
    agree 'clicks where event = click' "$(value "SELECT count(*) FROM clicks WHERE event = 'click'")" \
        'sum(views) of page_views_1m' "$(value 'SELECT sum(views) FROM page_views_1m')"
    agree 'rows in clicks' "$in_table" 'sum(views) of events_1m' "$(value 'SELECT sum(views) FROM events_1m')"
    agree 'groups of page_views_1m' "$in_rollup" 'equal to its query run now' "$(equal_groups page_views_1m)"
    agree 'groups of events_1m' "$(value 'SELECT count(*) FROM events_1m')" 'equal to its query run now' \
        "$(equal_groups events_1m)"
    agree 'rows in clicks' "$in_table" 'documents in index clicks' "$(documents clicks)"
    agree 'rows in page_views_1m' "$in_rollup" 'documents in index page-views' "$(documents page-views)"
    printf '\n  %s events drained in %.1f s, from the first one sent to the last one committed: %s events/s\n' \
        "$(grouped "$events")" "$backlog_seconds" \
        "$(grouped "$(awk -v n="$events" -v s="$backlog_seconds" 'BEGIN { printf "%d", n / s }')")"
}
