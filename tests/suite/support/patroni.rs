//! A cluster that Patroni keeps: three nodes, and etcd of one or three members.
//!
//! Each node has an address of its own in 127.0.0.0/8 with PostgreSQL's and Patroni's usual ports, so that several clusters live side by
//! side, and a folder of its own for its socket, through which the tests ask it without a password.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pooler::cli::ask;
use pooler::cli::folder::Folder;
use pooler::cli::guardian::Guardian;
use pooler::cli::server::Server;
use serde_json::Value;

use super::postgres::binaries;
use super::tls::Authority;
use super::wire::Address;
use super::wiring::{NETWORK, Wiring};
use super::{eventually, languages, packages};

/// Nodes.
pub const NODES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(90);
const SECOND: Duration = Duration::from_secs(1);
/// The scope, under `/service`.
pub const SCOPE: &str = "main";

/// A program that runs for the cluster.
struct Part {
    server: Option<Server>,
}

/// The cluster: gone when dropped.
pub struct Patroni {
    managers: Vec<Part>,
    keepers: Vec<Part>,
    /// Ends whatever works in the folder, once the managers are gone: they start servers that are nobody's children.
    guardian: Guardian,
    folder: Folder,
    /// How its nodes are reached.
    pub wiring: Wiring,
    /// The first three parts of every address.
    network: String,
    /// Its etcd takes TLS, too.
    is_secure: bool,
}

impl Drop for Patroni {
    fn drop(&mut self) {
        // A manager that is asked to stop would take its time, and stop its PostgreSQL with a checkpoint.
        for node in 0..NODES {
            self.kill_manager(node);
        }
        for keeper in 0..self.keepers.len() {
            self.kill_keeper(keeper);
        }
    }
}

fn postmaster_in(folder: &Path, node: usize) -> Option<u32> {
    let file = folder.join(format!("n{node}/data/postmaster.pid"));
    let pid = fs::read_to_string(file)
        .ok()?
        .lines()
        .next()?
        .parse()
        .ok()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}

/// Sends `name` to `pid`, which may be gone.
pub fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, &pid.to_string()]);
    kill.stderr(Stdio::null()).status().unwrap();
}

impl Patroni {
    /// Starts etcd with `keepers` members and three nodes, and waits for a primary with a synchronous standby and another replica.
    /// `more` is put into the dynamic configuration, as JSON without the outer braces.
    pub fn start(keepers: usize, more: &str) -> Self {
        Self::started(Self::with_keepers(keepers), more)
    }

    /// The same, each node with a cable that can be pulled.
    pub fn with_cables(keepers: usize, more: &str) -> Self {
        let wiring = Wiring::cables(NODES, keepers);
        Self::started(Self::wired(keepers, wiring, NETWORK.to_owned()), more)
    }

    fn started(mut cluster: Self, more: &str) -> Self {
        for node in 0..NODES {
            cluster.configure(node, more);
            cluster.start_manager(node);
        }
        cluster.wait_until_whole();
        cluster
    }

    /// Starts etcd with one member that takes TLS, too, with a certificate of `authority`; see [`Patroni::secure_keeper`].
    pub fn with_secure_keeper(authority: &Authority) -> Self {
        let mut cluster = Self::with_keepers(1);
        let host = format!("{}.101", cluster.network);
        let identity = authority.sign("etcd", &[&host]);
        for (name, text) in [
            ("cert.pem", &identity.certificate),
            ("key.pem", &identity.key),
        ] {
            fs::write(cluster.path(name), text).unwrap();
            cluster.own(&cluster.path(name));
        }
        cluster.kill_keeper(0);
        cluster.is_secure = true;
        cluster.start_keeper(0);
        cluster
    }

    /// Where etcd takes TLS.
    pub fn secure_keeper(&self) -> String {
        format!("https://{}.101:2378", self.network)
    }

    /// Has etcd forget what its keys were before.
    pub fn compact(&self) {
        let key = r#"{"key":"AA==","limit":1}"#;
        let answer = http(&self.keeper(0), "POST", "/v3/kv/range", key);
        let answer: Value = serde_json::from_str(&answer.unwrap().1).unwrap();
        let revision = &answer["header"]["revision"];
        let body = format!(r#"{{"revision":{revision},"physical":true}}"#);
        let answer = http(&self.keeper(0), "POST", "/v3/kv/compaction", &body);
        assert_eq!(answer.unwrap().0, 200);
    }

    /// From now on etcd has users, of whom `name` may read what stands under the scope.
    pub fn have_users(&self, name: &str, password: &str) {
        let key = STANDARD.encode(format!("/service/{SCOPE}/"));
        let end = STANDARD.encode(format!("/service/{SCOPE}0"));
        let steps = [
            (
                "user/add",
                r#"{"name": "root", "password": "x"}"#.to_owned(),
            ),
            (
                "user/grant",
                r#"{"user": "root", "role": "root"}"#.to_owned(),
            ),
            (
                "user/add",
                format!(r#"{{"name": "{name}", "password": "{password}"}}"#),
            ),
            ("role/add", r#"{"name": "reader"}"#.to_owned()),
            (
                "role/grant",
                format!(
                    r#"{{"name": "reader", "perm": {{"permType": "READ", "key": "{key}", "range_end": "{end}"}}}}"#
                ),
            ),
            (
                "user/grant",
                format!(r#"{{"user": "{name}", "role": "reader"}}"#),
            ),
            ("enable", "{}".to_owned()),
        ];
        for (step, body) in steps {
            let answer = http(&self.keeper(0), "POST", &format!("/v3/auth/{step}"), &body);
            let (status, said) = answer.expect("etcd answers");
            assert_eq!(status, 200, "{step}: {said}");
        }
    }

    /// Starts etcd with `keepers` members, and nothing else.
    pub fn with_keepers(keepers: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = std::process::id().wrapping_mul(7).wrapping_add(number);
        let network = format!("127.{}.{}", 32 + (own >> 8) % 200, own % 256);
        Self::wired(keepers, Wiring::Loopback, network)
    }

    fn wired(keepers: usize, wiring: Wiring, network: String) -> Self {
        let folder = Folder::new(binaries().account()).unwrap();
        let mut cluster = Self {
            guardian: Guardian::over(folder.path()).unwrap(),
            folder,
            managers: (0..NODES).map(|_| Part { server: None }).collect(),
            keepers: (0..keepers).map(|_| Part { server: None }).collect(),
            wiring,
            network,
            is_secure: false,
        };
        for keeper in 0..keepers {
            cluster.start_keeper(keeper);
        }
        cluster
    }

    /// Waits for a primary with a synchronous standby, both replicas streaming from it.
    pub fn wait_until_whole(&self) {
        eventually(PATIENCE, "the cluster is whole", || {
            let Some(leader) = self
                .leader()
                .filter(|_| self.with_role("sync_standby").is_some())
            else {
                return false;
            };
            let whole = "select count(*) = 2 and bool_or(sync_state in ('sync', 'quorum')) \
                         from pg_stat_replication where state = 'streaming'";
            self.try_sql(leader, whole).as_deref() == Some("t")
        });
    }

    /// The host of `node`.
    pub fn host(&self, node: usize) -> String {
        format!("{}.{}", self.network, node + 1)
    }

    /// The address of Patroni's REST interface on `node`.
    pub fn rest(&self, node: usize) -> String {
        format!("{}:8008", self.host(node))
    }

    /// The host of member `keeper` of etcd.
    pub fn keepers_host(&self, keeper: usize) -> String {
        format!("{}.{}", self.network, keeper + 101)
    }

    /// The address of member `keeper` of etcd.
    pub fn keeper(&self, keeper: usize) -> String {
        format!("{}.{}:2379", self.network, keeper + 101)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn own(&self, path: &Path) {
        if let Some(account) = binaries().account() {
            account.own(path).unwrap();
        }
    }

    /// Writes what Patroni is told.
    fn configure(&self, node: usize, more: &str) {
        let (host, home) = (self.host(node), self.path(&format!("n{node}")));
        for folder in [home.clone(), home.join("sock")] {
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
                .unwrap();
            self.own(&folder);
        }
        let home = home.display();
        let keepers: Vec<String> = (0..self.keepers.len())
            .map(|keeper| format!("\"{}\"", self.keeper(keeper)))
            .collect();
        let text = format!(
            r#"{{
"scope": "{SCOPE}", "name": "n{node}",
"restapi": {{"listen": "{host}:8008", "connect_address": "{host}:8008"}},
"etcd3": {{"hosts": [{}]}},
"bootstrap": {{
  "dcs": {{"ttl": 20, "loop_wait": 1, "retry_timeout": 5, "synchronous_mode": true {more},
    "postgresql": {{"use_pg_rewind": true, "parameters": {{"fsync": "off", "wal_log_hints": "on", "max_connections": 60,
      "shared_buffers": "16MB", "wal_keep_size": "256MB", "max_wal_size": "256MB"}}}}}},
  "initdb": [{{"encoding": "UTF8"}}, {{"locale": "C"}}, "no-sync"]}},
"postgresql": {{
  "listen": "{host}:5432", "connect_address": "{host}:5432", "data_dir": "{home}/data", "bin_dir": "{}",
  "pgpass": "{home}/pgpass", "use_unix_socket": true,
  "parameters": {{"unix_socket_directories": "{home}/sock"}},
  "pg_hba": ["local all all trust", "host all all all trust", "host replication all all trust"],
  "authentication": {{"superuser": {{"username": "postgres", "password": "x"}},
    "replication": {{"username": "repl", "password": "x"}}}}}}
}}"#,
            keepers.join(", "),
            binaries().folder().display(),
        );
        let file = self.path(&format!("n{node}.yml"));
        fs::write(&file, text).unwrap();
        self.own(&file);
    }

    fn launch(&mut self, name: &str, mut command: Command) -> Part {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")))
            .unwrap();
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let server = Server::start(&mut command, "KILL").unwrap();
        self.guardian.watch(server.pid());
        Part {
            server: Some(server),
        }
    }

    /// Starts the manager of `node`.
    pub fn start_manager(&mut self, node: usize) {
        let mut command = languages::patroni();
        command.arg(self.path(&format!("n{node}.yml")));
        let command = self.wiring.place(node, command, self.folder.path());
        self.managers[node] = self.launch(&format!("patroni{node}"), command);
    }

    /// Starts a member of etcd.
    pub fn start_keeper(&mut self, keeper: usize) {
        let installed = Path::new("/usr/bin/etcd");
        let program = if installed.exists() && !packages::is_forced() {
            installed.to_owned()
        } else {
            packages::unpacked(&["etcd-server"]).join("usr/bin/etcd")
        };
        let peer = |keeper: usize| format!("http://{}.{}:2380", self.network, keeper + 101);
        let members: Vec<String> = (0..self.keepers.len())
            .map(|keeper| format!("e{keeper}={}", peer(keeper)))
            .collect();
        let mut client = format!("http://{}", self.keeper(keeper));
        if self.is_secure {
            client += &format!(",{}", self.secure_keeper());
        }
        let data = self.path(&format!("etcd{keeper}"));
        let mut command = binaries().other(program);
        command
            .arg("--data-dir")
            .arg(data)
            .args(["--name", &format!("e{keeper}")])
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(keeper)])
            .args(["--initial-advertise-peer-urls", &peer(keeper)])
            .args(["--initial-cluster", &members.join(",")])
            .args(["--log-level", "error", "--unsafe-no-fsync"]);
        if self.is_secure {
            command.arg("--cert-file").arg(self.path("cert.pem"));
            command.arg("--key-file").arg(self.path("key.pem"));
        }
        self.keepers[keeper] = self.launch(&format!("etcd{keeper}"), command);
    }

    fn kill(part: &mut Part, guardian: &mut Guardian) {
        if let Some(mut server) = part.server.take() {
            server.kill().unwrap();
            guardian.forget(server.pid());
        }
    }

    /// Kills the manager of `node`; its PostgreSQL lives on.
    pub fn kill_manager(&mut self, node: usize) {
        Self::kill(&mut self.managers[node], &mut self.guardian);
    }

    /// Has the manager of `node` end, which stops its PostgreSQL before.
    pub fn end_manager(&mut self, node: usize) {
        if let Some(mut server) = self.managers[node].server.take() {
            assert!(server.end("TERM").unwrap(), "Patroni ends");
            self.guardian.forget(server.pid());
        }
    }

    /// Kills a member of etcd.
    pub fn kill_keeper(&mut self, keeper: usize) {
        Self::kill(&mut self.keepers[keeper], &mut self.guardian);
    }

    /// Forgets all that a member of etcd, which must be down, has stored.
    pub fn empty_keeper(&self, keeper: usize) {
        fs::remove_dir_all(self.path(&format!("etcd{keeper}"))).unwrap();
    }

    /// The process of the manager of `node`.
    pub fn manager(&self, node: usize) -> u32 {
        self.managers[node].server.as_ref().unwrap().pid()
    }

    /// The postmaster of `node`, if it runs.
    pub fn postmaster(&self, node: usize) -> Option<u32> {
        postmaster_in(self.folder.path(), node)
    }

    /// The first value that `sql` brings on `node`; none when it cannot be asked.
    pub fn try_sql(&self, node: usize, sql: &str) -> Option<String> {
        let socket = self.path(&format!("n{node}/sock/.s.PGSQL.5432"));
        let answer = ask::ask(&socket, "postgres", "postgres", sql).ok()?;
        Some(answer.first().unwrap_or_default().to_owned())
    }

    /// Where PostgreSQL of `node` listens.
    pub fn address(&self, node: usize) -> Address {
        Address::Tcp(self.host(node), 5432)
    }

    /// As [`Patroni::try_sql`], of a node that can be asked.
    #[track_caller]
    pub fn sql(&self, node: usize, sql: &str) -> String {
        let answer = self.try_sql(node, sql);
        answer.unwrap_or_else(|| panic!("node {node} does not do {sql:?}"))
    }

    /// Puts `value` under `key` of the scope into etcd; none deletes the key.
    pub fn put(&self, key: &str, value: Option<&str>) {
        let key = STANDARD.encode(format!("/service/{SCOPE}/{key}"));
        let (path, body) = match value {
            Some(value) => {
                let value = STANDARD.encode(value);
                ("put", format!(r#"{{"key":"{key}","value":"{value}"}}"#))
            }
            None => ("deleterange", format!(r#"{{"key":"{key}"}}"#)),
        };
        let path = format!("/v3/kv/{path}");
        eventually(PATIENCE, "etcd takes a key", || {
            let answer = http(&self.keeper(0), "POST", &path, &body);
            answer.is_some_and(|(status, _)| status == 200)
        });
    }

    /// Asks Patroni on `node`; the status and the body. None when nobody answers.
    pub fn http(&self, node: usize, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        http(&self.rest(node), method, path, body)
    }

    /// Who leads, by what Patroni's members say.
    pub fn leader(&self) -> Option<usize> {
        self.with_role("leader")
    }

    /// The leader, once Patroni tells one: on a busy machine it may be slow to answer, or have none for a moment.
    pub fn leads(&self) -> usize {
        let mut found = None;
        eventually(PATIENCE, "Patroni tells who leads", || {
            found = self.leader();
            found.is_some()
        });
        found.unwrap()
    }

    fn with_role(&self, role: &str) -> Option<usize> {
        let asked = (0..NODES).find_map(|node| {
            let address = self.rest(node);
            let answer = http_within(SECOND, &address, "GET", "/cluster", "");
            answer.filter(|(status, _)| *status == 200)
        });
        let document: Value = serde_json::from_str(&asked?.1).ok()?;
        let mut members = document["members"].as_array()?.iter();
        let member = members.find(|member| member["role"] == role)?;
        member["name"].as_str()?.strip_prefix('n')?.parse().ok()
    }

    /// The synchronous standby, once Patroni knows of one.
    pub fn standby(&self) -> usize {
        let mut found = None;
        eventually(PATIENCE, "there is a synchronous standby", || {
            found = self.with_role("sync_standby");
            found.is_some()
        });
        found.unwrap()
    }

    /// Has Patroni switch over from `from` to `to`, and waits for its answer.
    pub fn switchover(&self, from: usize, to: usize) {
        let body = format!(r#"{{"leader": "n{from}", "candidate": "n{to}"}}"#);
        let answer = self.http(from, "POST", "/switchover", &body);
        let answer = answer.expect("Patroni answers");
        assert_eq!(answer.0, 200, "{}", answer.1);
    }
}

fn http(address: &str, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    http_within(PATIENCE, address, method, path, body)
}

fn http_within(
    patience: Duration,
    address: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, SECOND).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}
