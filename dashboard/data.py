"""What the page shows, as PostgreSQL has it.

Owns the one connection of the page and every query it asks, all in one read-only snapshot once a second, so that the
numbers on the page agree with each other. Keeps the last minutes of them for rates and for the lag's curve. Must never
write, read an event or a dead letter, or fail for good: without a database it says so and goes on asking. Used by app.py.
"""

import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import psycopg
from psycopg.rows import namedtuple_row

PERIOD = 1.0  # seconds between two looks
KEPT = 300  # looks that are remembered
RATE_OVER = 5.0  # seconds that a rate is measured over

EVENTS = """
SELECT minute, event, views FROM events_1m
WHERE minute > date_trunc('minute', now()) - interval '1 hour' AND minute <= now() ORDER BY minute"""

VISITORS = """
SELECT minute, round(# hll_union_agg(visitors))::bigint AS visitors FROM events_1m
WHERE minute > date_trunc('minute', now()) - interval '1 hour' AND minute <= now() GROUP BY minute ORDER BY minute"""

HOUR = """
SELECT coalesce(sum(views), 0)::bigint AS events, coalesce(round(# hll_union_agg(visitors)), 0)::bigint AS visitors,
       coalesce(sum(views) FILTER (WHERE event = 'purchase'), 0)::bigint AS purchases,
       coalesce(round(# hll_union_agg(visitors) FILTER (WHERE event = 'purchase')), 0)::bigint AS buyers
FROM events_1m WHERE minute > date_trunc('minute', now()) - interval '1 hour' AND minute <= now()"""

# the sketches of the ten pages alone are united: thousands of them would cost more than all the rest
PAGES = """
WITH recent AS MATERIALIZED (
    SELECT page, views, visitors FROM page_views_1m WHERE minute > now() - interval '5 minutes' AND minute <= now()),
top AS (SELECT page, sum(views)::bigint AS views FROM recent GROUP BY page ORDER BY views DESC, page LIMIT 10)
SELECT page, top.views, round(# hll_union_agg(visitors))::bigint AS visitors
FROM top JOIN recent USING (page) GROUP BY page, top.views ORDER BY top.views DESC, page"""

KINDS = """
SELECT event, sum(views)::bigint AS events, round(# hll_union_agg(visitors))::bigint AS visitors FROM events_1m
WHERE minute > date_trunc('minute', now()) - interval '1 hour' AND minute <= now() GROUP BY event"""

QUESTIONS = {
    "now": "SELECT clock_timestamp() AS now, date_trunc('minute', now()) AS minute",
    "hour": HOUR,
    "events": EVENTS,
    "visitors": VISITORS,
    "kinds": KINDS,
    "pages": PAGES,
    "sources": "SELECT * FROM dashboard.stat_sources() ORDER BY name",
    "rollups": "SELECT * FROM dashboard.stat_rollups() ORDER BY name",
    "sinks": "SELECT * FROM dashboard.stat_sinks() ORDER BY name",
}
REMEMBERED = ("now", "sources", "sinks")


@dataclass
class Snapshot:
    """One look: the rows of each question by its name, or why there are none."""

    taken: float
    rows: dict = field(default_factory=dict)
    error: str | None = None
    answered: bool = False  # whether the error is PostgreSQL's answer, and not that there is none

    def of(self, question):
        return self.rows.get(question, [])

    def one(self, question):
        rows = self.of(question)
        return rows[0] if rows else None


class Watcher(threading.Thread):
    """Looks once a second, for as long as the program runs."""

    def __init__(self, conninfo=""):
        super().__init__(name="watcher", daemon=True)
        self._conninfo = conninfo
        self._connection = None
        self._lock = threading.Lock()
        self._newest = Snapshot(time.monotonic(), error="connecting")
        self._last_good = None
        self._history = deque(maxlen=KEPT)

    def run(self):
        while True:
            began = time.monotonic()
            self._take(began)
            time.sleep(max(0.05, PERIOD - (time.monotonic() - began)))

    def _take(self, began):
        try:
            rows = self._ask()
        except psycopg.Error as error:
            self._close()
            with self._lock:
                self._newest = Snapshot(began, error=first_line(error), answered=refused(error))
            return
        snapshot = Snapshot(began, rows)
        with self._lock:
            self._newest = self._last_good = snapshot
            self._history.append(Snapshot(began, {name: rows[name] for name in REMEMBERED}))

    def _ask(self):
        if self._connection is None:
            self._connection = psycopg.connect(
                self._conninfo,
                autocommit=False,
                row_factory=namedtuple_row,
                connect_timeout=3,
                application_name="clickstream dashboard",
                options="-c statement_timeout=5s -c timezone=UTC -c jit=off",
            )
            self._connection.read_only = True
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with self._connection.transaction():
            return {name: self._connection.execute(query).fetchall() for name, query in QUESTIONS.items()}

    def _close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def look(self):
        """The newest snapshot, the newest good one (None if there was none yet), and those before."""
        with self._lock:
            return self._newest, self._last_good, list(self._history)


# psycopg has no code for a login that is refused, only libpq's words
NO_ENTRY = re.compile(
    r'role ".*" does not exist|not permitted to log in|authentication failed|no password supplied|no pg_hba.conf entry|database ".*" does not exist|permission denied for database'
)


def refused(error):
    """Whether PostgreSQL is there and says no: to the role, to a name or a right."""
    return (error.sqlstate or "")[:2] in ("42", "3D", "3F", "28") or bool(NO_ENTRY.search(str(error)))


def first_line(error):
    """libpq names each address it tried; the first line is the one a person needs."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def rate(history, question, name, column):
    """How fast a counter of one source or sink grew over the last seconds, or None while that is not known."""
    if len(history) < 2:
        return None
    newest = history[-1]
    older = next((s for s in history if s.taken >= newest.taken - RATE_OVER), None)
    values = [
        next((getattr(row, column) for row in snapshot.of(question) if row.name == name), None)
        for snapshot in (older, newest)
    ]
    elapsed = newest.taken - older.taken
    # a counter that went back began anew
    if None in values or elapsed <= 0 or values[1] < values[0]:
        return None
    return (values[1] - values[0]) / elapsed


def lag_curve(history):
    """Records that the sources are behind, by time; a look that does not know is a gap."""
    curve = []
    for snapshot in history:
        lags = [row.lag for row in snapshot.of("sources")]
        known = [lag for lag in lags if lag is not None]
        curve.append((snapshot.one("now").now, sum(known) if known and len(known) == len(lags) else None))
    return curve
