"""asyncpg: its own prepared statements, introspection, cursors, COPY, listeners, resets and pools."""

import asyncio

import asyncpg

from checks import check, main


def run(work):
    """A check that is a coroutine."""

    def function(dsn, marker):
        async def all_of_it():
            connection = await asyncpg.connect(dsn)
            try:
                await work(connection, dsn, marker)
            finally:
                await connection.close(timeout=20)

        asyncio.run(asyncio.wait_for(all_of_it(), 120))

    function.__name__ = work.__name__
    return check(function)


@run
async def queries_are_prepared_and_cached(connection, dsn, marker):
    for n in range(20):
        assert await connection.fetchval("select $1::text || $2::int", marker, n) == f"{marker}{n}"


@run
async def types_are_looked_up(connection, dsn, marker):
    kind = f"mood_{marker}"
    await connection.execute(f"drop type if exists {kind}; create type {kind} as enum ('well', 'ill')")
    assert await connection.fetchval(f"select $1::{kind}", "well") == "well"
    assert await connection.fetchval(f"select array[$1]::{kind}[]", "ill") == ["ill"]
    await connection.execute(f"drop type {kind}")


@run
async def prepared_statements_are_used_again(connection, dsn, marker):
    statement = await connection.prepare("select $1::int * 2")
    for n in range(20):
        assert await statement.fetchval(n) == 2 * n


@run
async def cursors_are_read_in_parts(connection, dsn, marker):
    async with connection.transaction():
        seen = [row[0] async for row in connection.cursor("select generate_series(1, 300)", prefetch=20)]
    assert seen == list(range(1, 301))


@run
async def copy_goes_both_ways(connection, dsn, marker):
    table = f"asyncpg_copy_{marker}"
    await connection.execute(f"drop table if exists {table}; create table {table} (n int, v text)")
    records = [(n, f"{marker}-{n}") for n in range(3000)]
    assert await connection.copy_records_to_table(table, records=records) == "COPY 3000"
    received = bytearray()

    async def take(data):
        received.extend(data)

    await connection.copy_from_query(f"select v from {table} order by n", output=take)
    assert received.decode().split() == [v for _, v in records]
    await connection.execute(f"drop table {table}")


@run
async def many_rows_are_inserted_in_one_pipeline(connection, dsn, marker):
    table = f"asyncpg_many_{marker}"
    await connection.execute(f"drop table if exists {table}; create table {table} (n int)")
    await connection.executemany(f"insert into {table} values ($1)", [(n,) for n in range(500)])
    assert await connection.fetchval(f"select sum(n) from {table}") == sum(range(500))
    await connection.execute(f"drop table {table}")


@run
async def nested_transactions_roll_back(connection, dsn, marker):
    table = f"asyncpg_nested_{marker}"
    await connection.execute(f"drop table if exists {table}; create table {table} (v text)")
    async with connection.transaction():
        await connection.execute(f"insert into {table} values ('outer')")
        try:
            async with connection.transaction():
                await connection.execute(f"insert into {table} values ('inner')")
                raise KeyError
        except KeyError:
            pass
    assert [row["v"] for row in await connection.fetch(f"select v from {table}")] == ["outer"]
    await connection.execute(f"drop table {table}")


@run
async def listeners_hear_in_order(connection, dsn, marker):
    heard, done = [], asyncio.Event()

    def listen(_connection, _pid, _channel, payload):
        heard.append(payload)
        if len(heard) == 20:
            done.set()

    channel = f"asyncpg_news_{marker}"
    await connection.add_listener(channel, listen)
    speaker = await asyncpg.connect(dsn)
    for n in range(20):
        await speaker.execute("select pg_notify($1, $2)", channel, str(n))
    await asyncio.wait_for(done.wait(), 20)
    assert heard == [str(n) for n in range(20)], heard
    await connection.remove_listener(channel, listen)
    await speaker.close()


@run
async def server_settings_are_carried(connection, dsn, marker):
    own = await asyncpg.connect(dsn, server_settings={"application_name": f"asyncpg {marker}", "jit": "off"})
    await own.execute("set my.marker = 'm'")
    for _ in range(10):
        assert await own.fetchval("show application_name") == f"asyncpg {marker}"
        assert await own.fetchval("show jit") == "off"
    await own.close()


@run
async def a_pool_resets_what_it_hands_on(connection, dsn, marker):
    async with asyncpg.create_pool(dsn, min_size=1, max_size=3) as pool:

        async def one(n):
            async with pool.acquire() as mine:
                await mine.execute(f"set my.marker = '{marker}-{n}'")
                for _ in range(5):
                    assert await mine.fetchval("show my.marker") == f"{marker}-{n}"
                await mine.execute("create temporary table pool_scratch (v text)")
                await mine.execute("insert into pool_scratch values ($1)", f"{n}")
                assert await mine.fetch("select v from pool_scratch") == [(f"{n}",)]
                await mine.execute("drop table pool_scratch")

        await asyncio.gather(*(one(n) for n in range(9)))


@run
async def a_timeout_cancels_the_query(connection, dsn, marker):
    try:
        await connection.execute("select pg_sleep(30)", timeout=0.3)
        raise AssertionError("nobody cancelled it")
    except asyncio.TimeoutError:
        pass
    assert await connection.fetchval("select $1::text", marker) == marker


@run
async def an_error_leaves_the_connection_usable(connection, dsn, marker):
    for _ in range(5):
        try:
            await connection.fetchval("select 1 / $1::int", 0)
            raise AssertionError("a division by zero went by")
        except asyncpg.DivisionByZeroError:
            pass
        assert await connection.fetchval("select $1::text", marker) == marker


if __name__ == "__main__":
    main()
