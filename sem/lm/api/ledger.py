"""What was spent and what was answered, in one SQLite file that processes share.

A request is reserved in full before it is sent and settled with what it really took: a process
that dies in between leaves its reservation standing, so a cap is never passed, and no restart
forgets. Replies are JSON text with their hash, never pickle; the folder is the owner's alone.
"""

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.files import SqliteHolds, sqlite_faults, sqlite_transaction, typed_row
from sem.lm.api.rate_limits import DELIVERY_S, Limits, wait_s

NAME = "calls.sqlite"
# How long a writer waits for its turn.
BUSY_S = 60.0
HOLDS = SqliteHolds(
    "ledger",
    "it holds what was spent and the answers that were paid for: restore a copy, or move it away "
    "to begin a new one, which forgets what was spent and pays for every answer again",
)
TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS accounts (
  account TEXT PRIMARY KEY, requests INTEGER NOT NULL, pico_usd INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
  id INTEGER PRIMARY KEY, account TEXT NOT NULL, lane TEXT NOT NULL, key TEXT NOT NULL,
  state TEXT NOT NULL, at REAL NOT NULL, tokens INTEGER NOT NULL, pico_usd INTEGER NOT NULL,
  fault TEXT);
CREATE INDEX IF NOT EXISTS requests_by_lane ON requests (lane, at);
CREATE INDEX IF NOT EXISTS requests_by_account ON requests (account, tokens);
CREATE TABLE IF NOT EXISTS replies (
  key TEXT PRIMARY KEY, body TEXT NOT NULL, sha256 TEXT NOT NULL, at REAL NOT NULL);
"""


@dataclass(frozen=True)
class SpendingCap:
    """The most an account may spend; None: no limit of that kind."""

    account: str
    pico_usd: int | None = None
    requests: int | None = None
    # In and out.
    tokens: int | None = None


@dataclass(frozen=True)
class RequestBid:
    """One HTTP request that wants to be sent: where, for which call, at most how much."""

    lane: str
    key: str
    tokens: int
    pico_usd: int


@dataclass(frozen=True)
class AccountTotals:
    """Sums of one account; `open_requests` were reserved and never settled (killed)."""

    requests: int
    usd: float
    open_requests: int


class Ledger:
    """The file in `folder`; safe for threads and processes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self.path = folder / NAME
        self._local = threading.local()
        with self._writing() as db:
            for statement in TABLES.split(";"):
                db.execute(statement)
            db.execute("INSERT OR IGNORE INTO meta VALUES ('salt', ?)", (secrets.token_hex(16),))

    @property
    def salt(self) -> str:
        """Return a random text of this ledger.

        Nonces are made from it, so that no page can guess one.
        """
        with self._faults():
            row = self._one("SELECT value FROM meta WHERE name = 'salt'")
            return typed_row(row, str)[0]

    def reserve(self, bid: RequestBid, cap: SpendingCap, limits: Limits) -> int | float | None:
        """Return the id of the reservation (int), or the seconds to wait (float).

        None when the cap refuses.
        """
        with self._writing() as db:
            row = db.execute(
                "SELECT requests, pico_usd FROM accounts WHERE account = ?", (cap.account,)
            ).fetchone()
            requests, spent = typed_row(row or (0, 0), int, int)
            if cap.requests is not None and requests + 1 > cap.requests:
                return None
            if cap.pico_usd is not None and spent + bid.pico_usd > cap.pico_usd:
                return None
            if cap.tokens is not None and _tokens(db, cap.account) + bid.tokens > cap.tokens:
                return None
            now = time.time()
            pause = wait_s(db, bid.lane, bid.tokens, limits, now)
            if pause > 0:
                return float(pause)
            _add(db, cap.account, 1, bid.pico_usd)
            values = (cap.account, bid.lane, bid.key, now, bid.tokens, bid.pico_usd)
            cursor = db.execute(
                "INSERT INTO requests (account, lane, key, state, at, tokens, pico_usd) "
                "VALUES (?, ?, ?, 'reserved', ?, ?, ?)",
                values,
            )
            return int(cursor.lastrowid or 0)

    def sent(self, number: int) -> None:
        """Stamp reservation `number` as it leaves: the rate window counts from there."""
        # Not synced: a stamp lost with the power loses milliseconds, and nothing of the cap.
        with self._faults():
            db = self._connection()
            db.execute("PRAGMA synchronous = NORMAL")
            try:
                db.execute("UPDATE requests SET at = ? WHERE id = ?", (time.time(), number))
            finally:
                db.execute("PRAGMA synchronous = FULL")

    def settle(
        self, number: int, tokens: int, pico_usd: int, fault: str | None, body: str | None = None
    ) -> None:
        """Replace reservation `number` by what it took; `body`, if given, is kept as the reply."""
        with self._writing() as db:
            row = db.execute(
                "SELECT account, key, pico_usd FROM requests WHERE id = ?", (number,)
            ).fetchone()
            account, key, reserved = typed_row(row, str, str, int)
            db.execute(
                "UPDATE requests SET state = 'settled', tokens = ?, pico_usd = ?, fault = ?, "
                "at = min(at + ?, ?) WHERE id = ?",
                (tokens, pico_usd, fault, DELIVERY_S, time.time(), number),
            )
            _add(db, account, 0, pico_usd - reserved)
            if body is not None:
                values = (key, body, files.sha256_text(body), time.time())
                db.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", values)

    def reply(self, key: str) -> Any:
        """Return the kept reply of `key`.

        None when there is none or its text does not match its hash.
        """
        with self._faults():
            row = self._one("SELECT body, sha256 FROM replies WHERE key = ?", key)
            body, sha256 = typed_row(row or ("", ""), str, str)
        if row is None or files.sha256_text(body) != sha256:
            return None
        try:
            return jsonio.parse_json(body)
        except ValueError:
            return None

    def spent(self, account: str) -> AccountTotals:
        """Sums of `account` so far."""
        with self._faults():
            sums = self._one("SELECT requests, pico_usd FROM accounts WHERE account = ?", account)
            open_row = self._one(
                "SELECT count(*) FROM requests WHERE account = ? AND state = 'reserved'", account
            )
            requests, pico = typed_row(sums or (0, 0), int, int)
        return AccountTotals(requests, pico / 10**12, open_row[0])

    def spent_tokens(self, account: str) -> int:
        """Return the tokens of `account` so far, in and out; what is reserved counts in full."""
        with self._faults():
            return _tokens(self._connection(), account)

    def damage(self) -> list[str]:
        """Return what SQLite's own check and the hashes of the replies find wrong.

        Empty when sound.
        """
        with self._faults():
            db = self._connection()
            faults = [r for (r,) in db.execute("PRAGMA integrity_check") if r != "ok"]
            rows = [
                typed_row(row, str, str, str)
                for row in db.execute("SELECT key, body, sha256 FROM replies")
            ]
        return faults + [f"reply {k}" for k, body, sha in rows if files.sha256_text(body) != sha]

    def _one(self, query: str, *values: object) -> Any:
        return self._connection().execute(query, values).fetchone()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._faults():
            db = self._connection()
            with sqlite_transaction(db):
                yield db

    def _faults(self) -> AbstractContextManager[None]:
        return sqlite_faults(self.path, HOLDS)

    def _connection(self) -> sqlite3.Connection:
        # One for each thread of each process: a connection must not cross a fork.
        entry = getattr(self._local, "kept", None)
        if entry is None or entry[0] != os.getpid():
            entry = (os.getpid(), _connected(self.path))
            self._local.kept = entry
        return entry[1]


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    path.chmod(0o600)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


def _tokens(db: sqlite3.Connection, account: str) -> int:
    """Return the tokens of every request of `account`: as settled, else as reserved."""
    query = "SELECT coalesce(sum(tokens), 0) FROM requests WHERE account = ?"
    return typed_row(db.execute(query, (account,)).fetchone(), int)[0]


def _add(db: sqlite3.Connection, account: str, requests: int, pico_usd: int) -> None:
    db.execute(
        "INSERT INTO accounts VALUES (?, ?, ?) ON CONFLICT (account) DO UPDATE SET "
        "requests = requests + excluded.requests, pico_usd = pico_usd + excluded.pico_usd",
        (account, requests, pico_usd),
    )
