//! How the nodes of a cluster are wired: by the loopback, or each in a network namespace of its own with a cable that can be pulled.
//!
//! Namespaces are made only by a process that is itself in one of its own, where it disturbs nobody and leaves nothing behind:
//! [`is_own_network`] runs a test again in such a process.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use pooler::cli::server::Server;

use super::languages;
use super::postgres::{binaries, postgres};
use super::{guard, unguard};

const INSIDE: &str = "POOLER_TEST_OWN_NETWORK";
/// The first three parts of the addresses.
pub const NETWORK: &str = "10.99.0";
/// Nobody has this one.
const NOBODY: &str = "02:00:00:00:00:99";

/// How nodes are wired.
pub enum Wiring {
    /// Each has an address on the loopback.
    Loopback,
    /// Each has a namespace, held by a process, and a cable to a common switch.
    Cables(Vec<Server>),
}

impl Drop for Wiring {
    fn drop(&mut self) {
        if let Self::Cables(holders) = self {
            for holder in holders {
                let _ = holder.kill();
                unguard(holder.pid());
            }
        }
    }
}

#[track_caller]
fn run(program: &str, words: &str) {
    let mut command = Command::new(program);
    let output = command.args(words.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words}: {said}");
}

/// Whether this process has a network of its own. If not, runs `test` (its full name) in one that has; where the machine lets nobody make
/// one, says so.
#[track_caller]
pub fn is_own_network(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        run("ip", "link set lo up");
        return true;
    }
    // Whoever is inside reaches nobody outside: what must be fetched is fetched here.
    languages::patroni();
    postgres();
    let may = Command::new("unshare")
        .args(["-n", "ip", "link", "add", "type", "bridge"])
        .stdin(Stdio::null())
        .output();
    match may {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            println!("{test} is skipped: no network of its own may be made here: {said}");
            return false;
        }
        Err(error) => {
            println!("{test} is skipped: unshare and ip are not there: {error}");
            return false;
        }
    }
    let mut again = Command::new("unshare");
    again.arg("-n").arg(env::current_exe().unwrap());
    again
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1");
    assert!(again.status().unwrap().success(), "{test} has failed");
    false
}

impl Wiring {
    /// Cables for so many nodes, and a switch with so many addresses for the keepers.
    pub fn cables(nodes: usize, keepers: usize) -> Self {
        run("ip", "link add switch type bridge");
        run("ip", "link set switch up");
        for keeper in 0..keepers.max(1) {
            run(
                "ip",
                &format!("addr add {NETWORK}.{}/24 dev switch", keeper + 101),
            );
        }
        let mut holders = Vec::new();
        for node in 0..nodes {
            let mut sleep = Command::new("unshare");
            sleep.args(["-n", "sleep", "infinity"]);
            let holder = Server::start(&mut sleep, "KILL").unwrap();
            let pid = holder.pid();
            guard(pid);
            let own = format!("/proc/{pid}/ns/net");
            let ours = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
            super::eventually(super::wire::PATIENCE, "there is a namespace", || {
                std::fs::metadata(&own).is_ok_and(|its| its.ino() != ours)
            });
            run(
                "ip",
                &format!("link add cable{node} type veth peer name eth0 netns {pid}"),
            );
            run("ip", &format!("link set cable{node} master switch up"));
            holders.push(holder);
        }
        let cables = Self::Cables(holders);
        for node in 0..nodes {
            cables.within(node, "ip link set lo up");
            let address = format!("{NETWORK}.{}/24", node + 1);
            cables.within(node, &format!("ip addr add {address} dev eth0"));
            cables.within(node, "ip link set eth0 up");
        }
        cables
    }

    fn holder(&self, node: usize) -> u32 {
        match self {
            Self::Loopback => panic!("the loopback has no cables"),
            Self::Cables(holders) => holders[node].pid(),
        }
    }

    fn within(&self, node: usize, words: &str) {
        run("nsenter", &format!("-t {} -n {words}", self.holder(node)));
    }

    /// Pulls the cable of `node`: whatever is sent is lost, and nobody is told.
    pub fn pull(&self, node: usize) {
        self.holder(node);
        run("ip", &format!("link set cable{node} nomaster"));
    }

    /// Puts it back.
    pub fn put_back(&self, node: usize) {
        run("ip", &format!("link set cable{node} master switch"));
    }

    /// What `node` sends to `host` is lost.
    pub fn lose(&self, node: usize, host: &str) {
        let to = format!("{host} lladdr {NOBODY} dev eth0 nud permanent");
        self.within(node, &format!("ip neigh replace {to}"));
    }

    /// It arrives again.
    pub fn deliver(&self, node: usize, host: &str) {
        self.within(node, &format!("ip neigh del {host} dev eth0"));
    }

    /// `command`, run where `node` is. `folder` belongs to whom it is to run as.
    pub fn place(&self, node: usize, command: Command, folder: &Path) -> Command {
        if matches!(self, Self::Loopback) {
            return command;
        }
        let mut placed = Command::new("nsenter");
        placed.args(["-t", &self.holder(node).to_string(), "-n"]);
        if let Some(account) = binaries().account() {
            let group = std::fs::metadata(folder).unwrap().gid().to_string();
            placed.args(["setpriv", "--reuid", account.name(), "--regid", &group]);
            placed.arg("--clear-groups");
        }
        placed.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => placed.env(name, value),
                None => placed.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            placed.current_dir(folder);
        }
        placed
    }
}
