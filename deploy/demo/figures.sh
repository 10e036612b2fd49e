# Owns: the figures that the view and the totals show, read from where they are: the simulator's reports, the stat views and
# Elasticsearch. Sourced by demo.
# shellcheck shell=bash

declare -A figure=()    # the newest value of each, by name
moved_at=0              # when one of them last changed, by SECONDS
declare -a top_pages=() # page, clicks and visitors, tab-separated
declare -A simulated=([sent]=0 [malformed]=0 [tombstones]=0)

sql() { psql -XqAt -F $'\t' -v ON_ERROR_STOP=1 "$@"; }

# 1234567 as 1,234,567; the view asks dozens of times a second, so without a process of its own
grouped() {
    local number=$1 groups=
    while [ ${#number} -gt 3 ]; do
        groups=,${number: -3}$groups
        number=${number:0:-3}
    done
    echo "$number$groups"
}

# what earlier runs sent, and what the present one has reported so far
sent_so_far() {
    local running=0
    if [ -n "$simulator" ]; then
        running=$(tail -n 1 "$work/$run_name.progress" 2>/dev/null | sed -n 's/.*sent \([0-9]*\).*/\1/p')
    fi
    echo $((simulated[sent] + ${running:-0}))
}

# add_simulated FILE: the totals of a run that has ended
add_simulated() {
    local name
    for name in "${!simulated[@]}"; do
        simulated[$name]=$((simulated[$name] + $(jq ".$name" "$1")))
    done
}

figures_query="
SELECT f.* FROM clickstream.stat_sources s, LATERAL (VALUES
    ('source_state', state), ('messages', messages::text), ('rows', rows::text), ('dead_letters', dead_letters::text),
    ('skipped', skipped::text), ('lag', lag::text), ('source_error', translate(last_error, E'\t\n', '  '))) f;
SELECT f.* FROM clickstream.stat_sinks s, LATERAL (VALUES
    (sink || '_state', state), (sink || '_lag', lag_bytes::text)) f;
SELECT 'sink_error', translate(max(last_error), E'\t\n', '  ') FROM clickstream.stat_sinks;
SELECT 'page', page, sum(views), (# hll_union_agg(visitors))::bigint
FROM page_views_1m WHERE minute > now() - interval '5 minutes' GROUP BY page ORDER BY 3 DESC, 2 LIMIT 10;"

# PostgreSQL may be away for a moment (somebody kills it to see what happens): then the last figures stay.
read_figures() {
    local name value rest pages=() before_reading=${figure[*]}
    while IFS=$'\t' read -r name value rest; do
        if [ "$name" = page ]; then
            pages+=("$value"$'\t'"$rest")
        else
            figure[$name]=$value
        fi
    done < <(sql -c "$figures_query" 2>>"$log")
    [ ${#pages[@]} = 0 ] || top_pages=("${pages[@]}")
    figure[sent]=$(sent_so_far)
    figure[clicks]=$(documents 'clicks*')
    figure[page-views]=$(documents 'page-views*')
    [ "${figure[*]}" = "$before_reading" ] || moved_at=$SECONDS
}

# documents INDEX: 0 as long as there is no such index. The alias "clicks" appears when the index behind it has its
# first copy of the table; "clicks*" counts while that goes on.
documents() { curl -s --max-time 5 "$ES_URL/$1/_count" 2>/dev/null | jq -r '.count // 0' 2>/dev/null || echo 0; }
