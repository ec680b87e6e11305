"""psycopg 3: transactions, server-side and prepared statements, pipelines, COPY, cursors, settings, notifications."""

import threading


import psycopg
from psycopg import sql

from checks import check, main


def connect(dsn, **options):
    return psycopg.connect(dsn, autocommit=options.pop("autocommit", True), **options)


@check
def statements_are_prepared_after_five_uses(dsn, marker):
    with connect(dsn) as connection:
        for round_ in range(12):
            row = connection.execute("select %s::text, %s::int + 1", (marker, round_)).fetchone()
            assert row == (marker, round_ + 1), row


@check
def a_prepared_statement_survives_a_change_of_its_table(dsn, marker):
    table = sql.Identifier(f"psycopg_shape_{marker}")
    with connect(dsn) as connection:
        connection.execute(sql.SQL("drop table if exists {}").format(table))
        connection.execute(sql.SQL("create table {} (a int)").format(table))
        connection.execute(sql.SQL("insert into {} values (1)").format(table))
        query = sql.SQL("select * from {}").format(table)
        for _ in range(3):
            assert connection.execute(query, prepare=True).fetchone() == (1,)
        connection.execute(sql.SQL("alter table {} add b text default 'b'").format(table))
        try:
            connection.execute(query, prepare=True)
        except psycopg.errors.FeatureNotSupported:
            pass  # as directly: the cached plan must not change its result
        assert connection.execute(query, prepare=True).fetchone() == (1, "b")
        connection.execute(sql.SQL("drop table {}").format(table))


@check
def transactions_commit_roll_back_and_nest(dsn, marker):
    table = sql.Identifier(f"psycopg_tx_{marker}")
    with connect(dsn, autocommit=False) as connection:
        connection.execute(sql.SQL("drop table if exists {}").format(table))
        connection.execute(sql.SQL("create table {} (v text)").format(table))
        connection.commit()
        with connection.transaction():
            connection.execute(sql.SQL("insert into {} values ('kept')").format(table))
            try:
                with connection.transaction():
                    connection.execute(sql.SQL("insert into {} values ('undone')").format(table))
                    connection.execute("select 1 / 0")
            except psycopg.errors.DivisionByZero:
                pass
        rows = connection.execute(sql.SQL("select v from {}").format(table)).fetchall()
        assert rows == [("kept",)], rows
        connection.execute(sql.SQL("drop table {}").format(table))


@check
def pipelines_answer_in_order(dsn, marker):
    with connect(dsn) as connection:
        with connection.pipeline():
            cursors = [connection.execute("select %s, %s::int", (marker, n)) for n in range(60)]
        for n, cursor in enumerate(cursors):
            assert cursor.fetchone() == (marker, n)


@check
def a_failed_pipeline_leaves_the_connection_usable(dsn, marker):
    with connect(dsn) as connection:
        try:
            with connection.pipeline():
                connection.execute("select %s", (marker,))
                connection.execute("select 1 / %s", (0,))
                connection.execute("select 'never'")
            raise AssertionError("a division by zero went by")
        except psycopg.errors.DivisionByZero:
            pass
        assert connection.execute("select %s", (marker,)).fetchone() == (marker,)


@check
def copy_goes_both_ways(dsn, marker):
    table = sql.Identifier(f"psycopg_copy_{marker}")
    with connect(dsn) as connection:
        connection.execute(sql.SQL("drop table if exists {}").format(table))
        connection.execute(sql.SQL("create table {} (n int, v text)").format(table))
        cursor = connection.cursor()
        with cursor.copy(sql.SQL("copy {} from stdin").format(table)) as copy:
            for n in range(2000):
                copy.write_row((n, f"{marker}-{n}"))
        with cursor.copy(sql.SQL("copy (select n, v from {} order by n) to stdout").format(table)) as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
        assert rows == [(n, f"{marker}-{n}") for n in range(2000)]
        connection.execute(sql.SQL("drop table {}").format(table))


@check
def server_side_cursors_fetch_in_parts(dsn, marker):
    with connect(dsn, autocommit=False) as connection:
        with connection.cursor(name=f"cursor_{marker}") as cursor:
            cursor.itersize = 50
            cursor.execute("select generate_series(1, 500)")
            assert [row[0] for row in cursor] == list(range(1, 501))


@check
def cursors_with_hold_outlive_their_transaction(dsn, marker):
    with connect(dsn) as connection:
        with connection.cursor(name=f"held_{marker}", withhold=True) as cursor:
            cursor.execute("select %s || n from generate_series(1, 30) n", (marker,))
            for n in range(1, 31):
                assert cursor.fetchone() == (f"{marker}{n}",)
                assert connection.execute("select 1").fetchone() == (1,)


@check
def settings_stay_with_their_client(dsn, marker):
    with connect(dsn) as connection:
        connection.execute(sql.SQL("set my.marker = {}").format(marker))
        connection.execute("set statement_timeout = '54321ms'; set search_path = pg_catalog, public")
        connection.execute("select set_config('my.other', %s, false)", (marker + "!",))
        for _ in range(10):
            row = connection.execute(
                "select current_setting('my.marker'), current_setting('statement_timeout'), "
                "current_setting('search_path'), current_setting('my.other')"
            ).fetchone()
            assert row == (marker, "54321ms", "pg_catalog, public", marker + "!"), row
        connection.execute("reset statement_timeout")
        assert connection.execute("show statement_timeout").fetchone() != ("54321ms",)


@check
def settings_of_a_transaction_end_with_it(dsn, marker):
    with connect(dsn) as connection:
        connection.execute("set work_mem = '5MB'")
        with connection.transaction():
            connection.execute("set local work_mem = '6MB'")
            assert connection.execute("show work_mem").fetchone() == ("6MB",)
        assert connection.execute("show work_mem").fetchone() == ("5MB",)
        try:
            with connection.transaction():
                connection.execute("set work_mem = '7MB'")
                connection.execute("select 1 / 0")
        except psycopg.errors.DivisionByZero:
            pass
        assert connection.execute("show work_mem").fetchone() == ("5MB",)


@check
def temporary_tables_stay_with_their_client(dsn, marker):
    with connect(dsn) as connection:
        connection.execute("create temporary table scratch (v text)")
        connection.execute("insert into scratch values (%s)", (marker,))
        for _ in range(10):
            assert connection.execute("select v from scratch").fetchall() == [(marker,)]
        connection.execute("drop table scratch")
        try:
            connection.execute("select v from scratch")
            raise AssertionError("a table that was dropped is there")
        except psycopg.errors.UndefinedTable:
            pass


@check
def advisory_locks_stay_with_their_client(dsn, marker):
    key = 7000 + int(marker[1:])
    with connect(dsn) as connection, connect(dsn) as other:
        connection.execute("select pg_advisory_lock(%s)", (key,))
        assert other.execute("select pg_try_advisory_lock(%s)", (key,)).fetchone() == (False,)
        assert connection.execute("select pg_advisory_unlock(%s)", (key,)).fetchone() == (True,)
        assert other.execute("select pg_try_advisory_lock(%s)", (key,)).fetchone() == (True,)
        other.execute("select pg_advisory_unlock_all()")


@check
def prepared_by_sql_stays_with_its_client(dsn, marker):
    with connect(dsn) as connection:
        connection.execute(sql.SQL("prepare mine as select {} || $1").format(marker))
        for n in range(8):
            row = connection.execute(f"execute mine('{n}')").fetchone()
            assert row == (f"{marker}{n}",), row
        connection.execute("deallocate mine")


@check
def sequences_remember_for_their_client(dsn, marker):
    sequence = f"psycopg_seq_{marker}"
    with connect(dsn) as connection:
        connection.execute(f"drop sequence if exists {sequence}; create sequence {sequence} start {100 * (1 + int(marker[1:]))}")
        # Who asks first in a pool may be refused; from then on everybody who draws keeps its server.
        try:
            connection.execute("select lastval()")
        except psycopg.errors.ObjectNotInPrerequisiteState:
            pass
        for _ in range(5):
            (drawn,) = connection.execute(f"select nextval('{sequence}')").fetchone()
            assert connection.execute(f"select currval('{sequence}')").fetchone() == (drawn,)
            assert connection.execute("select lastval()").fetchone() == (drawn,)
        connection.execute(f"drop sequence {sequence}")


@check
def notifications_arrive_in_order(dsn, marker):
    channel = f"news_{marker}"
    with connect(dsn) as listener, connect(dsn) as speaker:
        listener.execute(f"listen {channel}")
        for n in range(20):
            speaker.execute("select pg_notify(%s, %s)", (channel, str(n)))
        heard = [note.payload for note in listener.notifies(timeout=20, stop_after=20)]
        assert heard == [str(n) for n in range(20)], heard
        listener.execute(f"unlisten {channel}")


@check
def a_query_is_cancelled_from_another_thread(dsn, marker):
    with connect(dsn) as connection:
        is_over = threading.Event()

        def cancel():
            # One that comes before the query has begun is for nothing, in PostgreSQL, too.
            while not is_over.wait(0.3):
                connection.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            connection.execute("select pg_sleep(30)")
            raise AssertionError("nobody cancelled it")
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            is_over.set()
            canceller.join()
        assert connection.execute("select %s", (marker,)).fetchone() == (marker,)


@check
def notices_arrive(dsn, marker):
    with connect(dsn) as connection:
        heard = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        connection.execute(f"do $$ begin raise notice '{marker}'; end $$")
        assert heard == [marker], heard


@check
def large_results_and_values_pass(dsn, marker):
    with connect(dsn) as connection:
        value = marker * 400_000
        assert connection.execute("select %s::text", (value,)).fetchone() == (value,)
        assert len(connection.execute("select n, repeat('x', 100) from generate_series(1, 20000) n").fetchall()) == 20_000


@check
def isolation_levels_and_read_only_hold(dsn, marker):
    with connect(dsn, autocommit=False) as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = True
        assert connection.execute("show transaction_isolation").fetchone() == ("serializable",)
        try:
            connection.execute("create table never (a int)")
            raise AssertionError("a read-only transaction wrote")
        except psycopg.errors.ReadOnlySqlTransaction:
            pass
        connection.rollback()


@check
def two_phase_transactions_are_finished_later(dsn, marker):
    with connect(dsn, autocommit=False) as connection:
        if connection.execute("show max_prepared_transactions").fetchone() == ("0",):
            return
        connection.rollback()
        xid = connection.xid(1, f"gtrid-{marker}", "branch")
        connection.tpc_begin(xid)
        connection.execute("select 1")
        connection.tpc_prepare()
        connection.tpc_commit()


if __name__ == "__main__":

    main()
