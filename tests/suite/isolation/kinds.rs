//! Every kind of session state that we know of: how to make it, how to see it, how to be rid of it.
//!
//! `{m}` stands for a marker that no other client uses and `{n}` for its number. A look gives one text: what a session that made
//! nothing sees is `nothing`, what one that did sees is `own`. Whatever else it sees is somebody else's.

/// One kind.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    /// Each is a request of its own; an error is allowed in those that begin with `!`.
    pub make: &'static [&'static str],
    pub look: &'static str,
    pub nothing: &'static str,
    pub own: &'static str,
    /// What takes it away again.
    pub clear: &'static [&'static str],
}

const fn kind(
    name: &'static str,
    make: &'static [&'static str],
    look: &'static str,
    [nothing, own]: [&'static str; 2],
    clear: &'static [&'static str],
) -> Kind {
    Kind {
        name,
        make,
        look,
        nothing,
        own,
        clear,
    }
}

const MY: &str = "select coalesce(nullif(current_setting('iso.mine', true), ''), '-')";
const IN_A_FUNCTION: &str = "select coalesce(nullif(current_setting('iso.inside', true), ''), '-')";
const TEMPORARY: &str = "select coalesce(string_agg(relname, ',' order by relname), '-') from pg_class where relnamespace = pg_my_temp_schema() and relkind in ('r', 'v', 'S')";
const LOCKS: &str = "select coalesce(string_agg(classid || '.' || objid || '.' || objsubid || mode, ','), '-') from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
const CURSORS: &str =
    "select coalesce(string_agg(name, ','), '-') from pg_cursors where is_holdable";
const PREPARED: &str =
    "select coalesce(string_agg(name, ','), '-') from pg_prepared_statements where from_sql";

/// All of them.
pub const KINDS: &[Kind] = &[
    // Settings.
    kind(
        "SET of a setting of one's own",
        &["set iso.mine = '{m}'"],
        MY,
        ["-", "{m}"],
        &["reset iso.mine"],
    ),
    kind(
        "SET SESSION … TO",
        &["set session iso.mine to '{m}'"],
        MY,
        ["-", "{m}"],
        &["set iso.mine to default"],
    ),
    kind(
        "set_config for the session",
        &["select set_config('iso.mine', '{m}', false)"],
        MY,
        ["-", "{m}"],
        &["select set_config('iso.mine', '', false)"],
    ),
    kind(
        "SET in a transaction",
        &["begin", "set iso.mine = '{m}'", "commit"],
        MY,
        ["-", "{m}"],
        &["reset iso.mine"],
    ),
    kind(
        "SET in a string of statements",
        &["select 1; set iso.mine = '{m}'; select 2"],
        MY,
        ["-", "{m}"],
        &["reset all"],
    ),
    kind(
        "SET that is rolled back",
        &["begin", "set iso.mine = '{m}'", "rollback"],
        MY,
        ["-", "-"],
        &[],
    ),
    kind(
        "SET that fails with its string",
        &["!set iso.mine = '{m}'; select 1/0"],
        MY,
        ["-", "-"],
        &[],
    ),
    kind(
        "SET LOCAL",
        &["begin", "set local iso.mine = '{m}'", "commit"],
        MY,
        ["-", "-"],
        &[],
    ),
    kind(
        "SET behind a savepoint",
        &[
            "begin",
            "set iso.mine = '{m}'",
            "savepoint s",
            "set iso.mine = 'undone'",
            "rollback to s",
            "commit",
        ],
        MY,
        ["-", "{m}"],
        &["reset iso.mine"],
    ),
    kind(
        "SET inside a function",
        &["select iso_set('{m}')"],
        IN_A_FUNCTION,
        ["-", "{m}"],
        &["select iso_set('')"],
    ),
    kind(
        "SET inside DO",
        &["do $$ begin perform set_config('iso.inside', '{m}', false); end $$"],
        IN_A_FUNCTION,
        ["-", "{m}"],
        &["do $$ begin perform set_config('iso.inside', '', false); end $$"],
    ),
    kind(
        "SET of what servers report",
        &["set application_name = '{m}'"],
        "show application_name",
        ["", "{m}"],
        &["reset application_name"],
    ),
    kind(
        "SET TIME ZONE",
        &["set time zone 'America/Lima'"],
        "show timezone",
        ["UTC", "America/Lima"],
        &["set time zone default"],
    ),
    kind(
        "SET of DateStyle",
        &["set datestyle = 'German, DMY'"],
        "show datestyle",
        ["ISO, MDY", "German, DMY"],
        &["reset datestyle"],
    ),
    kind(
        "SET of IntervalStyle",
        &["set intervalstyle = 'sql_standard'"],
        "show intervalstyle",
        ["postgres", "sql_standard"],
        &["reset intervalstyle"],
    ),
    kind(
        "SET NAMES",
        &["set names 'LATIN1'"],
        "show client_encoding",
        ["UTF8", "LATIN1"],
        &["reset client_encoding"],
    ),
    kind(
        "SET of the search path",
        &["set search_path = iso_{m}, public"],
        "show search_path",
        ["\"$user\", public", "iso_{m}, public"],
        &["reset search_path"],
    ),
    kind(
        "SET SCHEMA",
        &["set schema 'iso_{m}'"],
        "show search_path",
        ["\"$user\", public", "iso_{m}"],
        &["reset search_path"],
    ),
    kind(
        "SET of a time limit",
        &["set statement_timeout = '{n}s'"],
        "select setting from pg_settings where name = 'statement_timeout'",
        ["0", "{n}000"],
        &["reset statement_timeout"],
    ),
    kind(
        "SET of another time limit",
        &["set lock_timeout = '{n}s'"],
        "select setting from pg_settings where name = 'lock_timeout'",
        ["0", "{n}000"],
        &["reset lock_timeout"],
    ),
    kind(
        "SET of memory",
        &["set work_mem = {n}000"],
        "select setting from pg_settings where name = 'work_mem'",
        ["4096", "{n}000"],
        &["reset work_mem"],
    ),
    kind(
        "UPDATE of pg_settings",
        &["update pg_settings set setting = {n}000 where name = 'work_mem'"],
        "select setting from pg_settings where name = 'work_mem'",
        ["4096", "{n}000"],
        &["reset work_mem"],
    ),
    kind(
        "UPDATE of pg_settings, prepared and explained",
        &[
            "prepare iso_mine as update pg_catalog.\"pg_settings\" set setting = $1 where name = 'work_mem'",
            "explain analyze execute iso_mine ({n}000)",
        ],
        "select setting from pg_settings where name = 'work_mem'",
        ["4096", "{n}000"],
        &["reset work_mem", "deallocate iso_mine"],
    ),
    kind(
        "UPDATE of pg_settings that is rolled back",
        &[
            "begin",
            "update pg_settings set setting = {n}000 where name = 'work_mem'",
            "rollback",
        ],
        "select setting from pg_settings where name = 'work_mem'",
        ["4096", "4096"],
        &[],
    ),
    kind(
        "SET of digits",
        &["set extra_float_digits = -3"],
        "show extra_float_digits",
        ["1", "-3"],
        &["reset extra_float_digits"],
    ),
    kind(
        "SET of the default isolation",
        &["set default_transaction_isolation = 'repeatable read'"],
        "show default_transaction_isolation",
        ["read committed", "repeatable read"],
        &["reset default_transaction_isolation"],
    ),
    kind(
        "SET SESSION CHARACTERISTICS",
        &["set session characteristics as transaction isolation level serializable"],
        "show default_transaction_isolation",
        ["read committed", "serializable"],
        &["reset default_transaction_isolation"],
    ),
    kind(
        "SET of read-only",
        &["set default_transaction_read_only = on"],
        "show default_transaction_read_only",
        ["off", "on"],
        &["set default_transaction_read_only = off"],
    ),
    kind(
        "SET of the replication role",
        &["set session_replication_role = replica"],
        "show session_replication_role",
        ["origin", "replica"],
        &["reset session_replication_role"],
    ),
    kind(
        "SET ROLE",
        &["set role iso_role"],
        "select current_user",
        ["postgres", "iso_role"],
        &["reset role"],
    ),
    kind(
        "SET SESSION AUTHORIZATION",
        &["set session authorization iso_role"],
        "select session_user",
        ["postgres", "iso_role"],
        &["reset session authorization"],
    ),
    // Temporary things.
    kind(
        "a temporary table",
        &["create temporary table iso_{m} (a int)"],
        TEMPORARY,
        ["-", "iso_{m}"],
        &["drop table iso_{m}"],
    ),
    kind(
        "CREATE TEMPORARY TABLE AS",
        &["create temp table iso_{m} as select 1"],
        TEMPORARY,
        ["-", "iso_{m}"],
        &["drop table iso_{m}"],
    ),
    kind(
        "SELECT INTO a temporary table",
        &["select 1 as a into temporary iso_{m}"],
        TEMPORARY,
        ["-", "iso_{m}"],
        &["discard temp"],
    ),
    kind(
        "a table in pg_temp",
        &["create table pg_temp.iso_{m} (a int)"],
        TEMPORARY,
        ["-", "iso_{m}"],
        &["discard all"],
    ),
    kind(
        "a temporary table of a transaction",
        &[
            "begin",
            "create temp table iso_{m} (a int) on commit drop",
            "commit",
        ],
        TEMPORARY,
        ["-", "-"],
        &[],
    ),
    kind(
        "a temporary table that is rolled back",
        &["begin", "create temp table iso_{m} (a int)", "rollback"],
        TEMPORARY,
        ["-", "-"],
        &[],
    ),
    kind(
        "a temporary table made by DO",
        &["do $$ begin create temp table iso_{m} (a int); end $$"],
        TEMPORARY,
        ["-", "iso_{m}"],
        &["drop table iso_{m}"],
    ),
    kind(
        "a temporary table made by a function",
        &["select iso_table('iso_{m}')"],
        TEMPORARY,
        ["-", "iso_{m}"],
        &["drop table iso_{m}"],
    ),
    kind(
        "a temporary view",
        &["create temp view iso_{m} as select 1"],
        TEMPORARY,
        ["-", "iso_{m}"],
        &["drop view iso_{m}"],
    ),
    kind(
        "a temporary sequence",
        &["create temp sequence iso_{m}"],
        TEMPORARY,
        ["-", "iso_{m}"],
        &["drop sequence iso_{m}"],
    ),
    kind(
        "a temporary function",
        &["create function pg_temp.iso_mine() returns text language sql as $$ select '{m}' $$"],
        "select coalesce((select prosrc from pg_proc where pronamespace = pg_my_temp_schema()), '-')",
        ["-", " select '{m}' "],
        &["drop function pg_temp.iso_mine()"],
    ),
    kind(
        "a temporary type",
        &["create type pg_temp.iso_mine as enum ('{m}')"],
        "select coalesce((select enumlabel from pg_enum join pg_type t on t.oid = enumtypid where typnamespace = pg_my_temp_schema()), '-')",
        ["-", "{m}"],
        &["drop type pg_temp.iso_mine"],
    ),
    // Locks.
    kind(
        "a lock",
        &["select pg_advisory_lock({n})"],
        LOCKS,
        ["-", "0.{n}.1ExclusiveLock"],
        &["select pg_advisory_unlock({n})"],
    ),
    kind(
        "a lock of two numbers",
        &["select pg_advisory_lock(7, {n})"],
        LOCKS,
        ["-", "7.{n}.2ExclusiveLock"],
        &["select pg_advisory_unlock(7, {n})"],
    ),
    kind(
        "a shared lock",
        &["select pg_advisory_lock_shared({n})"],
        LOCKS,
        ["-", "0.{n}.1ShareLock"],
        &["select pg_advisory_unlock_shared({n})"],
    ),
    kind(
        "a lock that was tried for",
        &["select pg_try_advisory_lock({n})"],
        LOCKS,
        ["-", "0.{n}.1ExclusiveLock"],
        &["select pg_advisory_unlock_all()"],
    ),
    kind(
        "a lock in a transaction",
        &["begin", "select pg_advisory_lock({n})", "commit"],
        LOCKS,
        ["-", "0.{n}.1ExclusiveLock"],
        &["select pg_advisory_unlock({n})"],
    ),
    kind(
        "a lock that outlives a rollback",
        &["begin", "select pg_advisory_lock({n})", "rollback"],
        LOCKS,
        ["-", "0.{n}.1ExclusiveLock"],
        &["select pg_advisory_unlock({n})"],
    ),
    kind(
        "a lock of a transaction",
        &["begin", "select pg_advisory_xact_lock({n})", "commit"],
        LOCKS,
        ["-", "-"],
        &[],
    ),
    kind(
        "a lock taken by DO",
        &["do $$ begin perform pg_advisory_lock({n}); end $$"],
        LOCKS,
        ["-", "0.{n}.1ExclusiveLock"],
        &["select pg_advisory_unlock({n})"],
    ),
    kind(
        "a lock taken by a function",
        &["select iso_lock({n})"],
        LOCKS,
        ["-", "0.{n}.1ExclusiveLock"],
        &["select pg_advisory_unlock({n})"],
    ),
    kind(
        "a lock taken by a trigger",
        &["insert into iso_locking values ({n})"],
        LOCKS,
        ["-", "0.{n}.1ExclusiveLock"],
        &["select pg_advisory_unlock({n})"],
    ),
    // Cursors, statements, sequences.
    kind(
        "a cursor WITH HOLD",
        &["declare iso_{m} cursor with hold for select 1"],
        CURSORS,
        ["-", "iso_{m}"],
        &["close iso_{m}"],
    ),
    kind(
        "a cursor WITH HOLD of a transaction",
        &[
            "begin",
            "declare iso_{m} cursor with hold for select 1",
            "commit",
        ],
        CURSORS,
        ["-", "iso_{m}"],
        &["close all"],
    ),
    kind(
        "a cursor of a transaction",
        &["begin", "declare iso_{m} cursor for select 1", "commit"],
        CURSORS,
        ["-", "-"],
        &[],
    ),
    kind(
        "PREPARE",
        &["prepare iso_mine as select '{m}'"],
        "execute iso_mine",
        ["!26000", "{m}"],
        &["deallocate iso_mine"],
    ),
    kind(
        "PREPARE with types",
        &["prepare iso_mine (int) as select '{m}' || $1"],
        "execute iso_mine (5)",
        ["!26000", "{m}5"],
        &["deallocate all"],
    ),
    kind(
        "PREPARE, seen by another client",
        &[],
        PREPARED,
        ["-", "-"],
        &[],
    ),
    kind(
        "currval",
        &["select nextval('iso_sequence_{w}')"],
        "select currval('iso_sequence_{w}') > 0",
        ["!55000", "t"],
        &["discard sequences"],
    ),
    kind(
        "lastval",
        &["select nextval('iso_sequence_{w}')"],
        "select lastval() > 0",
        ["!55000", "t"],
        &["discard all"],
    ),
    // What else there is.
    kind(
        "LISTEN",
        &["listen iso_{m}"],
        "select pg_notify('iso_{m}', '{m}')",
        ["", ""],
        &["unlisten iso_{m}"],
    ),
    kind(
        "LISTEN, and UNLISTEN *",
        &["listen iso_{m}"],
        "select pg_notify('iso_{m}', '{m}')",
        ["", ""],
        &["unlisten *"],
    ),
    kind(
        "LOAD",
        &["load 'auto_explain'"],
        "select count(*) > 0 from pg_settings where name like 'auto_explain.%'",
        ["f", "t"],
        &[],
    ),
];

/// How a kind is told from its neighbours: those that hear rather than see.
pub fn is_heard(kind: &Kind) -> bool {
    kind.name.starts_with("LISTEN")
}

/// Functions and tables that the kinds use, made once.
pub const SCENE: &str = "
    do $$ begin create role iso_role; exception when duplicate_object or unique_violation then null; end $$;
    grant all on schema public to iso_role;
    create function iso_set(text) returns void language plpgsql as $$ begin perform set_config('iso.inside', $1, false); end $$;
    create function iso_table(text) returns void language plpgsql as $$ begin execute format('create temporary table %I (a int)', $1); end $$;
    create function iso_lock(bigint) returns void language plpgsql as $$ begin perform pg_advisory_lock($1); end $$;
    create table iso_locking (a bigint);
    create function iso_trigger() returns trigger language plpgsql as $$ begin perform pg_advisory_lock(new.a); return new; end $$;
    create trigger locks before insert on iso_locking for each row execute function iso_trigger();
";
