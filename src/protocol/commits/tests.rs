use super::{Commit, Commits, commit};
use crate::protocol::sides::Walk;

fn begun(walk: &Walk) -> Commits {
    let mut commits = Commits::default();
    commits.begin(walk);
    commits
}

fn frame(tag: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], &body].concat()
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &[sql.as_bytes(), b"\0"])
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(
        b'P',
        &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0commit;"],
    )
}

fn bind(portal: &str, name: &str) -> Vec<u8> {
    frame(
        b'B',
        &[portal.as_bytes(), b"\0", name.as_bytes(), b"\0 ; commit ;"],
    )
}

fn execute(portal: &str) -> Vec<u8> {
    frame(b'E', &[portal.as_bytes(), b"\0\0\0\0\0"])
}

fn sync() -> Vec<u8> {
    frame(b'S', &[])
}

/// A client has prepared `done`, which commits, and `insert`, which does not.
fn known(name: &[u8]) -> Option<Commit> {
    match name {
        b"done" => Some(Commit::Alone),
        b"insert" => Some(Commit::No),
        _ => None,
    }
}

/// What is found when all comes at once, and when it comes in two parts, wherever it is cut.
fn found(frames: &[Vec<u8>]) -> Commit {
    let bytes = frames.concat();
    let mut whole = begun(&Walk::default());
    whole.sends(&bytes, known);
    for cut in 0..bytes.len() {
        let mut parts = begun(&Walk::default());
        parts.sends(&bytes[..cut], known);
        parts.sends(&bytes[cut..], known);
        assert_eq!(parts.found(), whole.found(), "cut at {cut} of {bytes:?}");
    }
    whole.found()
}

#[test]
fn a_commit_is_found_wherever_a_statement_may_begin() {
    for sql in [
        "commit",
        " COMMIT ;",
        "End",
        "commit work",
        "END TRANSACTION;",
        ";;commit;",
        "/* why */ commit",
    ] {
        let alone = if sql.contains("why") {
            Commit::Perhaps
        } else {
            Commit::Alone
        };
        assert_eq!(commit(sql.as_bytes()), alone, "{sql}");
    }
    for sql in [
        "commit and chain",
        "commit and no chain",
        "commit prepared 'x'",
        "prepare transaction 'x'",
        "insert into t values (1); commit",
        "commit; insert into t values (1)",
        "commit; commit",
        "select 1;-- a word\ncommit",
        "select '/*';commit",
        "select ';--';\ncommit",
        "/* a /* b */ c */commit",
        "--x;\rcommit",
        "do $$begin null; end; $$",
    ] {
        assert_eq!(commit(sql.as_bytes()), Commit::Perhaps, "{sql}");
    }
}

#[test]
fn words_within_statements_are_no_commits() {
    for sql in [
        "",
        "update o set status = 'pending' where vendor = 'commit'",
        "select case when a then b end from t",
        "insert into commits (endpoint) values ('x')",
        "select 1 as end",
        "commits",
        "rollback",
        "begin",
        "savepoint commit",
        "/* sent by app */ update t set a = case a when 1 then 2 end",
    ] {
        assert_eq!(commit(sql.as_bytes()), Commit::No, "{sql}");
    }
}

#[test]
fn frames_are_followed_wherever_reads_cut_them() {
    let of = |frames: &[Vec<u8>]| found(frames);
    assert_eq!(of(&[query("commit")]), Commit::Alone);
    assert_eq!(of(&[query("select 1")]), Commit::No);
    assert_eq!(of(&[query("select 1"), query("commit")]), Commit::Perhaps);
    assert_eq!(of(&[query("commit"), query("select 1")]), Commit::Perhaps);
    let unnamed = |sql| vec![parse("", sql), bind("", ""), execute(""), sync()];
    assert_eq!(of(&unnamed("COMMIT")), Commit::Alone);
    assert_eq!(of(&unnamed("select 1")), Commit::No);
    let named = |name| vec![bind("", name), execute(""), sync()];
    assert_eq!(of(&named("done")), Commit::Alone);
    assert_eq!(of(&named("insert")), Commit::No);
    assert_eq!(of(&named("stranger")), Commit::Perhaps);
    let piped = [named("insert"), named("done")].concat();
    assert_eq!(of(&piped), Commit::Perhaps);
    let fresh = [vec![parse("new", "end")], named("new")].concat();
    assert_eq!(of(&fresh), Commit::Alone);
    // A server that refuses the name keeps what it had under it.
    let twice = [vec![parse("done", "select 1")], named("done")].concat();
    assert_eq!(of(&twice), Commit::Alone);
    // What was bound before is run later, and what is bound instead of it is not it.
    let early = [bind("p", "done"), bind("", "insert"), execute("p")];
    assert_eq!(of(&early), Commit::Alone);
    let other = [
        bind("", "done"),
        bind("", "insert"),
        execute(""),
        frame(b'd', &[b"commit;"]),
        frame(b'F', &[b"commit;"]),
    ];
    assert_eq!(of(&other), Commit::No);
    assert_eq!(
        of(&[bind("", &"n".repeat(300)), execute("")]),
        Commit::Perhaps
    );
}

#[test]
fn what_is_answered_counts_no_longer_and_what_has_only_begun_counts() {
    let mut commits = begun(&Walk::default());
    commits.sends(&query("insert into t values (1); commit"), known);
    commits.all_answered();
    assert_eq!(commits.found(), Commit::No);
    let cut = query("commit; select 1");
    commits.sends(&cut[..13], known);
    assert_eq!(commits.found(), Commit::Perhaps);
    commits.all_answered();
    assert_eq!(commits.found(), Commit::Perhaps, "it goes on");
    commits.sends(&cut[13..], known);
    assert_eq!(commits.found(), Commit::Perhaps);
    // Nothing is known of a statement from before.
    let mut commits = begun(&Walk::default());
    commits.sends(&[bind("", ""), execute("")].concat(), known);
    assert_eq!(commits.found(), Commit::Perhaps);
    // The rest of a frame of before is no frame.
    let walk = Walk {
        body: 6,
        ..Walk::default()
    };
    let mut commits = begun(&walk);
    commits.sends(&[b"QQQQQQ".to_vec(), query("end")].concat(), known);
    assert_eq!(commits.found(), Commit::Alone);
}

#[test]
fn one_simple_query_of_a_client_outside_passes_unread() {
    let commits = begun(&Walk::default());
    assert!(commits.may_pass(&query("commit")));
    assert!(!commits.may_pass(&[query("begin"), query("commit")].concat()));
    assert!(!commits.may_pass(&query("commit")[..8]));
    assert!(!commits.may_pass(&parse("", "select 1")));
    let mut commits = Commits::default();
    commits.sends(&query("begin")[..3], known);
    assert!(!commits.may_pass(&query("commit")));
}
