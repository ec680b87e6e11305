//! A switchover that an operator asks for comes about, or is told not to have, in Patroni's own words.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::cluster::Scene;
use crate::support::eventually;
use crate::support::pooler::Pooler;
use crate::support::wire::batch;

const LONG: Duration = Duration::from_secs(60);

/// Stands in for Patroni: names the nodes of a scene as its members, and notes what it is told to do.
struct Fake {
    url: String,
    told: Arc<Mutex<Vec<String>>>,
    leaves: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Fake {
    /// From now on nobody listens there.
    fn leave(self) {
        self.leaves.store(true, Ordering::SeqCst);
        let address = self.url.trim_start_matches("http://");
        drop(TcpStream::connect(address).unwrap());
        self.task.join().unwrap();
    }
}

/// What it answers to whoever wants a switchover; none hangs up.
type Answer = Option<(u16, &'static str)>;

fn patroni(scene: &Scene, answer: Answer) -> Fake {
    patroni_beside(scene, answer, None)
}

/// The same, of whose members Patroni listens at `rest`.
fn patroni_beside(scene: &Scene, answer: Answer, rest: Option<&str>) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let rest = rest.unwrap_or(&url);
    let member = |node: usize| {
        let role = if node == 0 { "leader" } else { "replica" };
        let port = scene.ports[node];
        format!(
            r#"{{"name":"n{node}","role":"{role}","host":"127.0.0.1","port":{port},"api_url":"{rest}"}}"#
        )
    };
    let members: Vec<String> = (0..3).map(member).collect();
    let document = format!(r#"{{"members":[{}]}}"#, members.join(","));
    let told = Arc::new(Mutex::new(Vec::new()));
    let leaves = Arc::new(AtomicBool::new(false));
    let (notes, is_over) = (Arc::clone(&told), Arc::clone(&leaves));
    let task = thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if is_over.load(Ordering::SeqCst) {
                return;
            }
            serve(stream, &document, answer, &notes);
        }
    });
    Fake {
        url,
        told,
        leaves,
        task,
    }
}

fn serve(mut stream: TcpStream, document: &str, answer: Answer, told: &Mutex<Vec<String>>) {
    let mut chunk = [0; 4096];
    let count = stream.read(&mut chunk).unwrap_or(0);
    let asked = String::from_utf8_lossy(&chunk[..count]).into_owned();
    let (status, body) = if asked.starts_with("POST") {
        told.lock().unwrap().push(asked);
        match answer {
            Some((status, body)) => (status, body),
            None => return,
        }
    } else {
        (200, document)
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let _ = stream.write_all(answer.as_bytes());
}

fn pooler(scene: &Scene, patroni: &Fake) -> Pooler {
    pooler_before(scene, [&patroni.url])
}

fn pooler_before<const N: usize>(scene: &Scene, urls: [&str; N]) -> Pooler {
    let pooler = scene.config().set("clusters.main", "patroni", urls).start();
    pooler.connect().query("select 1").good();
    pooler
}

/// Asks for a switchover until Patroni has been heard, and returns what is said instead of that it came about.
fn told(pooler: &Pooler, command: &str) -> String {
    let mut message = String::new();
    eventually(LONG, "Patroni is asked", || {
        let reply = pooler.console().query(command);
        let fault = reply.error();
        assert_eq!(fault.code, "55000");
        message.clone_from(&fault.message);
        !message.contains("no Patroni names the primary")
    });
    message
}

/// The same, and returns why there is none.
fn refused(pooler: &Pooler, command: &str) -> String {
    let message = told(pooler, command);
    let words = message.split_once("did not come about: ");
    words.expect("it says so").1.to_owned()
}

#[test]
fn a_switchover_that_patroni_refuses_is_told_in_its_words_and_nobody_waits_for_it() {
    let scene = Scene::start();
    let words = "no good candidates have been found for switchover";
    let fake = patroni(&scene, Some((412, words)));
    let pooler = pooler(&scene, &fake);
    let detail = refused(&pooler, "SWITCHOVER main");
    assert_eq!(detail, format!("Patroni refuses: status 412: {words}"));
    assert!(pooler.log().contains(words));
    eventually(Duration::from_secs(3), "nobody waits", || {
        pooler.show("SHOW CLUSTERS").column("phase") == ["stable"]
    });
    pooler.connect().query("insert into t values (1)").good();
    let to = format!("SWITCHOVER main TO '127.0.0.1:{}'", scene.ports[2]);
    refused(&pooler, &to);
    let told = fake.told.lock().unwrap().pop().unwrap();
    assert!(told.contains(r#""leader":"n0""#), "{told}");
    assert!(told.contains(r#""candidate":"n2""#), "{told}");
}

#[test]
fn a_switchover_that_nobody_can_be_asked_for_is_told_so() {
    let scene = Scene::start();
    let fake = patroni(&scene, Some((412, "not today")));
    let pooler = pooler(&scene, &fake);
    refused(&pooler, "SWITCHOVER main");
    fake.leave();
    let detail = refused(&pooler, "SWITCHOVER main");
    assert!(
        detail.starts_with("no Patroni answers: 127.0.0.1:"),
        "{detail}"
    );
    let alone = scene.config().start();
    alone.connect().query("select 1").good();
    let reply = alone.console().query("SWITCHOVER main TO n1");
    let detail = reply.error().message.clone();
    assert!(detail.contains("no Patroni keeps this cluster"), "{detail}");
    let reply = alone.console().query("SWITCHOVER other");
    assert_eq!(reply.error().code, "42704");
}

#[test]
fn whom_patroni_may_have_heard_is_asked_once_and_what_became_of_it_is_called_unknown() {
    let scene = Scene::start();
    // The leader's Patroni cannot be reached: the next one hears of it, and hangs up.
    let fake = patroni_beside(&scene, None, Some("http://127.0.0.1:1"));
    let other = patroni(&scene, Some((200, "done")));
    let pooler = pooler_before(&scene, [&fake.url, &other.url]);
    let message = told(&pooler, "SWITCHOVER main");
    let unknown = "nobody knows whether the switchover comes about: Patroni at 127.0.0.1:";
    assert!(message.contains(unknown), "{message}");
    assert_eq!(fake.told.lock().unwrap().len(), 1);
    assert_eq!(other.told.lock().unwrap().len(), 0);
    assert!(pooler.log().contains("nobody knows whether Patroni"));
    eventually(LONG, "nobody waits for it for long", || {
        pooler.show("SHOW CLUSTERS").column("phase") == ["stable"]
    });
    // Patroni has waited for it, and says so.
    let fake = patroni(&scene, Some((503, "Switchover status unknown")));
    let pooler = pooler_before(&scene, [&fake.url]);
    let message = told(&pooler, "SWITCHOVER main");
    assert!(message.contains("nobody knows"), "{message}");
}

#[test]
fn with_drain_grace_what_runs_may_end_before_patroni_is_asked_and_nothing_begins() {
    let scene = Scene::start();
    let fake = patroni(&scene, Some((412, "not today")));
    let urls = [fake.url.as_str()];
    let config = scene.config().set("clusters.main", "patroni", urls);
    let config = config.set("clusters.main", "drain_grace", "60s");
    let pooler = config.start();
    let was_asked = || !fake.told.lock().unwrap().is_empty();
    let (mut runs, mut waits) = (pooler.connect(), pooler.connect());
    eventually(LONG, "Patroni has named the nodes", || {
        pooler.show("SHOW CLUSTERS").column("phase") == ["stable"]
            && pooler.show("SHOW NODES").rows.len() == 3
    });
    runs.query("begin; insert into t values (1)").good();
    let mut console = pooler.console();
    console.send(batch().query("SWITCHOVER main"));
    eventually(LONG, "the primary is drained", || {
        pooler.show("SHOW CLUSTERS").column("phase") == ["draining"]
    });
    waits.send(batch().query("insert into t values (2)"));
    eventually(LONG, "what is new waits", || {
        pooler.show("SHOW CLUSTERS").column("holding") == ["1"]
    });
    runs.query("insert into t values (3)").good();
    assert!(!was_asked(), "a transaction still runs");
    runs.query("commit").good();
    assert_eq!(console.until_ready().error().code, "55000");
    assert!(was_asked());
    waits.until_ready().good();

    // What does not end in time is not waited for.
    pooler.reload(&config.set("clusters.main", "drain_grace", "200ms"));
    fake.told.lock().unwrap().clear();
    runs.query("begin; insert into t values (4)").good();
    assert_eq!(console.query("SWITCHOVER main").error().code, "55000");
    assert!(was_asked());
    runs.query("commit").good();
}
