//! What it costs to know a text: seen before by this worker, by another, with other constants, or never.
//!
//! `cargo bench --bench texts`. A line that says `alloc` allocates each time; one for a text seen before must not.

use std::sync::Arc;

use divan::{AllocProfiler, Bencher, black_box};
use pooler::protocol::effects;
use pooler::protocol::lexer::{Strings, cut};
use pooler::routing::cache::{Cache, Recent, Scope};
use pooler::routing::catalog::{Catalog, Path};
use pooler::routing::classify::{Reading, classify};
use pooler::routing::judge::{Judge, Lists};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const SHORT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;";
const LONG: &str = "SELECT \"t1\".\"id\", \"t1\".\"owner\", count(*) FILTER (WHERE \"t2\".\"qty\" > $1) AS n, \
    jsonb_agg(\"t2\".\"doc\" ORDER BY \"t2\".\"id\") FROM \"public\".\"acct\" AS \"t1\" \
    LEFT JOIN LATERAL (SELECT * FROM \"public\".\"items\" AS \"i\" WHERE \"i\".\"acct_id\" = \"t1\".\"id\" \
    AND \"i\".\"created\" > now() - interval '1 day') AS \"t2\" ON true WHERE lower(\"t1\".\"owner\") LIKE $2 \
    GROUP BY 1, 2 ORDER BY n DESC LIMIT 20 OFFSET 0";
const TEXTS: [&str; 2] = [SHORT, LONG];

fn main() {
    divan::main();
}

struct Desk {
    cache: Cache,
    recent: Recent,
    scope: Arc<Scope>,
}

fn desk() -> Desk {
    let cache = Cache::new(8 << 20, Lists::default());
    let catalog = Arc::new(Catalog::default());
    let scope = cache.scope(b"app", &catalog, Path::of_user(b"app"), Reading::default());
    Desk {
        cache,
        recent: Recent::default(),
        scope,
    }
}

/// This worker has seen the text: one look-up.
#[divan::bench(args = TEXTS.map(str::len))]
fn seen_by_this_worker(bencher: Bencher, length: usize) {
    let text = text(length);
    let Desk {
        cache,
        mut recent,
        scope,
    } = desk();
    cache.facts(&mut recent, &scope, text.as_bytes());
    bencher.bench_local(|| cache.facts(&mut recent, &scope, black_box(text.as_bytes())));
}

/// It differs from a text seen before in its constants only: cut, normalised, looked up.
#[divan::bench]
fn seen_with_other_constants(bencher: Bencher) {
    let Desk {
        cache,
        mut recent,
        scope,
    } = desk();
    let texts: Vec<String> = (0..20_000)
        .map(|aid| format!("SELECT abalance FROM pgbench_accounts WHERE aid = {aid};"))
        .collect();
    let mut next = texts.iter().cycle();
    bencher.bench_local(|| {
        let text = next.next().map_or("", String::as_str);
        cache.facts(&mut recent, &scope, black_box(text.as_bytes()))
    });
}

/// Never seen: read in full, by both readers.
#[divan::bench(args = TEXTS.map(str::len))]
fn never_seen(bencher: Bencher, length: usize) {
    let text = text(length);
    let (catalog, path, lists) = (Catalog::default(), Path::of_user(b"app"), Lists::default());
    let judge = Judge {
        catalog: &catalog,
        path: &path,
        lists: &lists,
    };
    let mut tokens = Vec::new();
    bencher.bench_local(|| {
        classify(
            black_box(text.as_bytes()),
            Reading::default(),
            &judge,
            &mut tokens,
        )
    });
}

/// Only cut into words.
#[divan::bench(args = TEXTS.map(str::len))]
fn cut_only(bencher: Bencher, length: usize) {
    let text = text(length);
    let mut tokens = Vec::new();
    bencher.bench_local(|| cut(black_box(text.as_bytes()), Strings::Standard, &mut tokens));
}

/// What a text does to the session, without its intent.
#[divan::bench(args = TEXTS.map(str::len))]
fn effects_only(bencher: Bencher, length: usize) {
    let text = text(length);
    let mut tokens = Vec::new();
    bencher.bench_local(|| effects::of(black_box(text.as_bytes()), Strings::Standard, &mut tokens));
}

fn text(length: usize) -> &'static str {
    TEXTS
        .into_iter()
        .find(|text| text.len() == length)
        .unwrap_or(SHORT)
}
