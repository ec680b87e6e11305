//! Random requests: what drivers send, and what no driver would.

use std::fmt;

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::wire::{Batch, batch};

/// A request, and what the stranger does before it.
#[derive(Clone, Debug)]
pub struct Step {
    pub dirt: Option<Dirt>,
    pub request: Request,
}

/// What the stranger leaves on the server that it gives back.
#[derive(Clone, Copy, Debug)]
pub struct Dirt(&'static str);

impl Dirt {
    pub fn sql(self) -> &'static str {
        self.0
    }
}

/// One write of a client.
#[derive(Clone, Debug)]
pub enum Request {
    Simple(&'static str),
    /// COPY from the client, and how it ends.
    Copy(bool),
    /// Messages of the extended protocol; a Sync follows the last.
    Extended(Vec<Atom>),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One message of the extended protocol.
#[derive(Clone, Copy, Debug)]
pub enum Atom {
    Parse(&'static str, &'static str),
    Bind(&'static str, &'static str, &'static [&'static str]),
    DescribeStatement(&'static str),
    DescribePortal(&'static str),
    Execute(&'static str, i32),
    CloseStatement(&'static str),
    ClosePortal(&'static str),
    Flush,
    Sync,
}

impl Request {
    /// The frames.
    pub fn batch(&self) -> Batch {
        match self {
            Self::Simple(sql) => batch().query(sql),
            Self::Copy(is_good) => {
                let open = batch().query("copy t from stdin").copy_data(b"7\tseven\n");
                if *is_good {
                    open.copy_done()
                } else {
                    open.copy_fail("no more")
                }
            }
            Self::Extended(atoms) => atoms
                .iter()
                .fold(batch(), |batch, atom| atom.add(batch))
                .sync(),
        }
    }

    /// How many ReadyForQuery it brings.
    pub fn ends(&self) -> usize {
        match self {
            Self::Simple(_) | Self::Copy(_) => 1,
            Self::Extended(atoms) => {
                1 + atoms
                    .iter()
                    .filter(|atom| matches!(atom, Atom::Sync))
                    .count()
            }
        }
    }
}

impl Atom {
    fn add(self, batch: Batch) -> Batch {
        match self {
            Self::Parse(name, sql) => batch.parse(name, sql),
            Self::Bind(portal, statement, values) => batch.bind_portal(portal, statement, values),
            Self::DescribeStatement(name) => batch.describe_statement(name),
            Self::DescribePortal(name) => batch.describe_portal(name),
            Self::Execute(portal, rows) => batch.execute_portal(portal, rows),
            Self::CloseStatement(name) => batch.close_statement(name),
            Self::ClosePortal(name) => batch.close_portal(name),
            Self::Flush => batch.flush(),
            Self::Sync => batch.sync(),
        }
    }
}

const SIMPLE: &[&str] = &[
    "select 1",
    "select 'a' as x, 2 as y",
    "select 1; select 2",
    "",
    ";",
    "selec",
    "select 1/0",
    "select 1; select 1/0; select 2",
    "begin",
    "begin",
    "begin; select 1",
    "begin; insert into t values (3, 'three'); commit",
    "commit",
    "commit",
    "rollback",
    "end",
    "abort",
    "savepoint s1",
    "rollback to s1",
    "release s1",
    "commit and chain",
    "rollback and chain",
    "begin isolation level serializable",
    "begin read only",
    "set transaction read only",
    "set session characteristics as transaction read only",
    "set session characteristics as transaction read write",
    "show transaction_read_only",
    "set default_transaction_isolation to 'repeatable read'",
    "show transaction_isolation",
    "prepare transaction 'x'",
    "set search_path to public",
    "set search_path to mine",
    "set local search_path to public",
    "reset search_path",
    "show search_path",
    "set timezone to 'Asia/Tokyo'",
    "set local timezone to 'UTC'",
    "show timezone",
    "set datestyle to 'german'",
    "select date '2020-01-02'",
    "set work_mem to '1MB'",
    "set local work_mem to '6MB'",
    "set work_mem to default",
    "set work_mem to '1MB'; select 1/0",
    "begin; set work_mem to '9MB'; rollback",
    "begin; set work_mem to '9MB'; commit",
    "show work_mem",
    "set nonsense to 1",
    "set mine.x to 'v1'",
    "show mine.x",
    "select current_setting('mine.x', true)",
    "select set_config('mine.x', 'v2', false)",
    "select set_config('work_mem', '2MB', true)",
    "select set_config('work_mem', '2MB', false)",
    "set application_name to 'me'",
    "show application_name",
    "set statement_timeout to '7s'",
    "show statement_timeout",
    "reset all",
    "set role app",
    "set role pg_monitor",
    "reset role",
    "select current_user, session_user",
    "set session authorization default",
    "prepare p1 as select $1::int + 1",
    "prepare p2 as insert into t values ($1, 'p') returning id",
    "execute p1(3)",
    "execute p1",
    "execute p2(4)",
    "deallocate p1",
    "deallocate prepare p2",
    "deallocate all",
    "deallocate a",
    "insert into t values (1, 'x')",
    "insert into t values (2, 'y') returning *",
    "select count(*) from t",
    "select * from t order by id, v",
    "update t set v = 'z' where id = 1",
    "delete from t where id = 2",
    "create temp table tt (a int)",
    "create temp table tt (a int) on commit drop",
    "insert into tt values (1)",
    "select count(*) from tt",
    "drop table tt",
    "declare c cursor for select generate_series(1, 5)",
    "declare c cursor with hold for select generate_series(1, 5)",
    "fetch 2 from c",
    "move 1 in c",
    "close c",
    "close all",
    "select nextval('sq')",
    "select currval('sq')",
    "select lastval()",
    "select setval('sq', 100)",
    "select pg_advisory_lock(42)",
    "select pg_try_advisory_lock(43)",
    "select pg_advisory_unlock(42)",
    "select pg_advisory_unlock_all()",
    "select pg_advisory_xact_lock(44)",
    "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    "discard all",
    "discard temp",
    "discard sequences",
    "discard plans",
    "do $$ begin raise notice 'n'; end $$",
    "do $$ begin raise exception 'e' using hint = 'h', detail = 'd'; end $$",
    "do $$ begin set mine.y = '1'; end $$",
    "do $$ begin perform set_config('work_mem', '3MB', false); end $$",
    "show mine.y",
    "copy t to stdout",
    "copy (values (1), (2)) to stdout",
    "values (1), (2)",
    "lock table t",
    "set client_encoding to 'latin1'",
    "set names 'utf8'",
    "show client_encoding",
    "select 'é'",
    "set standard_conforming_strings to off",
    "set standard_conforming_strings to on",
    r"select 'a\\b'",
    "explain (costs off) select * from t where id = 1",
    "listen a",
    "unlisten *",
];

/// Tables with their schemas: a text that some server has accepted is not looked at again, though it mean nothing to this session.
const TEXTS: &[&str] = &[
    "select $1::int",
    "select $1::text || 'x'",
    "select 1",
    "select 'many' from generate_series(1, 5)",
    "insert into mine.t values ($1::int, 'e')",
    "update mine.t set v = 'q' where id = $1::int returning v",
    "select * from mine.t order by id, v",
    "selec",
    "select 1/0",
    "",
    "begin",
    "commit",
    "rollback",
    "savepoint s1",
    "rollback to s1",
    "set work_mem to '4MB'",
    "show work_mem",
    "set timezone to 'Europe/Berlin'",
    "select nextval('mine.sq')",
    "declare c cursor for select 1",
    "fetch c",
    "prepare p1 as select 7",
    "execute p1(5)",
    "deallocate all",
    "discard all",
    "copy mine.t to stdout",
    "select set_config('mine.x', $1::text, false)",
    "select current_setting('mine.x', true)",
    "select 1; select 2",
];

const DIRT: &[&str] = &[
    "select 1",
    "set work_mem to '64kB'; set mine.x to 'strange'",
    "reset all",
    "prepare p1 as select 'strange'",
    "deallocate all",
    "set search_path to pg_catalog",
    "set timezone to 'America/Lima'; set datestyle to 'sql'",
    "set role pg_read_all_data",
    "create temp table tt (strange text)",
    "discard all",
    "declare c cursor with hold for select 'strange'",
    "select nextval('sq') from generate_series(1, 0)",
    "do $$ begin set mine.y = 'strange'; end $$",
    "select 1/0",
    "select pg_advisory_lock(99)",
    "set default_transaction_read_only to on",
    "set standard_conforming_strings to off",
    "set client_encoding to 'latin1'",
];

const STATEMENTS: &[&str] = &["", "a", "b"];
const PORTALS: &[&str] = &["", "p"];
const VALUES: &[&[&str]] = &[&[], &["3"], &["3"], &["3", "4"], &["x"]];

fn atom() -> impl Strategy<Value = Atom> {
    let statement = || select(STATEMENTS);
    let portal = || select(PORTALS);
    prop_oneof![
        4 => (statement(), select(TEXTS)).prop_map(|(name, sql)| Atom::Parse(name, sql)),
        4 => (portal(), statement(), select(VALUES))
            .prop_map(|(portal, name, values)| Atom::Bind(portal, name, values)),
        2 => statement().prop_map(Atom::DescribeStatement),
        2 => portal().prop_map(Atom::DescribePortal),
        5 => (portal(), select(vec![0, 0, 0, 1, 2])).prop_map(|(portal, rows)| Atom::Execute(portal, rows)),
        1 => statement().prop_map(Atom::CloseStatement),
        1 => portal().prop_map(Atom::ClosePortal),
        1 => Just(Atom::Flush),
        1 => Just(Atom::Sync),
    ]
}

/// What a driver sends: a text is parsed, or was, and then run.
fn driver() -> impl Strategy<Value = Vec<Atom>> {
    let name = || select(STATEMENTS);
    prop_oneof![
        (name(), select(TEXTS))
            .prop_map(|(name, sql)| vec![Atom::Parse(name, sql), Atom::DescribeStatement(name)]),
        (name(), select(VALUES))
            .prop_map(|(name, values)| vec![Atom::Bind("", name, values), Atom::Execute("", 0)]),
        (name(), select(TEXTS), select(VALUES)).prop_map(|(name, sql, values)| vec![
            Atom::Parse(name, sql),
            Atom::Bind("", name, values),
            Atom::DescribePortal(""),
            Atom::Execute("", 0),
        ]),
        (name(), select(TEXTS), select(VALUES)).prop_map(|(name, sql, values)| vec![
            Atom::CloseStatement(name),
            Atom::Parse(name, sql),
            Atom::Bind("p", name, values),
            Atom::Execute("p", 2),
            Atom::Execute("p", 0),
        ]),
    ]
}

/// The unnamed statement lives only as long as its request, unless a transaction keeps the server: who means one from before
/// gets a named one here.
///
/// Nor does a request go on behind a Sync where a name was given or closed that a failure may have left as it was: the pooler
/// judges the rest before it can know.
fn within(mut atoms: Vec<Atom>) -> Vec<Atom> {
    let changes_name = |atom: &Atom| match atom {
        Atom::Parse(name, _) => !name.is_empty(),
        atom => matches!(atom, Atom::CloseStatement(_)),
    };
    if atoms.iter().any(changes_name) {
        atoms.retain(|atom| !matches!(atom, Atom::Sync));
    }
    let mut is_parsed = false;
    for atom in &mut atoms {
        match atom {
            Atom::Parse("", _) => is_parsed = true,
            Atom::Sync | Atom::CloseStatement("") => is_parsed = false,
            Atom::Bind(_, name @ "", _) | Atom::DescribeStatement(name @ "") if !is_parsed => {
                *name = "a"
            }
            _ => {}
        }
    }
    atoms
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        10 => select(SIMPLE).prop_map(Request::Simple),
        1 => any::<bool>().prop_map(Request::Copy),
        6 => driver().prop_map(|atoms| Request::Extended(within(atoms))),
        3 => vec(atom(), 1..8).prop_map(|atoms| Request::Extended(within(atoms))),
    ]
}

/// Up to 24 steps.
pub fn script() -> impl Strategy<Value = Vec<Step>> {
    let step = (weighted(0.4, select(DIRT).prop_map(Dirt)), request())
        .prop_map(|(dirt, request)| Step { dirt, request });
    vec(step, 1..24)
}
