"""Drivers through transaction mode, as they come: psycopg, asyncpg, a job queue, a migration, an ORM."""
import asyncio, sys, threading

DSN = sys.argv[1]


def psycopg_session():
    import psycopg
    with psycopg.connect(DSN, autocommit=True) as one, psycopg.connect(DSN, autocommit=True) as two:
        one.execute("set statement_timeout = '55s'")
        one.execute("create temp table mine (a int)")
        with one.cursor() as cursor:
            with cursor.copy("copy mine from stdin") as copy:
                for number in range(100):
                    copy.write_row([number])
        for _ in range(20):
            assert one.execute("select count(*) from mine where a >= %s", [0]).fetchone()[0] == 100
            assert one.execute("show statement_timeout").fetchone()[0] == "55s"
            assert two.execute("show statement_timeout").fetchone()[0] == "0"
            assert two.execute("select to_regclass('pg_temp.mine')").fetchone()[0] is None
        one.execute("drop table mine")
        with one.transaction(), one.cursor(name="named", withhold=True) as cursor:
            cursor.execute("select generate_series(1, 1000)")
            assert len(cursor.fetchmany(10)) == 10
        one.execute("listen jobs")
        two.execute("select pg_notify('jobs', 'payload')")
        heard = next(one.notifies(timeout=10, stop_after=1))
        assert (heard.channel, heard.payload) == ("jobs", "payload"), heard


async def asyncpg_session():
    import asyncpg
    pool = await asyncpg.create_pool(DSN, min_size=4, max_size=12)
    async def work(number):
        async with pool.acquire() as connection:
            await connection.execute("set application_name = 'worker%d'" % number)
            for _ in range(10):
                row = await connection.fetchrow("select $1::int + 1, current_setting('application_name')", number)
                assert row[0] == number + 1 and row[1] == "worker%d" % number, row
    await asyncio.gather(*(work(number) for number in range(40)))
    heard = asyncio.Queue()
    connection = await asyncpg.connect(DSN)
    await connection.add_listener("news", lambda _c, _p, channel, payload: heard.put_nowait((channel, payload)))
    async with pool.acquire() as other:
        await other.execute("notify news, 'hello'")
    assert await asyncio.wait_for(heard.get(), 10) == ("news", "hello")
    await connection.remove_listener("news", lambda *_: None)
    await connection.close()
    await pool.close()


def job_queue():
    """Workers are woken by LISTEN, take jobs with SKIP LOCKED; whoever migrates holds an advisory lock."""
    import psycopg
    def migrate():
        with psycopg.connect(DSN, autocommit=True) as connection:
            connection.execute("select pg_advisory_lock(1215)")
            connection.execute("create table if not exists job (id bigserial primary key, done int)")
            connection.execute("select pg_advisory_unlock(1215)")
    migrators = [threading.Thread(target=migrate) for _ in range(4)]
    [thread.start() for thread in migrators]
    [thread.join() for thread in migrators]
    done, failed, stop = [], [], threading.Event()
    def work():
        try:
            with psycopg.connect(DSN, autocommit=True) as connection:
                connection.execute("listen job_added")
                while not stop.is_set():
                    with connection.transaction():
                        row = connection.execute(
                            "update job set done = 1 where id = (select id from job where done is null order by id "
                            "for update skip locked limit 1) returning id").fetchone()
                    if row:
                        done.append(row[0])
                    else:
                        list(connection.notifies(timeout=1, stop_after=1))
        except Exception as error:
            failed.append(error)
    workers = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in workers]
    with psycopg.connect(DSN, autocommit=True) as connection:
        for _ in range(60):
            with connection.transaction():
                connection.execute("insert into job default values")
                connection.execute("notify job_added")
        for _ in range(600):
            if failed or len(done) == 60:
                break
            threading.Event().wait(0.05)
    stop.set()
    [thread.join() for thread in workers]
    assert not failed, failed
    assert sorted(done) == sorted(set(done)) and len(done) == 60, len(done)


def sqlalchemy_session():
    import sqlalchemy
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    engine = sqlalchemy.create_engine(DSN.replace("postgresql://", "postgresql+psycopg://"), pool_size=5)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        operations = Operations(context)
        operations.create_table("pet", sqlalchemy.Column("id", sqlalchemy.Integer, primary_key=True), sqlalchemy.Column("name", sqlalchemy.Text))
        operations.add_column("pet", sqlalchemy.Column("age", sqlalchemy.Integer))
        operations.create_index("pet_name", "pet", ["name"])
    pet = sqlalchemy.Table("pet", sqlalchemy.MetaData(), autoload_with=engine)
    for number in range(30):
        with engine.begin() as connection:
            connection.execute(pet.insert().values(name="n%d" % number, age=number))
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(pet)).scalar() == 30


def django_session():
    import django
    from django.conf import settings
    from urllib.parse import urlparse
    url = urlparse(DSN)
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", USE_TZ=True, TIME_ZONE="Europe/Berlin",
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username,
                               "PASSWORD": url.password, "HOST": url.hostname, "PORT": url.port}})
    django.setup()
    from django.core.management import call_command
    from django.contrib.auth.models import User
    call_command("migrate", verbosity=0)
    for number in range(20):
        User.objects.create_user("user%d" % number)
    assert User.objects.filter(username__startswith="user").count() == 20
    assert len(list(User.objects.all().iterator(chunk_size=5))) == 20


psycopg_session()
asyncio.run(asyncpg_session())
job_queue()
sqlalchemy_session()
django_session()
print("all fine")
