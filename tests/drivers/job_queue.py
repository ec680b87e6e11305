"""A job queue as River, Oban or graphile-worker run it: workers are woken by NOTIFY, take jobs with SKIP LOCKED, elect a leader by an
expiring row, and migrate under an advisory lock. No job is lost, none is done twice, no worker waits for its poll."""

import sys
import threading
import time

import psycopg

DSN, WORKERS, JOBS = sys.argv[1], int(sys.argv[2]), 300
POLL = 60.0

MIGRATE = """
create schema if not exists queue;
create table if not exists queue.version (n int primary key);
create table if not exists queue.jobs (id bigserial primary key, payload text, state text default 'available', done_by text, done_at timestamptz);
create table if not exists queue.leader (one bool primary key default true, name text, expires timestamptz);
create or replace function queue.announce() returns trigger language plpgsql as
    $$ begin perform pg_notify('queue_insert', new.id::text); return null; end $$;
drop trigger if exists announce on queue.jobs;
create trigger announce after insert on queue.jobs for each row execute function queue.announce();
"""


def migrate(ran):
    """All workers try; each step is done once."""
    with psycopg.connect(DSN, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(4711)")
        try:
            connection.execute(MIGRATE)
            if connection.execute("select count(*) from queue.version where n = 1").fetchone() == (0,):
                connection.execute("insert into queue.version values (1)")
                ran.append(True)
        finally:
            assert connection.execute("select pg_advisory_unlock(4711)").fetchone() == (True,)


def work(name, stop, woken):
    with psycopg.connect(DSN, autocommit=True) as listener, psycopg.connect(DSN) as connection:
        listener.execute("listen queue_insert")
        while not stop.is_set():
            while True:
                row = connection.execute(
                    "update queue.jobs set state = 'running' where id = (select id from queue.jobs where state = 'available' "
                    "order by id limit 1 for update skip locked) returning id"
                ).fetchone()
                connection.commit()
                if row is None:
                    break
                connection.execute(
                    "update queue.jobs set state = 'done', done_by = %s, done_at = now() where id = %s and state = 'running'",
                    (name, row[0]),
                )
                connection.commit()
            for _note in listener.notifies(timeout=POLL if not stop.is_set() else 0, stop_after=1):
                woken.append(name)


def lead(name, terms):
    with psycopg.connect(DSN, autocommit=True) as connection:
        row = connection.execute(
            "insert into queue.leader (name, expires) values (%s, now() + interval '1 minute') on conflict (one) do update "
            "set name = excluded.name, expires = excluded.expires where queue.leader.expires < now() returning name",
            (name,),
        ).fetchone()
        if row is not None:
            terms.append(name)


def main():
    with psycopg.connect(DSN, autocommit=True) as connection:
        connection.execute("drop schema if exists queue cascade")
    ran, woken, terms, stop, problems = [], [], [], threading.Event(), []

    def guarded(function, *arguments):
        try:
            function(*arguments)
        except Exception as problem:
            problems.append(f"{function.__name__}: {type(problem).__name__}: {problem}")

    def all_of(function, *arguments):
        threads = [threading.Thread(target=guarded, args=(function, *arguments)) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        return threads

    for thread in all_of(migrate, ran):
        thread.join()
    for n in range(WORKERS):
        guarded(lead, f"w{n}", terms)
    workers = [threading.Thread(target=guarded, args=(work, f"w{n}", stop, woken)) for n in range(WORKERS)]
    for thread in workers:
        thread.start()
    began = time.monotonic()
    with psycopg.connect(DSN) as client:
        for n in range(JOBS):
            client.execute("insert into queue.jobs (payload) values (%s)", (f"p{n}",))
            client.commit()
        while time.monotonic() - began < POLL / 2:
            done = client.execute("select count(*), count(distinct id) from queue.jobs where state = 'done'").fetchone()
            client.commit()
            if done == (JOBS, JOBS):
                break
        else:
            problems.append(f"only {done[0]} of {JOBS} jobs are done: a worker was not woken")
        stop.set()
        # One last wake-up for each worker that waits.
        client.execute("select pg_notify('queue_insert', 'stop')")
        client.commit()
    for thread in workers:
        thread.join()
    if len(ran) != 1:
        problems.append(f"the migration ran {len(ran)} times")
    if len(terms) != 1:
        problems.append(f"{len(terms)} leaders in one term: {terms}")
    if not woken:
        problems.append("nobody was woken")
    for problem in problems:
        print("FAILED", problem.replace("\n", " | "))
    print(f"{JOBS} jobs, {WORKERS} workers, {len(woken)} wake-ups, {len(problems)} failures")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
