"""The fence around Optuna's tables in MySQL and MariaDB, which hold less than elsewhere where Optuna makes them.

There the data base decides what letters a text may have, and whether ``A`` is ``a``; texts end after 65,535 bytes, and
times have whole seconds. Tables that are made here differ in that alone: Optuna, its dashboard and its upgrades take
them for its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

#: For ``create_engine``. As in PostgreSQL, each statement sees what was committed before it, and nothing is locked but
#: the rows that are written: under the server's own REPEATABLE READ the gaps between them are, too. Servers close
#: connections that nobody used for a while, so each is asked whether it is there. Each transaction ends itself: to roll
#: it back once more would ask the server for nothing, and write a traceback where it is away.
ENGINE = {"isolation_level": "READ COMMITTED", "pool_pre_ping": True, "pool_reset_on_return": None}
#: For each connection: heartbeats are compared in one time zone, and what does not fit is refused and not cut.
SESSION = "SET time_zone = '+00:00', sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')"
#: Seconds for which a process waits until another one has made the tables.
_WAIT = 60


def is_mysql(url: str) -> bool:
    """Whether the address is one of MySQL or MariaDB."""
    return re.match("(mysql|mariadb)\\b", url) is not None


def name_mysql(url: str) -> str:
    """The address as Optuna knows it: it has ways of its own for MySQL and not for MariaDB, which are the same."""
    return re.sub("^mariadb\\b", "mysql", url)


@contextmanager
def tables_made(url: str, engine: Mapping[str, Any]) -> Iterator[None]:
    """Make the tables that are not there; others that open the data base wait until the block has ended.

    Neither server makes tables in a transaction: who comes second would find some of them.

    Raises:
        ValueError: the address names no data base.
    """
    from sqlalchemy import NullPool, create_engine, text

    own = create_engine(url, poolclass=NullPool, **engine)
    if not own.url.database:
        raise ValueError("the address names no data base, as in mysql+pymysql://USER@HOST/NAME")
    with own.connect() as connection:
        # the lock ends with the connection
        connection.execute(text(f"SELECT GET_LOCK(CONCAT('effnas ', MD5(DATABASE())), {_WAIT})"))
        _copy_tables().create_all(connection)
        connection.commit()
        yield


def _copy_tables() -> Any:
    """Optuna's tables as they are made here."""
    from optuna.storages._rdb import models
    from sqlalchemy import DateTime, MetaData, Text
    from sqlalchemy.dialects.mysql import DATETIME, LONGTEXT

    made = MetaData()
    for original in models.BaseModel.metadata.sorted_tables:
        table = original.to_metadata(made)
        table.dialect_kwargs["mysql_engine"] = "InnoDB"  # the one with transactions
        table.dialect_kwargs["mysql_charset"] = "utf8mb4"
        table.dialect_kwargs["mysql_collate"] = "utf8mb4_bin"
        for column in table.columns:
            if isinstance(column.type, Text):
                column.type = LONGTEXT()
            elif isinstance(column.type, DateTime):
                column.type = DATETIME(fsp=6)
    return made
