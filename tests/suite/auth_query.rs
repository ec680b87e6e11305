//! What `auth_query` sees, and what is made of its answers. What must never happen: somebody other than the operator decides
//! which secret is found.

use crate::support::pooler::{Config, config};
use crate::support::postgres::postgres;
use crate::support::wire::code;

/// A role of this test's own, whose password is its name.
fn role(name: &str, more: &str) -> String {
    let role = format!("{name}_{}", std::process::id());
    postgres().run(&format!(
        "create role {role} login password '{role}' {more}"
    ));
    role
}

fn asking(database: &str) -> Config {
    config()
        .app_is(database)
        .pooler("auth_type", "scram-sha-256")
        .pooler("auth_user", "postgres")
        .user("postgres", "password", "only the pooler knows")
}

fn with_query(sql: &str) -> Config {
    asking("app").pooler("auth_query", sql)
}

#[test]
fn a_password_that_is_no_longer_valid_does_not_open() {
    let (good, expired) = (
        role("aq_good", "valid until 'infinity'"),
        role("aq_expired", "valid until '2001-01-01'"),
    );
    let none = role("aq_none", "");
    postgres().run(&format!("alter role {none} password null"));
    let pooler = asking("app").start();
    let login = |user: &str, password: &str| pooler.login().user(user).password(password);
    assert_eq!(code(&login(&good, &good)), Ok(()));
    assert_eq!(code(&login(&expired, &expired)), Err("28P01".into()));
    assert_eq!(code(&login(&none, &none)), Err("28P01".into()));
    assert_eq!(code(&login(&none, "")), Err("28P01".into()));
}

#[test]
fn functions_and_operators_of_others_do_not_change_what_is_found() {
    let database = postgres().database();
    let victim = role("aq_victim", "");
    let mut owner = postgres().login().user("app").database(&database).connect();
    // Who may create in a database could make the default query compare names by an operator of their own.
    owner.query("create schema postgres").good();
    for schema in ["public", "postgres"] {
        owner
            .query(&format!(
                "create function {schema}.anything(name, text) returns boolean language sql as 'select true';
                 create operator {schema}.= (leftarg = name, rightarg = text, function = {schema}.anything);
                 create table {schema}.pg_authid (rolname name, rolpassword text, rolvaliduntil timestamptz, rolcanlogin boolean);
                 create function {schema}.now() returns timestamptz language sql as 'select timestamptz ''2001-01-01''';"
            ))
            .good();
    }
    postgres().run(&format!(
        "alter role postgres in database {database} set search_path = public, pg_catalog"
    ));
    let pooler = asking(&database).start();
    let login = pooler.login().user(&victim);
    assert_eq!(
        code(&login.clone().password(&victim)),
        Ok(()),
        "{}",
        pooler.log()
    );
    assert_eq!(
        code(&pooler.login().user("nobody").password("x")),
        Err("28P01".into())
    );
}

#[test]
fn the_name_that_comes_back_is_who_the_client_is() {
    let user = role("aq_real", "");
    let sql = format!("select '{user}', 'alias''s password' where $1 = 'alias'");
    let pooler = with_query(&sql).pooler("auth_type", "plain").start();
    let login = pooler.login().user("alias").password("alias's password");
    let mut client = login.connect();
    assert_eq!(client.value("select current_user"), user);
    let shown = pooler
        .login()
        .user("admin")
        .password("admin")
        .database("pgbouncer")
        .connect()
        .query("SHOW CLIENTS")
        .good();
    assert!(shown.column("user").contains(&user), "{:?}", shown.rows);
    drop(client);
}

#[test]
fn answers_of_the_wrong_shape_let_nobody_in_and_only_the_log_says_why() {
    for (sql, why) in [
        ("select $1::text", "two columns"),
        ("select $1::text, 'Zq7pw', 3", "two columns"),
        ("select null, 'Zq7pw' where $1 <> ''", "no name"),
        (
            "select 'a', 'Zq7pw' where $1 <> '' union all select 'b', 'Zq7pw'",
            "more than one row",
        ),
        ("select missing_function($1), 'Zq7pw'", "with their schema"),
        ("select 1/(length($1) - 3), 'Zq7pw'", "division by zero"),
    ] {
        let pooler = with_query(sql).pooler("auth_type", "plain").start();
        let fault = pooler.login().user("who").password("Zq7pw").refused();
        assert_eq!(fault.code, "58000", "{sql}: {fault:?}");
        let log = pooler.log();
        assert!(log.contains(why), "{sql}: {log}");
        assert!(
            !log.contains("Zq7pw") || why == "with their schema" || why == "division by zero",
            "{sql}: {log}"
        );
        assert!(!format!("{fault:?}").contains(why), "{sql}: {fault:?}");
    }
}

#[test]
fn no_row_is_an_unknown_user_and_a_null_secret_fits_no_password() {
    let pooler = with_query("select $1::text, null where $1 = 'known'")
        .pooler("auth_type", "md5")
        .start();
    for user in ["known", "unknown"] {
        for password in ["", "x", "known"] {
            let login = pooler.login().user(user).password(password);
            assert_eq!(code(&login), Err("28P01".into()), "{user} {password}");
        }
    }
}

#[test]
fn it_runs_where_auth_dbname_says_as_auth_user_and_never_for_listed_users() {
    let place = postgres().database();
    let sql = format!(
        "select $1::text, current_database() || current_user where $1 <> 'app' and current_database() = '{place}'"
    );
    let pooler = with_query(&sql)
        .server("asked", postgres().server(), &place)
        .pooler("auth_dbname", "asked")
        .pooler("auth_type", "plain")
        .database("app", "user", "app")
        .user("app", "password", "app")
        .start();
    let found = pooler
        .login()
        .user("somebody")
        .password(&format!("{place}postgres"));
    assert_eq!(code(&found), Ok(()));
    assert_eq!(
        code(&pooler.login().password(&format!("{place}postgres"))),
        Err("28P01".into())
    );
    pooler.show("DISABLE asked");
    let fault = found.refused();
    assert!(
        fault.says("authentication database \"asked\" is disabled"),
        "{fault:?}"
    );
    assert_eq!(
        code(&pooler.login()),
        Ok(()),
        "a listed user needs no query"
    );
}

#[test]
fn what_a_client_set_is_not_there_when_it_runs() {
    let user = role("aq_reader", "");
    let pooler = with_query(
        "select usename, case when current_setting('application_name') = '' then passwd end from pg_shadow where usename = $1",
    )
    .database("app", "pool_size", 1)
    .start();
    for _ in 0..3 {
        let mut client = pooler.connect();
        client
            .query("set application_name = 'set by a client'")
            .good();
        client.query("set search_path = nowhere").good();
        let login = pooler.login().user(&user).password(&user);
        drop(client);
        assert_eq!(code(&login), Ok(()));
    }
}
