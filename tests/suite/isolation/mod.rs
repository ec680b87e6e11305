//! Nobody ever meets another client's session state in transaction mode, and what a client set up goes on working for it.
//!
//! Forty clients over eight servers make, see and clear every kind of session state that we know of ([`kinds`]), each with a
//! marker of its own, and leave without clearing now and then. The same run against PostgreSQL itself is the control, and the run
//! in PgBouncer's way shows that the check can fail.

mod kinds;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use self::kinds::{KINDS, Kind, SCENE, is_heard};
use crate::support::long;
use crate::support::pooler::config;
use crate::support::postgres::postgres;
use crate::support::wire::{Client, Login, PATIENCE, batch};

const CLIENTS: u64 = 40;
/// After how many refused logins in a row a client gives up.
const LOGINS: usize = 10;
const SERVERS: i32 = 8;

/// What went wrong, by kind.
#[derive(Debug, Default)]
struct Findings {
    rounds: usize,
    /// A client saw what it had not made.
    foreign: BTreeMap<&'static str, Vec<String>>,
    /// A client did not see what it had made, or could not make it.
    lost: BTreeMap<&'static str, Vec<String>>,
}

/// Numbers that look like chance, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// One client's worker: its login, its number, how many rounds it has done.
struct Worker<'a> {
    login: &'a Login,
    number: u64,
    round: u64,
    client: Client,
    dice: Dice,
}

impl Worker<'_> {
    fn filled(&self, text: &str) -> String {
        text.replace("{m}", &self.marker())
            .replace(
                "{n}",
                &(1_000 + self.number * 10_000 + self.round).to_string(),
            )
            .replace("{w}", &self.number.to_string())
    }

    fn marker(&self) -> String {
        format!("w{}r{}", self.number, self.round)
    }

    /// What a query gives, or `!` and the code of its error. What ends the connection is an error of another kind.
    fn ask(&mut self, text: &str) -> Result<String, String> {
        self.client
            .wire
            .send_bytes(&batch().query(text).0)
            .map_err(|error| format!("{text}: {error}"))?;
        let reply = self
            .client
            .try_until_ready()
            .map_err(|cut| format!("{text}: {:?} {}", cut.reply.errors, cut.error))?;
        let own = format!("iso_{}", self.marker());
        if let Some((channel, _)) = reply
            .notifications
            .iter()
            .find(|(channel, _)| *channel != own)
        {
            return Ok(format!("heard {channel}"));
        }
        if !reply.notifications.is_empty() {
            return Ok("heard".into());
        }
        if let Some(fault) = reply.errors.first() {
            return Ok(format!("!{} {}", fault.code, fault.message));
        }
        let cell = reply.rows.first().and_then(|row| row.first()).cloned();
        Ok(cell.flatten().unwrap_or_default())
    }

    /// Requests between which the server may change.
    fn idle_requests(&mut self) -> Result<(), String> {
        for _ in 0..=self.dice.roll(3) {
            let value = self.ask("select 1")?;
            if value != "1" && value != "heard" {
                return Err(value);
            }
        }
        Ok(())
    }

    fn do_all(&mut self, texts: &[&str]) -> Result<(), String> {
        for text in texts {
            let (text, may_fail) = text
                .strip_prefix('!')
                .map_or((*text, false), |rest| (rest, true));
            let said = self.ask(&self.filled(text))?;
            if said.starts_with('!') && !may_fail {
                return Err(format!("{text}: {said}"));
            }
        }
        Ok(())
    }

    /// Waits for the notification that the look sent.
    fn hears(&mut self) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.ask("select 1")?.as_str() {
                "heard" => return Ok(()),
                "1" => {}
                other => return Err(other.into()),
            }
        }
        Err("heard nothing".into())
    }

    /// Leaves and logs in anew. Where state leaks, a login may meet it, too.
    fn again(&mut self, kind: &'static Kind, findings: &Mutex<Findings>) {
        if self.dice.roll(2) == 0 {
            let _ = self.client.wire.send_bytes(&batch().terminate().0);
        }
        for _ in 0..LOGINS {
            match self.login.try_connect() {
                Ok(client) => {
                    self.client = client;
                    return;
                }
                Err(refusal) => {
                    let told = format!("login refused: {:?}", refusal.told());
                    note(&mut findings.lock().unwrap().lost, kind, told);
                }
            }
        }
        panic!(
            "{LOGINS} logins were refused: {:?}",
            findings.lock().unwrap()
        );
    }

    /// One kind, from the beginning to the end.
    fn live(&mut self, kind: &'static Kind, findings: &Mutex<Findings>) {
        self.round += 1;
        let seen = self.ask(&self.filled(kind.look));
        let is_nothing = |seen: &str| match kind.nothing {
            code if code.starts_with('!') => seen.starts_with(code),
            nothing => seen == nothing,
        };
        match seen {
            Ok(seen) if is_nothing(&seen) => {}
            Ok(seen) | Err(seen) => {
                note(&mut findings.lock().unwrap().foreign, kind, seen);
                return self.again(kind, findings);
            }
        }
        if let Err(problem) = self.keeps(kind) {
            note(&mut findings.lock().unwrap().lost, kind, problem);
            return self.again(kind, findings);
        }
        let stays = kind.clear.is_empty() && kind.own != kind.nothing;
        if stays || self.dice.roll(4) == 0 {
            return self.again(kind, findings);
        }
        if let Err(problem) = self.do_all(kind.clear) {
            note(&mut findings.lock().unwrap().lost, kind, problem);
            self.again(kind, findings);
        }
    }

    /// Makes it, and sees it whenever it looks.
    fn keeps(&mut self, kind: &Kind) -> Result<(), String> {
        self.do_all(kind.make)?;
        let own = self.filled(kind.own);
        for _ in 0..2 {
            self.idle_requests()?;
            let seen = self.ask(&self.filled(kind.look))?;
            if is_heard(kind) {
                if seen != "heard" {
                    self.hears()?;
                }
            } else if seen != own && !(own.starts_with('!') && seen.starts_with(&own)) {
                return Err(format!("{seen:?} instead of {own:?}"));
            }
        }
        Ok(())
    }
}

fn note(findings: &mut BTreeMap<&'static str, Vec<String>>, kind: &Kind, what: String) {
    findings.entry(kind.name).or_default().push(what);
}

/// Forty clients with `login`, for as long as `time`.
fn run(login: &Login, time: Duration) -> Findings {
    let findings = Mutex::new(Findings::default());
    let until = Instant::now() + time;
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let findings = &findings;
            scope.spawn(move || {
                let mut worker = Worker {
                    login,
                    number,
                    round: 0,
                    client: login.connect(),
                    dice: Dice(number * 7_919 + 1),
                };
                // Every client lives every kind at least once, in an order of its own; then by chance.
                let first = worker.dice.roll(KINDS.len() as u64);
                let mut at = 0;
                while at < KINDS.len() as u64 || Instant::now() < until {
                    let index = if at < KINDS.len() as u64 {
                        (first + at) % KINDS.len() as u64
                    } else {
                        worker.dice.roll(KINDS.len() as u64)
                    };
                    at += 1;
                    worker.live(&KINDS[usize::try_from(index).unwrap()], findings);
                }
                findings.lock().unwrap().rounds += usize::try_from(at).unwrap();
            });
        }
    });
    findings.into_inner().unwrap()
}

/// A database with what the kinds use.
fn scene() -> String {
    let database = postgres().database();
    let mut owner = postgres().watch(&database);
    owner.query(SCENE).good();
    for number in 0..CLIENTS {
        owner
            .query(&format!("create sequence iso_sequence_{number}; grant all on sequence iso_sequence_{number} to iso_role"))
            .good();
    }
    database
}

#[track_caller]
fn nothing_found(findings: &Findings) {
    eprintln!("{} rounds over {} kinds", findings.rounds, KINDS.len());
    let shown = |found: &BTreeMap<&'static str, Vec<String>>| -> Vec<String> {
        found
            .iter()
            .map(|(kind, seen)| format!("{kind}: {} times, such as {:?}", seen.len(), seen[0]))
            .collect()
    };
    assert!(
        findings.foreign.is_empty() && findings.lost.is_empty(),
        "foreign: {:#?}\nlost: {:#?}",
        shown(&findings.foreign),
        shown(&findings.lost)
    );
}

#[test]
fn with_postgres_itself_nobody_meets_anothers_state() {
    let database = scene();
    let login = Login::at(postgres().address())
        .user("postgres")
        .database(&database);
    nothing_found(&run(&login, Duration::from_secs(1)));
}

fn through(state: &str, time: Duration) -> Findings {
    let database = scene();
    let pooler = config()
        .user("postgres", "password", "any")
        .server("app", postgres().server(), &database)
        .pooler("default_pool_size", SERVERS)
        .pooler("session_state", state)
        .start();
    run(&pooler.login().user("postgres"), time)
}

#[test]
fn with_state_kept_nobody_meets_anothers_state_and_everybodys_own_works() {
    let seconds = if long() { 60 } else { 15 };
    nothing_found(&through("keep", Duration::from_secs(seconds)));
}

#[test]
fn in_pgbouncers_way_clients_meet_each_others_state_so_this_check_can_fail() {
    let findings = through("pgbouncer", Duration::from_secs(1));
    let kinds = findings.foreign.len();
    assert!(kinds > 10, "{findings:?}");
}
