//! A second reader of queries, with a parser of its own.
//!
//! The scanner judges by words. Where `sqlparser` can read the text, too, its tree must not show a write that the words did not:
//! two readers that do not agree mean the primary. What `sqlparser` cannot read (it lacks a fortieth of what PostgreSQL reads)
//! stays with the scanner, whose rules need no tree.

use sqlparser::ast::{Query, SetExpr, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// Longer texts are left to the scanner: a tree of them may be deep, and is costly.
const LONGEST: usize = 1024;

/// The parser calls itself, and its frames are large: deeper texts are left to the scanner, too.
const DEEPEST: usize = 16;

/// What in the tree of `sql` says that it is no read; `None` if nothing does, or there is no tree.
pub fn objection(sql: &[u8]) -> Option<&'static str> {
    if sql.len() > LONGEST {
        return None;
    }
    let sql = std::str::from_utf8(sql).ok()?;
    // For these words the parser calls itself without counting: hundreds of them end the thread.
    let deepening = sql
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| word.eq_ignore_ascii_case("join") || word.eq_ignore_ascii_case("interval"));
    if deepening.count() > DEEPEST {
        return None;
    }
    let statements = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(DEEPEST)
        .try_with_sql(sql)
        .and_then(|mut parser| parser.parse_statements())
        .ok()?;
    match &*statements {
        [Statement::Query(query)] => in_query(query),
        [] => None,
        [_] => Some("another parser does not take it for a query"),
        [_, ..] => Some("another parser sees several statements"),
    }
}

/// Walks without recursion: a chain of UNION makes a tree as deep as it is long.
fn in_query(query: &Query) -> Option<&'static str> {
    let mut queries = vec![query];
    while let Some(query) = queries.pop() {
        if !query.locks.is_empty() {
            return Some("another parser sees a lock clause");
        }
        if let Some(with) = &query.with {
            queries.extend(with.cte_tables.iter().map(|table| &*table.query));
        }
        let mut bodies = vec![&*query.body];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::Select(select) if select.into.is_some() => {
                    return Some("another parser sees SELECT INTO");
                }
                SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => {}
                SetExpr::Query(query) => queries.push(query),
                SetExpr::SetOperation { left, right, .. } => bodies.extend([&**left, &**right]),
                SetExpr::Insert(_)
                | SetExpr::Update(_)
                | SetExpr::Delete(_)
                | SetExpr::Merge(_) => {
                    return Some("another parser sees a write");
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::objection;

    #[test]
    fn a_tree_that_shows_a_write_objects() {
        for sql in [
            "with x as (delete from t returning 1) select 1",
            "select 1 into t",
            "select 1 from t for update",
            "(select 1 from t for share) union select 2",
            "select 1; select 2",
        ] {
            assert!(objection(sql.as_bytes()).is_some(), "{sql}");
        }
        for sql in [
            "select 1",
            "with x as (select 1) select * from x",
            "no sql",
            "",
        ] {
            assert_eq!(objection(sql.as_bytes()), None, "{sql}");
        }
    }

    #[test]
    fn deep_trees_are_walked_and_dropped_on_a_small_stack() {
        let longest = |head: &str, unit: &str, tail: &str, end: &str| {
            let count = (super::LONGEST - head.len() - tail.len()) / (unit.len() + end.len());
            format!("{head}{}{tail}{}", unit.repeat(count), end.repeat(count))
        };
        let texts = [
            longest("select ", "1+", "1", ""),
            longest("select 1", " union select 1", "", ""),
            longest("select ", "(", "1", ")"),
            longest("select ", "not ", "1", ""),
            longest("select ", "- ", "1", ""),
            longest("select a", "[1]", "", ""),
            longest("select 1", "::int", "", ""),
            longest("select a", ".a", "", ""),
            longest("select ", "a,", "1", ""),
            longest("select * from a", " join a", "", ""),
            longest("select a", " is null", "", ""),
            longest("select ", "interval ", "'1'", ""),
            longest("select ", "date ", "'1'", ""),
            longest("select * from ", "(", "a", ")"),
            longest("select * from a", ",lateral (select 1", "", ")"),
            longest("select ", "exists(", "select 1", ")"),
            longest("select ", "f(", "1", ")"),
            longest("select 1 = ", "any (", "1", ")"),
            longest("select a", " between b and c", "", ""),
            longest("select a::", "array<", "int", ">"),
            longest("with a as (", "with a as (", "select 1", ") select 1"),
            longest("select ", "cast(", "1", " as int)"),
            longest("select a from b where ", "a in (", "1", ")"),
            longest("select ", "$1 at time zone ", "b", ""),
            longest("select ", "prior ", "b", ""),
            longest("select ", "distinct ", "b", ""),
            longest("select ", "@", "b", ""),
            longest("select ", "{", "b", "}"),
            longest("select ", "a->", "b", ""),
            longest("select ", "struct(", "b", ")"),
            longest("select ", "map {", "b", "}"),
            longest("select a", " collate c", "", ""),
            longest("select ", "case when 1 then ", "1", " end"),
            longest("select ", "array[", "1", "]"),
            longest("", "select (", "1", ")"),
        ];
        let walk = move || {
            for text in &texts {
                assert!(text.len() <= super::LONGEST);
                objection(text.as_bytes());
            }
        };
        std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(walk)
            .unwrap()
            .join()
            .unwrap();
    }
}
