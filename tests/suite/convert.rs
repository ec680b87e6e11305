//! `pooler convert`: a `pgbouncer.ini` becomes a `pooler.toml` that means the same, or says where it does not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pooler::config::environment::Environment;
use pooler::config::listing;
use pooler::config::load::load_file;
use pooler::config::settings::{PoolerSettings, Settings};
use pooler::config::value::Dialect;

use crate::support::folder;
use crate::support::pooler::binary;

/// The keys of the sample that PgBouncer's packages bring, set as there or, where they are commented out, as proposed there.
const SAMPLE: &str = "\
;; databases
[databases]
; over the Unix socket
foodb =
bardb = host=localhost dbname=bazdb
forcedb = host=localhost port=300 user=baz password=foo client_encoding=UNICODE datestyle=ISO connect_query='SELECT 1'
nondefaultdb = pool_size=50 reserve_pool_size=10
* = host=testserver

[users]
user1 = pool_mode=transaction max_user_connections=10

[pgbouncer]
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pgbouncer.pid
listen_addr = localhost
listen_port = 6432
unix_socket_dir = /tmp
unix_socket_mode = 0777
unix_socket_group =
client_tls_sslmode = disable
client_tls_ca_file =
client_tls_key_file =
client_tls_cert_file =
client_tls_protocols = secure
client_tls_ciphers = default
server_tls_sslmode = prefer
server_tls_protocols = all
auth_type = trust
auth_file = {folder}/users.txt
auth_hba_file =
auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename=$1
auth_dbname =
admin_users = user2, someadmin, otheradmin
stats_users = stats, root
pool_mode = session
max_prepared_statements = 200
server_reset_query = DISCARD ALL
server_reset_query_always = 0
ignore_startup_parameters = extra_float_digits
server_check_query = select 1
server_check_delay = 30
application_name_add_host = 0
max_client_conn = 100
default_pool_size = 20
min_pool_size = 0
reserve_pool_size = 0
reserve_pool_timeout = 5
max_db_connections = 0
max_user_connections = 0
server_round_robin = 0
syslog = 0
syslog_facility = daemon
syslog_ident = pgbouncer
log_connections = 1
log_disconnections = 1
log_pooler_errors = 1
log_stats = 1
stats_period = 60
suspend_timeout = 10
server_fast_close = 0
verbose = 0
server_lifetime = 3600
server_idle_timeout = 600
server_connect_timeout = 15
server_login_retry = 15
query_timeout = 0
query_wait_timeout = 120
cancel_wait_timeout = 10
client_idle_timeout = 0
client_login_timeout = 60
autodb_idle_timeout = 3600
idle_transaction_timeout = 0
transaction_timeout = 0
pkt_buf = 4096
listen_backlog = 128
max_packet_size = 2147483647
sbuf_loopcnt = 5
so_reuseport = 0
tcp_defer_accept = 0
tcp_socket_buffer = 0
tcp_keepalive = 1
tcp_keepcnt = 0
tcp_keepidle = 0
tcp_keepintvl = 0
tcp_user_timeout = 0
dns_max_ttl = 15
dns_zone_check_period = 0
dns_nxdomain_ttl = 15
resolv_conf =
disable_pqexec = 0
job_name = pgbouncer
";

/// Every key there is, at another value than its default.
const EVERY_KEY: &str = "\
[databases]
other = host=h
'odd \"name' = host=/run/pg user=u
* = host=star
every = host=h1,h2 port=5001,5002 dbname=d user=u password='p ''q'' ${HOME} \\' auth_user=asker auth_query='SELECT a, b FROM f($1)' auth_dbname=other pool_size=7 min_pool_size=2 reserve_pool=3 max_db_connections=9 max_db_client_connections=8 server_lifetime=60 query_wait_timeout=5 pool_mode=statement load_balance_hosts=disable connect_query='SELECT ''x''' client_encoding=UTF8 datestyle=ISO timezone=UTC application_name=app

[users]
ann = pool_mode=transaction pool_size=6 reserve_pool_size=2 max_user_connections=5 max_user_client_connections=4 transaction_timeout=3 idle_transaction_timeout=2 query_timeout=1 query_wait_timeout=0 client_idle_timeout=9
bob =

[peers]
3 = host=10.0.0.3
4 = host=10.0.0.4 port=6433 pool_size=5

[pgbouncer]
admin_users = ann, bob
application_name_add_host = 1
auth_dbname = other
auth_file = {folder}/users.txt
auth_hba_file = {folder}/hba.conf
auth_ident_file = {folder}/ident.conf
auth_ldap_options = ldapserver=ds.example ldapbasedn=\"dc=example\"
auth_query = SELECT a, b FROM find('$1')
auth_type = hba
auth_user = asker
autodb_idle_timeout = 3601
cancel_wait_timeout = 11
client_idle_timeout = 0.5
client_login_timeout = 61
client_tls13_ciphers = TLS_AES_256_GCM_SHA384
client_tls_ca_file = {folder}/ca.pem
client_tls_cert_file = {folder}/cert.pem
client_tls_ciphers = HIGH
client_tls_dheparams = legacy
client_tls_ecdhcurve = prime256v1
client_tls_key_file = {folder}/key.pem
client_tls_protocols = tlsv1.3
client_tls_sslmode = verify-full
conffile = {folder}/other.ini
default_pool_size = 21
disable_pqexec = 1
dns_max_ttl = 16
dns_nxdomain_ttl = 17
dns_zone_check_period = 18
idle_transaction_timeout = 19
ignore_startup_parameters = extra_float_digits, options
job_name = other
listen_addr = 127.0.0.1, ::1
listen_backlog = 129
listen_port = 6433
log_connections = 0
log_disconnections = 0
log_pooler_errors = 0
log_stats = 0
logfile = {folder}/p.log
login_notify_message = it's \"here\" \\ ${NOT_A_VARIABLE}
max_client_conn = 0x65
max_db_client_connections = 1
max_db_connections = 2
max_packet_size = 1000000
max_prepared_statements = 201
max_user_client_connections = 3
max_user_connections = 4
min_pool_size = 5
peer_id = 3
pidfile = {folder}/p.pid
pkt_buf = 8192
pool_mode = statement
pool_idle_timeout = 6
query_timeout = 0.1
query_wait_notify = 7
query_wait_timeout = 121
reserve_pool_size = 8
reserve_pool_timeout = 9
resolv_conf = {folder}/resolv.conf
sbuf_loopcnt = 6
scram_iterations = 4097
server_check_delay = 31
server_check_query = select 2
server_connect_timeout = 16
server_fast_close = 1
server_idle_timeout = 601
server_lifetime = 3602
server_login_retry = 1.25
server_reset_query = RESET ALL
server_reset_query_always = 1
server_round_robin = 1
server_tls13_ciphers = TLS_AES_128_GCM_SHA256
server_tls_ca_file = {folder}/ca.pem
server_tls_cert_file = {folder}/cert.pem
server_tls_ciphers = HIGH
server_tls_key_file = {folder}/key.pem
server_tls_protocols = tlsv1.2
server_tls_sslmode = verify-ca
so_reuseport = 1
stats_period = 59
stats_users = cat
suspend_timeout = 9
syslog = 1
syslog_facility = local3
syslog_ident = other
tcp_defer_accept = 0
tcp_keepalive = 0
tcp_keepcnt = 2
tcp_keepidle = 3
tcp_keepintvl = 4
tcp_socket_buffer = 4096
tcp_user_timeout = 1234
track_extra_parameters = IntervalStyle, search_path
transaction_timeout = 22
unix_socket_dir = {folder}
unix_socket_group = nogroup
unix_socket_mode = 0700
user = nobody
verbose = 2
";

/// A folder with `ini` as `p.ini`, and the files that it names.
fn folder_with(ini: &str) -> PathBuf {
    let folder = folder("convert");
    for name in [
        "users.txt",
        "userlist.txt",
        "hba.conf",
        "ident.conf",
        "ca.pem",
        "cert.pem",
        "key.pem",
        "resolv.conf",
    ] {
        fs::write(folder.join(name), "").unwrap();
    }
    let ini = ini.replace("{folder}", &folder.display().to_string());
    fs::write(folder.join("p.ini"), ini).unwrap();
    folder
}

fn convert(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("convert").args(arguments).current_dir(folder);
    // Variables of ours say nothing about the ini.
    command.env("POOLER__POOLER__LISTEN_PORT", "1");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `file` says, in a process that has no variables.
fn settings(file: &Path) -> Settings {
    let read = load_file(file, &Environment::default());
    read.unwrap_or_else(|problems| panic!("{problems}"))
        .settings
}

/// `settings` of an ini, without what a `pooler.toml` cannot say: its dialect, and keys that change nothing.
fn sayable(mut settings: Settings) -> Settings {
    settings.dialect = Dialect::Native;
    let usual = PoolerSettings::default();
    settings.pooler = PoolerSettings {
        client_tls_ciphers: usual.client_tls_ciphers,
        client_tls13_ciphers: usual.client_tls13_ciphers,
        client_tls_dheparams: usual.client_tls_dheparams,
        client_tls_ecdhcurve: usual.client_tls_ecdhcurve,
        server_tls_ciphers: usual.server_tls_ciphers,
        server_tls13_ciphers: usual.server_tls13_ciphers,
        job_name: usual.job_name,
        pkt_buf: usual.pkt_buf,
        sbuf_loopcnt: usual.sbuf_loopcnt,
        tcp_defer_accept: usual.tcp_defer_accept,
        ..settings.pooler
    };
    settings
}

/// Converts `p.ini` of `folder` by way of standard output, and compares.
fn means_the_same(folder: &Path) -> (String, String) {
    let output = convert(folder, &["p.ini"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let made = text(&output.stdout);
    fs::write(folder.join("pooler.toml"), &made).unwrap();
    let expected = sayable(settings(&folder.join("p.ini")));
    let found = settings(&folder.join("pooler.toml"));
    assert_eq!(found.pooler, expected.pooler, "{made}");
    assert_eq!(found, expected, "{made}");
    (made, said)
}

#[test]
fn pgbouncers_own_sample_means_the_same() {
    let (made, said) = means_the_same(&folder_with(SAMPLE));
    assert!(made.contains("pool_mode = \"session\""), "{made}");
    assert!(!said.contains("p.ini:"), "nothing of it is lost: {said}");
}

#[test]
fn our_example_means_the_same() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pgbouncer.ini");
    let text = fs::read_to_string(example).unwrap();
    let text = text.replace("userlist.txt", "{folder}/userlist.txt");
    means_the_same(&folder_with(&text));
}

#[test]
fn every_key_of_pgbouncers_means_the_same() {
    let folder = folder_with(EVERY_KEY);
    let ini = settings(&folder.join("p.ini"));
    let usual: Vec<_> = listing::show(&ini)
        .into_iter()
        .filter(|row| row.value == row.default)
        .map(|row| row.key)
        .collect();
    assert!(
        usual.is_empty(),
        "the ini of this test leaves out {usual:?}"
    );
    let (made, said) = means_the_same(&folder);
    for key in ["client_tls_ciphers", "pkt_buf", "sbuf_loopcnt", "job_name"] {
        let lost = |text: &str| {
            text.lines()
                .any(|line| line.contains(&format!("pgbouncer.{key}: ")))
        };
        assert!(lost(&said), "{key} on standard error:\n{said}");
        assert!(
            made.lines()
                .take_while(|line| line.starts_with('#'))
                .any(lost),
            "{made}"
        );
    }
}

#[test]
fn a_file_elsewhere_names_the_same_files_and_is_not_written_over_by_itself() {
    let ini = "[databases]\na = host=h\n[pgbouncer]\nauth_file = users.txt\nauth_type = md5\n";
    let folder = folder_with(ini);
    fs::create_dir(folder.join("sub")).unwrap();
    let output = convert(&folder, &["p.ini", "-o", "sub/pooler.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    let found = settings(&folder.join("sub/pooler.toml"));
    assert_eq!(found.pooler.auth_file, Some(folder.join("users.txt")));

    let before = fs::read(folder.join("sub/pooler.toml")).unwrap();
    let output = convert(&folder, &["p.ini", "-o", "sub/pooler.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("sub/pooler.toml is there already"), "{said}");
    assert!(said.contains("--force"), "{said}");
    assert_eq!(fs::read(folder.join("sub/pooler.toml")).unwrap(), before);
    // Unless that is asked for.
    let written = folder.join("sub/pooler.toml");
    fs::write(&written, "x".repeat(100_000)).unwrap();
    let output = convert(&folder, &["p.ini", "-o", "sub/pooler.toml", "--force"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::read(&written).unwrap(), before);
    let mode = fs::metadata(&written).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "passwords may stand in it");
    // The group that reads it goes on reading it, and nobody else.
    for (before, after) in [(0o644, 0o640), (0o640, 0o640), (0o660, 0o640)] {
        fs::set_permissions(&written, fs::Permissions::from_mode(before)).unwrap();
        let output = convert(&folder, &["p.ini", "-o", "sub/pooler.toml", "--force"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mode = fs::metadata(&written).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, after, "it was {before:o}");
    }

    // In the same directory the path stays as it was written.
    let output = convert(&folder, &["p.ini", "-o", "here.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let here = fs::read_to_string(folder.join("here.toml")).unwrap();
    assert!(here.contains("\nauth_file = \"users.txt\""), "{here}");
}

#[test]
fn what_must_be_mended_is_said_and_fails() {
    let folder = folder_with("[databases]\na = host=h\n[pgbouncer]\nauth_file = gone.txt\n");
    let output = convert(&folder, &["p.ini"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("mend before it can be served: pooler.auth_file: "),
        "{said}"
    );
    assert!(text(&output.stdout).contains("# Mend before it can be served:\n"));

    fs::write(folder.join("p.ini"), "[pgbouncer]\nquery_timeout = 5s\n").unwrap();
    let output = convert(&folder, &["p.ini"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "", "a bad ini makes no file");
    assert!(text(&output.stderr).contains("p.ini:2:17: pgbouncer.query_timeout"));
}
