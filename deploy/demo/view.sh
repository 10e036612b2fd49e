# Owns: what the reader sees while events flow: on a terminal a screen that is redrawn in place once a second, elsewhere a plain
# line every five seconds. Sourced by demo.
# shellcheck shell=bash

view_is_open=
view_is_terminal=
phase_text=
phase_began=0
declare -A before=() # the figures of the last frame, for the rates
before_time=0
last_line=-5

view_open() {
    view_is_open=1
    if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
        view_is_terminal=1
        printf '\033[?1049h\033[?25l' # another screen, no cursor
    fi
}

view_close() {
    [ -n "$view_is_open" ] || return 0
    view_is_open=
    [ -z "$view_is_terminal" ] || printf '\033[?25h\033[?1049l'
}

# view_phase TEXT
view_phase() {
    phase_text=$1
    phase_began=$SECONDS
    last_line=-5
    [ -n "$view_is_terminal" ] || echo "$phase_text"
}

view_draw() {
    if [ -n "$view_is_terminal" ]; then
        draw_frame
    elif [ $((SECONDS - last_line)) -ge 5 ]; then
        last_line=$SECONDS
        draw_line
    fi
}

draw_line() {
    printf '  %4d s  sent %s  rows %s  dead letters %s  skipped %s  lag %s  documents: clicks %s, page-views %s%s\n' \
        $((SECONDS - phase_began)) "$(shown sent)" "$(shown rows)" "$(shown dead_letters)" "$(shown skipped)" \
        "$(shown lag)" "$(shown clicks)" "$(shown page-views)" "${figure[source_error]:+  (${figure[source_error]})}"
}

shown() { grouped "${figure[$1]:-0}"; }

# rate_of NAME MICROSECONDS: how fast a figure grew since the last frame, in units a second
rate_of() {
    local grown=$((${figure[$1]:-0} - ${before[$1]:-0}))
    if [ "$2" -gt 0 ] && [ $grown -gt 0 ]; then
        echo "$(grouped $((grown * 1000000 / $2)))/s"
    fi
}

# A frame is written at once over the old one, each line cleared behind its text: nothing flickers.
draw_frame() {
    local now=${EPOCHREALTIME/./} height width frame name
    read -r height width < <(stty size 2>/dev/null </dev/tty || echo 0 0)
    [ "$height" -gt 0 ] && [ "$width" -gt 0 ] || read -r height width <<<'24 80' # a terminal that does not know
    frame=$(frame_lines $((now - before_time)) | cut -c "1-$width" |
        sed -e "$height,\$d" -e $'s/^= \\(.*\\)/\033[1m\\1\033[0m/' -e $'s/$/\033[K/')
    printf '\033[H%s\n\033[J' "$frame"
    before_time=$now
    for name in sent messages rows dead_letters skipped clicks page-views; do
        before[$name]=${figure[$name]:-0}
    done
}

# frame_lines MICROSECONDS: a line that begins with "= " is a heading
frame_lines() {
    local name label
    printf '= clickstream: Kafka -> PostgreSQL -> Elasticsearch\n'
    printf '%s, %d s\n\n' "$phase_text" $((SECONDS - phase_began))
    while read -r name label; do
        printf '  %-34s%14s  %14s\n' "$label" "$(shown "$name")" "$(rate_of "$name" "$1")"
    done <<'END'
sent events acknowledged by Kafka
messages messages read
rows rows in clicks
dead_letters dead letters
skipped skipped (empty messages)
clicks documents in index clicks
page-views documents in index page-views
END
    printf '\n  source clicks       %-12s %14s messages behind\n' "${figure[source_state]:-}" "$(shown lag)"
    for name in clicks_search views_search; do
        printf '  sink %-14s %-12s %14s kB of the write-ahead log behind\n' \
            "$name" "${figure[${name}_state]:-}" "$(kilobytes ${name}_lag)"
    done
    printf '  %s\n' "${figure[source_error]:-${figure[sink_error]:-}}"
    printf '= Top pages of the last five minutes        clicks  visitors\n'
    frame_pages
    [ -z "$page" ] || printf '\n  The same and more in a browser: %s' "$page"
    printf '\n  Ctrl-C ends the demo and its servers.\n'
}

kilobytes() { grouped $((${figure[$1]:-0} / 1024)); }

frame_pages() {
    local line page clicks visitors most=0 bar
    for line in "${top_pages[@]}"; do
        IFS=$'\t' read -r page clicks visitors <<<"$line"
        [ "$most" != 0 ] || most=$clicks
        printf -v bar '%*s' $((clicks * 20 / most)) ''
        printf '  %-34s%14s  %8s  %s\n' "$page" "$(grouped "$clicks")" "$(grouped "$visitors")" "${bar// /#}"
    done
}
