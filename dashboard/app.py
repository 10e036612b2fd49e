"""The live page of the clickstream pipeline: rollups and states, once a second.

Owns the page's layout, its one callback and its web server, which listens on loopback and answers to no other name. Must
never ask PostgreSQL itself (data.py does, once for all readers) or fetch anything from elsewhere.

    python app.py [--port N]        PostgreSQL by libpq's variables: PGHOST, PGPORT, PGDATABASE, PGUSER, ...
"""

import argparse
import logging
import sys

import dash
import waitress
from dash import Input, Output, dcc, html
from flask import abort, request

import figures
from data import Watcher, lag_curve, rate

NAMES = {"127.0.0.1", "localhost"}

GOOD = {"running", "complete"}
BAD = {"stopped", "diverged", "incomplete"}

FUNNEL = (("view", "saw a page"), ("add_to_cart", "filled a cart"), ("purchase", "bought"))


# --- numbers as people read them ---


def grouped(number):
    return "–" if number is None else f"{number:,.0f}"


def per_second(value):
    if value is None:
        return "–"
    return f"{value:,.1f}/s" if 0 < value < 10 else f"{value:,.0f}/s"


def bytes_text(number):
    if number is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if abs(number) < 1000:
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def percent(part, whole):
    return f"{100 * part / whole:.2f} %" if whole else "–"


def clock(time):
    return f"{time:%H:%M:%S} UTC"


# --- parts of the page ---


def tile(name, title):
    return html.Div(
        [html.Div(title, className="tile-title"), html.Div("–", id=f"{name}", className="tile-value"), html.Div("", id=f"{name}-note", className="tile-note")],
        className="tile",
    )


def panel(title, note, body, size="quarter"):
    head = html.Header([html.H2(title), html.Span(note, className="note")])
    return html.Section([head, body], className=f"panel {size}")


def chart(name, tall=False):
    return dcc.Graph(
        id=name,
        config={"displayModeBar": False, "responsive": True},
        className="chart tall" if tall else "chart",
        figure=figures.go.Figure(layout={"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "xaxis": {"visible": False}, "yaxis": {"visible": False}}),
    )


def layout():
    return html.Main(
        [
            html.Header(
                [
                    html.Div([html.H1("clickstream"), html.Span("Kafka → PostgreSQL → Elasticsearch", className="note")]),
                    html.Div([html.Span(className="dot", id="dot"), html.Span("", id="clock")], className="clock"),
                ],
                className="top",
            ),
            html.Div(id="notices", role="status", **{"aria-live": "polite"}),
            html.Div(
                [
                    tile("rate", "Events now"),
                    tile("events-hour", "Events, last hour"),
                    tile("visitors-hour", "Visitors, last hour"),
                    tile("purchases-hour", "Purchases, last hour"),
                    tile("lag", "Lag"),
                    tile("dead-letters", "Dead letters"),
                ],
                className="tiles",
            ),
            html.Div(
                [
                    panel("Events by minute and kind", "the paler bar is the minute under way", html.Div([html.Div(id="legend"), chart("chart-events", tall=True)]), "large"),
                    panel("Top pages", "last five minutes", html.Div(id="pages"), "third"),
                    panel("Unique visitors", "by minute", chart("chart-visitors")),
                    panel("Purchases", "by minute", chart("chart-purchases")),
                    panel("Lag", "messages not yet rows", chart("chart-lag")),
                    panel("From view to purchase", "visitors, last hour", html.Div(id="funnel")),
                ],
                className="panels",
            ),
            panel("Sources, rollups, sinks", "", html.Div(id="states"), "whole"),
            html.Footer("Read from rollups and stat views alone, once a second, by a role that can do nothing else."),
            dcc.Interval(id="second", interval=1000),
        ]
    )


def bars(rows, total_of, columns):
    """A list with a bar behind each line: rows of (key, text, cells), as long as their first number says."""
    longest = max([total_of(row) for row in rows] + [1])
    head = html.Tr([html.Th("")] + [html.Th(column) for column in columns])
    lines = [
        html.Tr(
            [
                html.Td([html.Div(className="bar", style={"width": f"{100 * total_of(row) / longest:.1f}%"}), html.Span(row[0])], className="barred"),
                *[html.Td(grouped(value), className="number") for value in row[1:]],
            ]
        )
        for row in rows
    ]
    if not lines:
        return html.P("None yet.", className="empty")
    return html.Table([html.Thead(head), html.Tbody(lines)], className="bars")


def legend(rows):
    kinds = figures.in_order(row.event for row in rows)
    return [html.Span([html.I(style={"background": figures.colour(kind)}), figures.label(kind)]) for kind in kinds]


def pages_table(rows):
    return bars([(row.page, row.views, row.visitors) for row in rows], lambda row: row[1], ("clicks", "≈ visitors"))


def funnel_table(rows):
    kinds = {row.event: row for row in rows}
    lines = [(text, kinds[kind].visitors, kinds[kind].events) for kind, text in FUNNEL if kind in kinds]
    return bars(lines, lambda row: row[1], ("≈ visitors", "events"))


def pill(state):
    kind = "good" if state in GOOD else "bad" if state in BAD else "waiting"
    return html.Span(state, className=f"pill {kind}")


def number_cell(text, title):
    """A phone leaves out what there is nothing to say about."""
    return html.Td(text, className="number none" if text == "–" else "number", **{"data-label": title})


def error_text(row):
    if not getattr(row, "last_error", None):
        return ""
    at = getattr(row, "last_error_at", None)
    return f"{clock(at)}: {row.last_error}" if at else row.last_error


def state_lines(snapshot, history):
    """One line for each source, rollup and sink: kind, row, what it has done, how fast, how far behind, refused."""
    for row in snapshot.of("sources"):
        yield "source", row, f"{grouped(row.rows)} rows", rate(history, "sources", row.name, "rows"), f"{grouped(row.lag)} messages", grouped(row.dead_letters)
    for row in snapshot.of("rollups"):
        filled = f"{grouped(row.blocks_done)} of {grouped(row.blocks_total)} blocks" if row.blocks_total else f"over {row.target}"
        yield "rollup", row, filled, None, "–", "–"
    for row in snapshot.of("sinks"):
        yield "sink", row, f"{grouped(row.documents)} documents", rate(history, "sinks", row.name, "documents"), bytes_text(row.lag_bytes), grouped(row.failures)


def states_table(snapshot, history):
    lines = []
    for kind, row, done, speed, behind, refused in state_lines(snapshot, history):
        name = [html.Span(row.name, className="name"), html.Span(kind, className="kind")]
        because = [html.Div(row.detail, className="detail")] if row.detail else []
        cells = [
            html.Td(name, className="who"),
            html.Td([pill(row.state), *because], **{"data-label": "state"}),
            html.Td(done, className="number", **{"data-label": "done"}),
            number_cell(per_second(speed), "rate"),
            number_cell(behind, "behind"),
            number_cell(refused, "refused"),
            html.Td(error_text(row), className="error", **{"data-label": "last error"}),
        ]
        lines.append(html.Tr(cells, id={"type": "state", "name": f"{kind} {row.name}"}, **{"data-state": row.state, "data-name": row.name}))
    if not lines:
        return html.P("No source, rollup or sink is declared in this database.", className="empty")
    head = html.Tr([html.Th(title) for title in ("", "state", "done", "rate", "behind", "refused", "last error")])
    return html.Table([html.Thead(head), html.Tbody(lines)], className="states")


# --- notices: what a reader has to know before the numbers ---


def notice(kind, title, text):
    return html.Div([html.Strong(title), html.Span(text)], className=f"notice {kind}")


def notices(newest, good):
    if newest.answered:
        text = (
            f"{newest.error}. The role clickstream_dashboard and what it reads are made by sql/create_dashboard.sql, after the rest of sql/; "
            "a password, where one is asked for, comes from PGPASSWORD."
        )
        return [notice("bad", "PostgreSQL does not let the page read. ", text)]
    if newest.error:
        since = f"What is shown is from {clock(good.one('now').now)}. " if good else ""
        return [notice("bad", "PostgreSQL does not answer. ", f"{since}The page asks again every second. ({newest.error})")]
    found = []
    for kind in ("source", "rollup", "sink"):
        for row in newest.of(f"{kind}s"):
            if row.state in BAD or row.state in ("paused", "waiting"):
                title = f"{kind.capitalize()} {row.name} is {row.state}. "
                found.append(notice("bad" if row.state in BAD else "waiting", title, row.detail or row.last_error or ""))
    return found


# --- the page as a whole, once a second ---

OUTPUTS = (
    [Output("clock", "children"), Output("dot", "className"), Output("notices", "children")]
    + [Output(name, "children") for name in ("rate", "events-hour", "visitors-hour", "purchases-hour", "lag", "dead-letters")]
    + [Output(f"{name}-note", "children") for name in ("rate", "events-hour", "visitors-hour", "purchases-hour", "lag", "dead-letters")]
    + [Output(f"chart-{name}", "figure") for name in ("events", "visitors", "purchases", "lag")]
    + [Output(name, "children") for name in ("legend", "pages", "funnel", "states")]
)


def total(values):
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def refreshed(watcher):
    newest, good, history = watcher.look()
    if good is None:  # never seen: the notice alone
        return [newest.error or "", "dot", notices(newest, good)] + [dash.no_update] * (len(OUTPUTS) - 3)
    if newest.error:  # the last numbers stay, under a notice that says how old they are
        return [dash.no_update, "dot bad", notices(newest, good)] + [dash.no_update] * (len(OUTPUTS) - 3)

    now, hour, sources = good.one("now"), good.one("hour"), good.of("sources")
    messages = total(row.messages for row in sources)
    dead = total(row.dead_letters for row in sources)
    speed = total(rate(history, "sources", row.name, "rows") for row in sources)
    dead_speed = total(rate(history, "sources", row.name, "dead_letters") for row in sources)
    return [
        clock(now.now),
        "dot good",
        notices(newest, good),
        per_second(speed),
        grouped(hour.events),
        grouped(hour.visitors),
        grouped(hour.purchases),
        grouped(total(row.lag for row in sources)),
        grouped(dead),
        "rows written",
        "all kinds",
        "HyperLogLog, ±2 %",
        f"by {grouped(hour.buyers)} visitors",
        "messages behind Kafka",
        f"{percent(dead or 0, messages)}, now {per_second(dead_speed)}",
        figures.events(good.of("events"), now.minute),
        figures.visitors(good.of("visitors"), now.minute),
        figures.purchases(good.of("events"), now.minute),
        figures.lag(lag_curve(history), now.now),
        legend(good.of("events")),
        pages_table(good.of("pages")),
        funnel_table(good.of("kinds")),
        states_table(good, history),
    ]


def make_app(watcher):
    app = dash.Dash(__name__, title="clickstream", update_title=None, serve_locally=True, compress=False)
    app.layout = layout
    app.callback(OUTPUTS, Input("second", "n_intervals"))(lambda _: refreshed(watcher))

    # A page elsewhere that had its own name resolve to loopback could read this one; it does not know our names.
    @app.server.before_request
    def only_by_our_names():
        if request.host.rsplit(":", 1)[0] not in NAMES:
            abort(403)

    return app


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8050)
    port = parser.parse_args().port
    logging.getLogger("waitress").setLevel(logging.ERROR)
    watcher = Watcher()
    watcher.start()
    try:
        waitress.serve(make_app(watcher).server, host="127.0.0.1", port=port, threads=6, ident=None)
    except OSError as error:
        sys.exit(f"dashboard: port {port}: {error.strerror}")


if __name__ == "__main__":
    main()
