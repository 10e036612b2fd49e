"""The page's charts, from rows to Plotly figures.

Owns what a chart looks like but for the colours of text and grid: those come from assets/style.css, which knows whether
the reader's screen is dark. Every colour here is legible on both. Must never ask anything of a database. Used by app.py.
"""

from datetime import timedelta

import plotly.graph_objects as go

# kinds of events, in the order they are stacked; one that is not listed is grey and comes on top
KINDS = {
    "view": "#5f83b9",
    "click": "#3f9c90",
    "search": "#9a8cc4",
    "add_to_cart": "#d8a23f",
    "purchase": "#d2605a",
}
OTHER = "#8d96a3"
MINUTES = 60


def label(kind):
    return kind.replace("_", " ")


def colour(kind):
    return KINDS.get(kind, OTHER)


def in_order(kinds):
    known = list(KINDS)
    return sorted(set(kinds), key=lambda kind: (known.index(kind) if kind in KINDS else len(known), kind))


def last_hour(minute):
    return [minute - timedelta(minutes=MINUTES - 1 - i) for i in range(MINUTES)]


def axis_time(minutes):
    half = timedelta(seconds=30)
    return {"range": [minutes[0] - half, minutes[-1] + half], "tickformat": "%H:%M"}


def plain(time):
    """Plotly draws a time without a zone as it is; everything here is UTC."""
    return time.replace(tzinfo=None)


def figure(traces, y_title, x_axis, y_axis=None):
    return go.Figure(
        traces,
        {
            "uirevision": "kept",
            "barmode": "stack",
            "bargap": 0.18,
            "margin": {"l": 58, "r": 8, "t": 8, "b": 40},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "inherit", "size": 12},
            "showlegend": False,
            "hovermode": "x unified",
            "dragmode": False,
            "xaxis": {
                "title": {"text": "time (UTC)", "standoff": 6, "font": {"size": 12}},
                "showgrid": False,
                "zeroline": False,
                "fixedrange": True,
                "tickangle": 0,
                "hoverformat": "%H:%M",
                **x_axis,
            },
            "yaxis": {
                "title": {"text": y_title, "standoff": 8, "font": {"size": 12}},
                "rangemode": "tozero",
                "zeroline": True,
                "fixedrange": True,
                "nticks": 5,
                "separatethousands": True,
                **(y_axis or {}),
            },
        },
    )


def under_way(minutes):
    """The minute that is not over yet is drawn paler: its bar still grows."""
    return [1.0] * (len(minutes) - 1) + [0.45]


def events(rows, minute):
    minutes = [plain(m) for m in last_hour(minute)]
    views = {(plain(row.minute), row.event): row.views for row in rows}
    traces = [
        go.Bar(
            x=minutes,
            y=[views.get((m, kind), 0) for m in minutes],
            name=label(kind),
            marker={"color": colour(kind), "opacity": under_way(minutes), "line": {"width": 0}},
            hovertemplate="%{y:,}",
        )
        for kind in in_order(row.event for row in rows)
    ]
    return figure(traces, "events / minute", {**axis_time(minutes), "nticks": 7})


def by_minute(values, minute, name, color, y_title):
    """One number a minute, as bars; a minute without any is zero."""
    minutes = [plain(m) for m in last_hour(minute)]
    found = {plain(m): value for m, value in values}
    bar = go.Bar(
        x=minutes,
        y=[found.get(m, 0) for m in minutes],
        name=name,
        marker={"color": color, "opacity": under_way(minutes), "line": {"width": 0}},
        hovertemplate="%{y:,}",
    )
    return figure([bar], y_title, {**axis_time(minutes), "nticks": 4})


def visitors(rows, minute):
    return by_minute([(row.minute, row.visitors) for row in rows], minute, "visitors", "#5f83b9", "visitors / minute")


def purchases(rows, minute):
    values = [(row.minute, row.views) for row in rows if row.event == "purchase"]
    return by_minute(values, minute, "purchases", KINDS["purchase"], "purchases / minute")


def lag(curve, now):
    end = plain(now)
    line = go.Scatter(
        x=[plain(time) for time, _ in curve],
        y=[lag for _, lag in curve],
        name="behind",
        mode="lines",
        line={"color": "#3f9c90", "width": 1.8, "shape": "hv"},
        fill="tozeroy",
        fillcolor="rgba(63,156,144,0.16)",
        hovertemplate="%{y:,} messages",
    )
    # without any lag the axis still ends at a number
    highest = max([lag for _, lag in curve if lag is not None] + [10])
    return figure(
        [line],
        "messages behind",
        {"range": [end - timedelta(minutes=5), end], "tickformat": "%H:%M", "hoverformat": "%H:%M:%S", "nticks": 4},
        y_axis={"range": [0, highest * 1.1]},
    )
