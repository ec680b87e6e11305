use super::*;
use crate::protocol::lexer::{Strings, cut};

fn found(sql: &str) -> Findings {
    let mut tokens = Vec::new();
    cut(sql.as_bytes(), Strings::Standard, &mut tokens).unwrap();
    let statement = Statement {
        text: sql.as_bytes(),
        tokens: &tokens,
    };
    scan(statement, 0)
}

fn calls(sql: &str) -> Vec<String> {
    found(sql)
        .calls
        .iter()
        .map(|call| {
            let schema = call.schema.as_ref().map_or(String::new(), |schema| {
                format!("{}.", String::from_utf8_lossy(schema))
            });
            let arguments = call
                .arguments
                .map_or("?".to_owned(), |count| count.to_string());
            format!(
                "{schema}{}/{arguments}",
                String::from_utf8_lossy(&call.name)
            )
        })
        .collect()
}

#[test]
fn every_call_is_found_wherever_it_hides() {
    for (sql, expected) in [
        ("select f(1, g(2), 'a,b')", vec!["f/3", "g/1"]),
        (
            "select a.f(), \"F\"(x), U&\"\\0066\"(1)",
            vec!["a.f/0", "F/1", "f/1"],
        ),
        (
            "select pg_catalog . \"nextval\" ('s')",
            vec!["pg_catalog.nextval/1"],
        ),
        ("select d.s.f(1)", vec!["s.f/1"]),
        ("select distinct on (a) f(b) from t", vec!["f/1"]),
        ("select 1 operator(pg_catalog.+) f(2)", vec!["f/1"]),
        (
            "select * from rows from (f(1), g()) as t(a, b)",
            vec!["f/1", "g/0"],
        ),
        (
            "select * from t, f(1) as (a int), lateral g(2) h(x, y)",
            vec!["f/1", "g/1"],
        ),
        ("select * from t tablesample f(1)", vec!["f/1"]),
        ("select a from t limit f(1) offset g(2)", vec!["f/1", "g/1"]),
        (
            "select count(*) filter (where f(x)) over (partition by g(y)) from t",
            vec!["count/1", "f/1", "g/1"],
        ),
        (
            "select string_agg(a, ',' order by b, c)",
            vec!["string_agg/2"],
        ),
        ("select f(variadic array[1,2])", vec!["f/?"]),
        ("select f(array[1,2], 3)", vec!["f/2"]),
        ("select f(a => 1)", vec!["f/1"]),
        ("select over(1), filter(2)", vec!["over/1", "filter/1"]),
        ("select a at time zone f(1)", vec!["f/1"]),
        ("select treat(a as b)", vec!["treat/1"]),
        (
            "with x(a) as (select f(1)), y(b, c) as materialized (select g(2)) select h(3)",
            vec!["f/1", "g/1", "h/1"],
        ),
        ("select x from a join f(1) on true", vec!["f/1"]),
        ("select like(a, b), left(a, 1)", vec!["like/2", "left/2"]),
        (
            "select case when f(1) then g(2) else h(3) end",
            vec!["f/1", "g/1", "h/1"],
        ),
        ("values (f(1)), (g(2))", vec!["f/1", "g/1"]),
        (
            "select cube(1), rollup(2) from t where a = 1",
            vec!["cube/1", "rollup/1"],
        ),
    ] {
        assert_eq!(calls(sql), expected, "{sql}");
    }
}

#[test]
fn what_only_looks_like_a_call_is_none() {
    for sql in [
        "select a from t where a in (1) and (b) or not (c) and exists (select 1)",
        "select cast(a as numeric(10, 2)), a::varchar(3), b::app.geometry(point, 4326), c::geometry(1)",
        "select coalesce(a, b), nullif(a, b), greatest(a), row(1), array(select 1), extract(year from a)",
        "with recursive x(a, b) as (select 1, 2) select * from x",
        "with x(a) as (select 1), y(b) as not materialized (select 2) select * from x, y",
        "select * from t a(b, c) join s as d(e) using (f), (values (1)) v(g)",
        "select * from public.t x(a)",
        "select * from unnest_t with ordinality x(a, b)",
        "select a from t group by (a), rollup (b), cube (c), grouping sets ((d), ())",
        "select a from t group by rollup(b), cube(c, d)",
        "select a from t order by (a) desc limit (1) offset (2) rows fetch first (3) rows only",
        "select a from t where a like (b) and c ilike (d) and (a, b) overlaps (c, d)",
        "select * from a natural join (select 1) b left join (select 2) c on (true) cross join (select 3) d",
        "select * from t tablesample system (1) repeatable (2)",
        "select sum_a over (w), 1 from t window w as (partition by (a) order by (b))",
        "select a at time zone ('x')",
        "select 'f(1)', $$g(2)$$, \"h(3)\" -- i(4)\n/* j(5) */",
    ] {
        assert!(calls(sql).is_empty(), "{sql}: {:?}", calls(sql));
    }
}

#[test]
fn writes_within_a_query_have_words_of_their_own() {
    for sql in [
        "with x as (insert into t values (1) returning 1) select 1",
        "with x as (select 1) delete from t",
        "with x as (with y as (select 1) update t set a = 1 returning 1) select 1",
        "with recursive x as (select 1) search depth first by a set b delete from t",
        "with x as materialized (merge into t using s on true when matched then delete) select 1",
    ] {
        assert!(found(sql).modifies.is_some(), "{sql}");
    }
    for sql in [
        "select 1 from t for update",
        "select 1 from t for no key update of t skip locked",
        "select * from (select 1 from t for share) x",
        "select 1 from t for key share nowait",
    ] {
        assert!(found(sql).locks, "{sql}");
    }
    assert!(found("select 1 into t").is_into);
    for sql in [
        "select 'for update', \"into\", x as into, t.update, updated, substring(a from 1 for 2) from t for read only",
        "select has_table_privilege('t', 'insert into')",
    ] {
        let found = found(sql);
        assert!(
            found.modifies.is_none() && !found.locks && !found.is_into,
            "{sql}"
        );
    }
}

#[test]
fn what_the_server_cannot_read_is_odd() {
    for sql in [
        "select :x",
        "select U&\"a!0062\" uescape '!'(1)",
        "select U&\"\\zzzz\"(1)",
    ] {
        assert!(found(sql).is_odd, "{sql}");
    }
    assert!(!found("select a[1:2], b::int").is_odd);
}

#[test]
fn hostile_queries_are_scanned_in_a_moment() {
    for sql in [
        "(".repeat(50_000),
        format!("select {}1{}", "f(".repeat(50_000), ")".repeat(50_000)),
        "rollup(a),".repeat(15_000),
        "with ".repeat(50_000),
        "with a as (".repeat(20_000),
        format!("select {}f(1)", "a.".repeat(90_000)),
        "f(variadic ".repeat(40_000),
    ] {
        found(&sql);
    }
}
