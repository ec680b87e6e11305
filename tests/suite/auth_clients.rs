//! Clients that people use log in under each `auth_type`: psql, pgbench, psycopg and asyncpg. They must find the pooler's demands no
//! different from PostgreSQL's, and its refusals errors that they can read.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::auth_matrix::{Scene, account, account_of_programs, scene};
use crate::support::languages::python;
use crate::support::packages::postgres_with_tls;
#[cfg(feature = "pam")]
use crate::support::pam::Service;
use crate::support::pgbouncer::{Side, Which};
use crate::support::pooler::{Pooler, config};
use crate::support::postgres::binaries;

/// Logs in with both drivers: prints "in", or the class of the error, for the password on the command line.
const DRIVERS: &str = r#"
import asyncio, sys
import asyncpg, psycopg
host, port, password = sys.argv[1:4]
try:
    with psycopg.connect(host=host, port=port, user="app", dbname="app", password=password) as session:
        print("psycopg", session.execute("select 'in'").fetchone()[0])
except psycopg.OperationalError as error:
    assert "authentication failed" in str(error), error
    print("psycopg refused")
async def main():
    try:
        session = await asyncpg.connect(host=host, port=int(port), user="app", database="app", password=password, ssl=False)
        print("asyncpg", await session.fetchval("select 'in'"))
        await session.close()
    except asyncpg.InvalidPasswordError:
        print("asyncpg refused")
asyncio.run(main())
"#;

/// Logs in with both drivers as the environment says: prints "in", or the server's words.
const DRIVERS_BY_ENVIRONMENT: &str = r#"
import asyncio, asyncpg, psycopg
try:
    with psycopg.connect("") as session:
        print(session.execute("select 'in'").fetchone()[0])
except psycopg.OperationalError as error:
    print(str(error).split("FATAL:  ")[1].splitlines()[0])
async def main():
    try:
        session = await asyncpg.connect()
        print(await session.fetchval("select 'in'"))
        await session.close()
    except asyncpg.PostgresError as error:
        print(error)
asyncio.run(main())
"#;

/// What psql, psycopg and asyncpg say of a login with `password`.
fn said(pooler: &Pooler, password: &str) -> Vec<String> {
    let port = pooler.port.to_string();
    let psql = postgres_with_tls()
        .command("psql")
        .args([
            "-X",
            "-At",
            "-w",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "app",
        ])
        .args(["-c", "select 'psql in'", "app"])
        .env("PGPASSWORD", password)
        .output()
        .expect("psql is there");
    let error = String::from_utf8_lossy(&psql.stderr);
    let mut said = vec![if error.contains("authentication failed") {
        "psql refused".to_owned()
    } else {
        String::from_utf8_lossy(&psql.stdout).trim().to_owned()
    }];
    let output = Command::new("python3")
        .args(["-c", DRIVERS, "127.0.0.1", &port, password])
        .env("PYTHONPATH", python())
        .output()
        .expect("python3 is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.extend(
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned),
    );
    said
}

/// Logs in with each client under each of `auth_types`; with a wrong password, too, which some ask for.
fn log_in_under(auth_types: &[(&str, bool)]) {
    for &(auth_type, asks) in auth_types {
        let config = config()
            .pooler("auth_type", auth_type)
            .database("app", "user", "app");
        let config = match auth_type {
            "hba" => config
                .pooler("auth_hba_file", "{folder}/hba")
                .file("hba", "host all all 127.0.0.1/32 scram-sha-256\n"),
            _ => config,
        };
        let pooler = config.start();
        let all = |what: &str| ["psql", "psycopg", "asyncpg"].map(|name| format!("{name} {what}"));
        assert_eq!(said(&pooler, "app"), all("in"), "{auth_type}");
        let wrong = if asks { all("refused") } else { all("in") };
        assert_eq!(
            said(&pooler, "wrong"),
            wrong,
            "{auth_type}, a wrong password"
        );
        let script = pooler.folder.join("bench.sql");
        fs::write(&script, "select 1;\n").expect("the folder is writable");
        let bench = postgres_with_tls()
            .command("pgbench")
            .args([
                "-n",
                "-h",
                "127.0.0.1",
                "-p",
                &pooler.port.to_string(),
                "-U",
                "app",
            ])
            .args(["-c", "2", "-t", "5", "-f", "/dev/stdin", "app"])
            .env("PGPASSWORD", "app")
            .stdin(File::open(&script).expect("it was just written"))
            .output()
            .expect("pgbench is there");
        assert!(
            bench.status.success(),
            "{auth_type}: {}",
            String::from_utf8_lossy(&bench.stderr)
        );
    }
}

#[test]
fn drivers_and_programs_log_in_under_each_auth_type() {
    log_in_under(&[
        ("any", false),
        ("trust", false),
        ("plain", true),
        ("md5", true),
        ("scram-sha-256", true),
        ("hba", true),
    ]);
}

#[cfg(feature = "pam")]
#[test]
fn drivers_and_programs_log_in_under_pam() {
    let _service = Service::install();
    log_in_under(&[("pam", true)]);
}

/// What psql, pgbench, psycopg and asyncpg find with this environment: "in", or the server's words.
fn found(environment: &[(&str, String)], folder: &Path) -> Vec<String> {
    let script = folder.join("bench.sql");
    fs::write(&script, "select 1;\n").expect("the folder is writable");
    let mut psql = postgres_with_tls().command("psql");
    psql.args(["-X", "-At", "-w", "-c", "select 'in'"]);
    let mut pgbench = postgres_with_tls().command("pgbench");
    pgbench
        .args(["-n", "-c", "2", "-t", "5", "-f", "/dev/stdin"])
        .stdin(File::open(&script).expect("it was just written"));
    // Python runs as the tests do.
    let own = ("PGUSER", account_of_programs());
    let is_own_name = environment.contains(&own);
    let mut said = Vec::new();
    for mut client in [psql, pgbench] {
        let output = client
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .output()
            .expect("the program is there");
        let error = String::from_utf8_lossy(&output.stderr);
        said.push(match error.split_once("FATAL:  ") {
            None if output.status.success() => "in".to_owned(),
            None => error.into_owned(),
            Some((_, words)) => words.lines().next().unwrap_or_default().to_owned(),
        });
    }
    let output = Command::new("python3")
        .args(["-c", DRIVERS_BY_ENVIRONMENT])
        .env("PYTHONPATH", python())
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .envs(is_own_name.then(|| ("PGUSER", account())))
        .output()
        .expect("python3 is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    said.extend(text(&output.stdout).lines().map(str::to_owned));
    said
}

/// The environment of a client that has the right proof, or another one.
fn environment(
    scene: &Scene,
    side: &Side,
    method: &str,
    is_right: bool,
) -> Vec<(&'static str, String)> {
    let is_peer = method == "hba peer of one name";
    let user = if is_peer && is_right {
        account_of_programs()
    } else {
        "app".to_owned()
    };
    let host = match is_peer {
        true => side.folder.display().to_string(),
        false => "127.0.0.1".to_owned(),
    };
    let password = if is_right { "app" } else { "wrong" };
    let mut environment = vec![
        ("PGHOST", host),
        ("PGPORT", side.port.to_string()),
        ("PGUSER", user),
        ("PGDATABASE", "app".to_owned()),
        ("PGPASSWORD", password.to_owned()),
    ];
    if !method.ends_with("cert") {
        environment.push(("PGSSLMODE", "disable".to_owned()));
        return environment;
    }
    let name = if is_right { "app" } else { "other" };
    let identity = scene.authority.sign(name, &[]);
    let path = |file: &str| side.folder.join(format!("{name}.{file}"));
    fs::write(path("crt"), &identity.certificate).expect("the folder is writable");
    fs::write(path("key"), &identity.key).expect("the folder is writable");
    fs::set_permissions(path("key"), fs::Permissions::from_mode(0o600)).expect("the file is ours");
    if let Some(account) = binaries().account() {
        let owned = account.own(&path("key"));
        owned.expect("root may give files away");
    }
    environment.push(("PGSSLMODE", "verify-ca".to_owned()));
    for (variable, file) in [
        ("PGSSLCERT", path("crt")),
        ("PGSSLKEY", path("key")),
        ("PGSSLROOTCERT", side.folder.join("ca.crt")),
    ] {
        environment.push((variable, file.display().to_string()));
    }
    environment
}

/// Each method of an ini: what a client with the right proof finds, and one with another.
const BY_INI: &[(&str, &str, &str)] = &[
    ("any", "in", "in"),
    ("trust", "in", "in"),
    ("plain", "in", "password authentication failed"),
    ("md5", "in", "password authentication failed"),
    ("scram-sha-256", "in", "SASL authentication failed"),
    ("cert", "in", "certificate authentication failed"),
    ("ldap", "in", "LDAP authentication failed"),
    ("hba trust", "in", "in"),
    ("hba password", "in", "password authentication failed"),
    ("hba md5", "in", "password authentication failed"),
    ("hba scram-sha-256", "in", "SASL authentication failed"),
    ("hba cert", "in", "certificate authentication failed"),
    ("hba peer of one name", "in", "unix socket login rejected"),
    ("hba ldap", "in", "LDAP authentication failed"),
    ("hba reject", "login rejected", "login rejected"),
];

/// Logs in with each client by each of `methods`, at both.
fn find_the_same(methods: &[(&str, &str, &str)]) {
    let scene = scene();
    let mut wrong = Vec::new();
    for (method, right, other) in methods {
        for which in [Which::PgBouncer, Which::Pooler] {
            // Debian's PgBouncer asks no directory.
            if which == Which::PgBouncer && method.ends_with("ldap") {
                continue;
            }
            let side = scene.side(which, method);
            for (is_right, expected) in [(true, right), (false, other)] {
                let environment = environment(&scene, &side, method, is_right);
                let found = found(&environment, &side.folder);
                if found != [*expected; 4] {
                    wrong.push(format!(
                        "{which:?}, {method}, right: {is_right}: {expected} expected, {found:?} found"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn from_an_ini_drivers_and_programs_find_what_they_find_at_pgbouncer() {
    find_the_same(BY_INI);
}

#[cfg(feature = "pam")]
#[test]
fn from_an_ini_drivers_and_programs_find_under_pam_what_they_find_at_pgbouncer() {
    let _service = Service::install();
    find_the_same(&[("pam", "in", "PAM authentication failed")]);
}
