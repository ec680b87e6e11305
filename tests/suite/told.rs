//! What happens to a cluster is told: to the operator who looks, in the log, and in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use pooler::cli::cluster::Stop;

use crate::cluster::Scene;
use crate::support::eventually;
use crate::support::load::{assert_good, more, under_load, with_splitting};
use crate::support::pooler::Pooler;

const LONG: Duration = Duration::from_secs(60);

/// The outage of this kind, once the first write after it is known.
fn outage(pooler: &Pooler, kind: &str) -> BTreeMap<String, String> {
    let mut found = None;
    eventually(LONG, kind, || {
        found = pooler.show("SHOW FAILOVERS").row_where("kind", kind);
        let row = found.as_ref();
        row.is_some_and(|row| !row["first_write_ms"].is_empty())
    });
    found.unwrap()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    let cell = &row[column];
    let number = cell.parse();
    number.unwrap_or_else(|_| panic!("{column} is {cell:?} in {row:?}"))
}

#[test]
fn a_failover_is_told_with_its_milliseconds_and_what_became_of_whom() {
    let scene = Scene::start();
    let pooler = with_splitting(scene.config()).start();
    let load = under_load(&pooler, Vec::new(), |written| {
        scene.cluster().kill9(0).unwrap();
        scene.cluster().promote(1).unwrap();
        more(written, 50);
    });
    let verdict = load.verdict(|sql| scene.sql(1, sql));
    assert_good("told", &verdict, 1);
    let row = outage(&pooler, "failover");
    let address = |node: usize| format!("127.0.0.1:{}", scene.ports[node]);
    assert_eq!(
        (&row["primary_before"], &row["primary_after"]),
        (&address(0), &address(1)),
        "{row:?}"
    );
    let moments = ["no_writer_ms", "confirmed_ms", "first_write_ms"].map(|name| number(&row, name));
    assert!(moments.is_sorted() && moments[1] > 0.0, "{row:?}");
    // Six clients wrote without pause: each of them waited, or was told that nobody knows and waited then.
    assert!(number(&row, "held") >= 6.0, "{row:?}");
    assert_eq!((&row["released"], &*row["failed"]), (&row["held"], "0"));
    // A read of which it is not known yet that it only reads is one of them, too.
    let of = |errors: &BTreeMap<String, usize>| errors.get("08007").copied().unwrap_or_default();
    let unknown = of(&verdict.errors) + of(&verdict.read_errors);
    // Who was told in the first moment may count for the outage before, which has lasted until a moment ago.
    let rows = pooler.show("SHOW FAILOVERS").column("unknown");
    let counted = rows.iter().map(|count| count.parse::<usize>().unwrap());
    assert_eq!(counted.sum::<usize>(), unknown, "{row:?}");
    let holds = pooler
        .show("SHOW HOLDS")
        .row_where("cluster", "main")
        .unwrap();
    assert_eq!((&*holds["waiting"], &*holds["oldest_ms"]), ("0", ""));
    assert!(number(&holds, "waits") >= 6.0, "{holds:?}");
    let longest = number(&holds, "outage_max_ms");
    assert!(
        (longest - number(&row, "confirmed_ms")).abs() < 0.2,
        "{holds:?}"
    );
    assert!(number(&holds, "wait_p99_ms") <= number(&holds, "wait_max_ms"));
    // One line for each change of phase.
    let phases = pooler.show("SHOW PHASES").rows.len();
    assert_eq!(
        pooler.log().matches("cluster changed its phase").count(),
        phases
    );
}

#[test]
fn who_waits_for_a_primary_is_shown_and_who_was_refused_is_counted() {
    let scene = Scene::start();
    let config = scene.config();
    let pooler = config.set("clusters.main", "hold_timeout", "1s").start();
    let mut client = pooler.connect();
    client.query("select 1").good();
    scene.cluster().stop(0, Stop::Fast).unwrap();
    client.send(crate::support::wire::batch().query("select 1"));
    eventually(LONG, "it is shown to wait", || {
        let shown = pooler.show("SHOW CLUSTERS");
        let row = shown.row_where("cluster", "main").unwrap();
        row["holding"] == "1" && !row["oldest_ms"].is_empty()
    });
    assert_eq!(client.until_ready().error().code, "57P03");
    let open = pooler
        .show("SHOW FAILOVERS")
        .row_where("kind", "open")
        .unwrap();
    assert_eq!((&*open["held"], &*open["failed"]), ("1", "1"), "{open:?}");
    assert_eq!(open["confirmed_ms"], "");
    scene.cluster().promote(1).unwrap();
    client.query("insert into t values (1)").good();
    let row = outage(&pooler, "failover");
    assert_eq!(row["failed"], "1", "{row:?}");
}

#[test]
fn a_pooler_that_cannot_write_down_the_timeline_serves_and_says_what_that_means() {
    let scene = Scene::start();
    let state = crate::support::folder("state");
    // Whoever tests may be root, whom no mode of a folder stops.
    std::fs::create_dir(state.join("cluster-main.new")).unwrap();
    let config = scene.config().pooler("state_dir", state.as_path());
    let pooler = config.start();
    let mut client = pooler.connect();
    client.query("insert into t values (1)").good();
    let warning = "after a restart an old primary could be taken for the writer";
    let warned = |count: usize| {
        eventually(LONG, "it is said once for each change", || {
            pooler.log().matches(warning).count() == count
        });
    };
    warned(1);
    scene.cluster().kill9(0).unwrap();
    scene.cluster().promote(1).unwrap();
    eventually(LONG, "clients go on", || {
        client.query("insert into t values (2)").errors.is_empty()
    });
    eventually(LONG, "the new timeline is warned of, too", || {
        pooler.log().matches(warning).count() > 1
    });
    // It knows what it knows.
    scene.cluster().restart(0).unwrap();
    eventually(LONG, "the old primary is fenced", || {
        let address = format!("127.0.0.1:{}", scene.ports[0]);
        let row = pooler.show("SHOW NODES").row_where("node", &address);
        row.is_some_and(|row| row["role"] == "fenced")
    });
    // A folder that is not there is found out before anything is served.
    let missing = config.pooler("state_dir", state.join("missing").as_path());
    std::fs::write(state.join("userlist.txt"), "").unwrap();
    let text = missing.text(&state, 6432);
    let ran = crate::support::pooler::run(&["pooler.toml"], &[("pooler.toml", &text)], &[]);
    assert!(
        ran.output.contains("pooler.state_dir: cannot use"),
        "{}",
        ran.output
    );
    let alone = scene.config().without_key("pooler", "state_dir").start();
    assert!(alone.log().contains("pooler.state_dir is not set"));
}

#[test]
fn doubts_in_a_row_are_one_row_and_a_primary_off_the_list_is_no_restart() {
    let scene = Scene::start();
    let config = scene.config();
    let pooler = config.start();
    let mut client = pooler.connect();
    let last = |name: &str| {
        let shown = pooler.show("SHOW FAILOVERS");
        shown.column(name).pop().unwrap()
    };
    for count in 1..=3 {
        client.query("begin").good();
        let idle = "state = 'idle in transaction'";
        scene.sql(
            0,
            &format!("select pg_terminate_backend(pid) from pg_stat_activity where {idle}"),
        );
        assert_eq!(client.query("select 1").error().code, "40001");
        client.query("rollback").good();
        eventually(LONG, "the doubt is counted", || {
            last("kind") == "doubt" && last("times").parse::<usize>().unwrap() >= count
        });
    }
    let kinds = || pooler.show("SHOW FAILOVERS").column("kind");
    assert_eq!(kinds(), ["start", "doubt"]);
    let replicas = [scene.address(1), scene.address(2)];
    let replicas = [replicas[0].as_str(), &replicas[1]];
    pooler.reload(&config.clone().set("clusters.main", "nodes", replicas));
    eventually(LONG, "the primary is used no longer", || {
        last("kind") == "open"
    });
    pooler.reload(&config);
    eventually(LONG, "it is used again", || last("kind") == "unlisted");
    client.query("insert into t values (1)").good();
}

#[test]
fn a_replica_that_goes_and_comes_back_has_a_line_in_the_log_each_time() {
    let scene = Scene::start();
    let pooler = scene.config().start();
    let address = format!("127.0.0.1:{}", scene.ports[1]);
    let line = |to: &str| {
        let (node, to) = (format!("node=\"{address}\""), format!("to=\"{to}\""));
        let log = pooler.log();
        let mut lines = log.lines();
        lines.any(|line| {
            line.contains("node changed its role") && line.contains(&node) && line.contains(&to)
        })
    };
    eventually(LONG, "it is there", || line("replica"));
    assert!(!line("down"));
    scene.cluster().stop(1, Stop::Fast).unwrap();
    eventually(LONG, "it is gone", || line("down"));
}
