"""What the pooler answers itself, by the ways in which drivers ask: SET, SHOW and RESET of its settings, and EXPLAIN ROUTE."""

import asyncio

import asyncpg
import psycopg

from checks import check, main

EXPLAIN = "explain route select 1"


def finding(rows, subject):
    return [row[1] for row in rows if row[0] == subject]


@check
def psycopg_prepares_them_after_five_uses(dsn, marker):
    with psycopg.connect(dsn, autocommit=True) as connection:
        for round_ in range(12):
            for route in ("primary", "replica", "auto"):
                connection.execute(f"set pooler.route = '{route}'")
                assert connection.execute("show pooler.route").fetchone() == (route,)
            rows = connection.execute(EXPLAIN).fetchall()
            assert finding(rows, "intent") == ["read"], rows
            assert connection.execute("select %s::int", (round_,)).fetchone() == (round_,)


@check
def psycopg_prepares_them_at_once_also_in_a_transaction_and_in_binary(dsn, marker):
    with psycopg.connect(dsn) as connection:
        usual = connection.execute("show pooler.consistency").fetchone()
        for round_ in range(3):
            connection.execute("set pooler.consistency = 'none'", prepare=True)
            with connection.cursor(binary=True) as cursor:
                cursor.execute("show pooler.consistency", prepare=True)
                assert cursor.fetchone() == ("none",)
            connection.execute("reset pooler.consistency", prepare=True)
            rows = connection.execute("explain route select %s::int", (round_,), prepare=True).fetchall()
            assert finding(rows, "intent") == ["read"], rows
            try:
                connection.execute("set pooler.route = 'nowhere'", prepare=True)
                raise AssertionError("there is no such place")
            except psycopg.errors.InvalidParameterValue:
                connection.rollback()
        assert connection.execute("show pooler.consistency").fetchone() == usual


async def with_asyncpg(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        for _ in range(4):
            await connection.execute("set pooler.route = 'primary'")
            assert await connection.fetchval("show pooler.route") == "primary"
            assert (await connection.fetchrow("show pooler.route"))[0] == "primary"
            await connection.execute("reset pooler.route")
            statement = await connection.prepare("show pooler.route")
            for _ in range(3):
                assert await statement.fetchval() == "auto"
            rows = await connection.fetch(EXPLAIN)
            assert finding(rows, "intent") == ["read"], rows
            rows = await connection.fetch("explain route select $1", "x")
            assert finding(rows, "intent") == ["read"], rows
            async with connection.transaction():
                statement = await connection.prepare(EXPLAIN)
                assert finding(await statement.fetch(), "intent") == ["read"]
                assert await connection.fetchval("select 1") == 1
            try:
                await connection.fetch("set pooler.route = 'nowhere'")
                raise AssertionError("there is no such place")
            except asyncpg.InvalidParameterValueError:
                pass
            assert await connection.fetchval("select 5") == 5
    finally:
        await connection.close(timeout=20)


@check
def asyncpg_prepares_them(dsn, marker):
    asyncio.run(asyncio.wait_for(with_asyncpg(dsn), 120))


if __name__ == "__main__":
    main()
