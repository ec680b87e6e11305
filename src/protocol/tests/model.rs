//! Clients that share a server against clients that each have one of their own: nobody may tell the difference.
//!
//! The server is a small model of PostgreSQL: statements, portals, a transaction status, skip to Sync. Bytes are cut at
//! random, and replies come early or late.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{Link, frame, linked, show};
use crate::protocol::sides::ClientSide;

/// A PostgreSQL session, as far as a pooler could spoil it.
struct Model {
    statements: BTreeMap<String, String>,
    portals: BTreeMap<String, String>,
    is_skipping: bool,
    status: char,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Model {
    fn new() -> Self {
        Self {
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            is_skipping: false,
            status: 'I',
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    fn hears(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while let Some(size) = self
            .input
            .get(1..5)
            .map(|length| 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize)
            .filter(|size| self.input.len() >= *size)
        {
            let message: Vec<u8> = self.input.drain(..size).collect();
            let body = String::from_utf8(message[5..].to_vec()).unwrap();
            self.takes(char::from(message[0]), &body);
        }
    }

    fn takes(&mut self, tag: char, body: &str) {
        let part = |index: usize| body.split('\0').nth(index).unwrap_or_default().to_owned();
        let done = match tag {
            'S' => {
                self.is_skipping = false;
                self.ready();
                return;
            }
            _ if self.is_skipping => return,
            'H' => return,
            'Q' => {
                let text = part(0);
                let done = self
                    .refuses(&text)
                    .map_or_else(|| self.runs(&text, true), Err);
                if let Err(code) = done {
                    self.fails(code);
                }
                self.ready();
                return;
            }
            'P' => self.parses(&part(0), &part(1)),
            'B' => self.binds(&part(0), &part(1)),
            'D' if body.starts_with('S') => self.describes_statement(&part(0)[1..]),
            'D' => self.describes_portal(&part(0)[1..]),
            'E' => match self.portals.get(&part(0)).cloned() {
                Some(text) => self
                    .refuses(&text)
                    .map_or_else(|| self.runs(&text, false), Err),
                None => Err("34000"),
            },
            'C' => {
                if body.starts_with('S') {
                    self.statements.remove(&part(0)[1..]);
                } else {
                    self.portals.remove(&part(0)[1..]);
                }
                self.says("3 ");
                Ok(())
            }
            _ => panic!("the server got {tag} {body:?}"),
        };
        if let Err(code) = done {
            self.fails(code);
            self.is_skipping = true;
        }
    }

    fn says(&mut self, text: &str) {
        self.output.extend_from_slice(&frame(text));
    }

    fn fails(&mut self, code: &str) {
        self.says(&format!("E {code} it failed"));
        if self.status == 'T' {
            self.status = 'E';
        }
    }

    fn ready(&mut self) {
        if self.status == 'I' {
            self.portals.clear();
        }
        self.says(&format!("Z {}", self.status));
    }

    fn refuses(&self, text: &str) -> Option<&'static str> {
        (self.status == 'E' && text != "rollback").then_some("25P02")
    }

    fn parses(&mut self, name: &str, text: &str) -> Result<(), &'static str> {
        if text == "mistake" {
            return Err("42601");
        }
        if let Some(code) = self.refuses(text) {
            return Err(code);
        }
        if !name.is_empty() && self.statements.contains_key(name) {
            return Err("42P05");
        }
        self.statements.insert(name.to_owned(), text.to_owned());
        self.says("1 ");
        Ok(())
    }

    fn binds(&mut self, portal: &str, name: &str) -> Result<(), &'static str> {
        let text = self.statements.get(name).ok_or("26000")?.clone();
        if let Some(code) = self.refuses(&text) {
            return Err(code);
        }
        self.portals.insert(portal.to_owned(), text);
        self.says("2 ");
        Ok(())
    }

    fn describes_statement(&mut self, name: &str) -> Result<(), &'static str> {
        let text = self.statements.get(name).ok_or("26000")?.clone();
        if let Some(code) = self.refuses(&text) {
            return Err(code);
        }
        self.says("t ||");
        self.describes(&text);
        Ok(())
    }

    fn describes_portal(&mut self, portal: &str) -> Result<(), &'static str> {
        let text = self.portals.get(portal).ok_or("34000")?.clone();
        self.describes(&text);
        Ok(())
    }

    fn describes(&mut self, text: &str) {
        if text.starts_with("select") {
            self.says(&format!("T {text}{}", "x".repeat(100)));
        } else {
            self.says("n ");
        }
    }

    fn runs(&mut self, text: &str, is_simple: bool) -> Result<(), &'static str> {
        match text {
            "mistake" => return Err("42601"),
            "fail" => return Err("22012"),
            "begin" if self.status == 'I' => self.status = 'T',
            "rollback" => self.status = 'I',
            "deallocate all" => self.statements.clear(),
            _ => {}
        }
        if text.starts_with("select") {
            if is_simple {
                self.describes(text);
            }
            self.says(&format!("D {text}"));
        }
        self.says(&format!("C {}|", text.to_uppercase()));
        Ok(())
    }
}

/// The frames, with of every error only what is the same for all: its code. A name given twice, in a failed transaction,
/// with a mistake in its text, is wrong in three ways, and any may be told.
fn plain(bytes: &[u8]) -> Vec<String> {
    show(bytes)
        .into_iter()
        .map(|shown| match shown.strip_prefix("E ") {
            Some(error) => match &error[..5] {
                "25P02" | "42P05" | "42601" => "E refused".to_owned(),
                code => format!("E {code}"),
            },
            None => shown,
        })
        .collect()
}

/// Where bytes are cut and who speaks next: numbers from the test's own source of chance.
struct Chance(VecDeque<u8>);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        let number = self.0.pop_front().unwrap_or(0);
        self.0.push_back(number);
        usize::from(number) % limit
    }

    fn take(&mut self, bytes: &mut Vec<u8>) -> Vec<u8> {
        let most = bytes.len().min([1, 3, 7, 40, 10_000][self.below(5)]);
        bytes.drain(..most).collect()
    }
}

struct World {
    link: Link,
    server: Model,
    from_server: Vec<u8>,
    chance: Chance,
}

impl World {
    fn new(statements: usize, chance: Vec<u8>) -> Self {
        Self {
            link: linked().holding_at_most(statements),
            server: Model::new(),
            from_server: Vec::new(),
            chance: Chance(chance.into()),
        }
    }

    /// The client sends `request`; everything goes its way until nobody has anything left to say.
    fn talk(&mut self, request: &[u8]) {
        let mut request = request.to_vec();
        while !request.is_empty() || !self.link.to_server.is_empty() || !self.from_server.is_empty()
        {
            let has_words =
                [&request, &self.link.to_server, &self.from_server].map(|bytes| !bytes.is_empty());
            let mut speaker = self.chance.below(3);
            while !has_words[speaker] {
                speaker = (speaker + 1) % 3;
            }
            match speaker {
                0 => {
                    let piece = self.chance.take(&mut request);
                    self.link.client_bytes(&piece);
                }
                1 => {
                    let piece = self.chance.take(&mut self.link.to_server);
                    self.server.hears(&piece);
                    self.from_server.append(&mut self.server.output);
                }
                _ => {
                    let piece = self.chance.take(&mut self.from_server);
                    self.link.server_bytes(&piece);
                }
            }
            assert!(self.link.error.is_none(), "{:?}", self.link.error);
        }
    }

    /// What nobody can get right: a name that is used or given twice while it is open whether a DEALLOCATE ALL has freed it.
    fn is_open_to_doubt(alone: &Model, batch: &[String]) -> bool {
        let all = "deallocate all";
        let known = alone.statements.values().chain(alone.portals.values());
        let discards = known.chain(batch).any(|text| text.contains(all));
        // Names, and whether something has run since they were given.
        let mut given: BTreeMap<&str, bool> = alone
            .statements
            .keys()
            .map(|name| (name.as_str(), true))
            .collect();
        let touches_known = batch.iter().any(|text| {
            let body = &text[2..];
            match text.as_bytes()[0] {
                b'P' => {
                    let name = body.split('|').next().unwrap();
                    given.insert(name, false).is_some() && !name.is_empty()
                }
                b'B' => given.get(body.split('|').nth(1).unwrap()) == Some(&true),
                b'D' => given.get(body[1..].trim_end_matches('|')) == Some(&true),
                b'Q' | b'E' => {
                    given.values_mut().for_each(|is_old| *is_old = true);
                    false
                }
                _ => false,
            }
        });
        discards && touches_known
    }

    fn become_client(&mut self, side: &mut ClientSide) {
        std::mem::swap(&mut self.link.client, side);
    }
}

fn text() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "select 1",
        "select 2",
        "select 3",
        "insert",
        "begin",
        "rollback",
        "fail",
        "mistake",
        "deallocate all",
    ])
}

fn statement_name() -> impl Strategy<Value = &'static str> {
    // The unnamed statement lives by other rules; `names.rs` has its pictures.
    prop::sample::select(vec!["a", "b", "c", "POOLER_1"])
}

fn portal_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "p"])
}

fn message() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (statement_name(), text()).prop_map(|(name, text)| format!("P {name}|{text}|||")),
        4 => (portal_name(), statement_name()).prop_map(|(portal, name)| format!("B {portal}|{name}||||")),
        1 => statement_name().prop_map(|name| format!("D S{name}|")),
        1 => portal_name().prop_map(|name| format!("D P{name}|")),
        4 => portal_name().prop_map(|name| format!("E {name}|||||")),
        2 => statement_name().prop_map(|name| format!("C S{name}|")),
        1 => portal_name().prop_map(|name| format!("C P{name}|")),
        1 => Just("H ".to_owned()),
        1 => text().prop_map(|text| format!("Q {text}|")),
    ]
}

/// A batch; it ends with Sync, or, once in a while, with a Query.
fn batch() -> impl Strategy<Value = Vec<String>> {
    let end = prop_oneof![
        4 => Just("S ".to_owned()),
        1 => text().prop_map(|text| format!("Q {text}|")),
    ];
    (prop::collection::vec(message(), 0..8), end).prop_map(|(mut messages, end)| {
        messages.push(end);
        messages
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn clients_that_share_a_server_see_what_each_would_see_alone(
        statements in 1usize..4,
        turns in prop::collection::vec((0usize..3, batch()), 1..16),
        chance in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let mut world = World::new(statements, chance);
        let mut alone: Vec<Model> = (0..3).map(|_| Model::new()).collect();
        let mut sides: Vec<ClientSide> = (0..3)
            .map(|_| ClientSide::new(world.link.server.params.clone()))
            .collect();
        let mut holder = None;
        for (who, batch) in turns {
            let who = holder.unwrap_or(who);
            if World::is_open_to_doubt(&alone[who], &batch) {
                continue;
            }
            world.become_client(&mut sides[who]);
            let bytes: Vec<u8> = batch.iter().flat_map(|text| frame(text)).collect();
            world.talk(&bytes);
            alone[who].hears(&bytes);
            let expected = plain(&std::mem::take(&mut alone[who].output));
            let heard = plain(&std::mem::take(&mut world.link.to_client));
            prop_assert_eq!(heard, expected, "{:?}", batch);
            prop_assert_eq!(world.link.server.held.len() <= statements, true);
            holder = (!world.link.is_over()).then_some(who);
            prop_assert_eq!(
                holder.is_some(),
                alone[who].is_skipping
                    || alone[who].status != 'I'
            );
            world.become_client(&mut sides[who]);
        }
    }

    #[test]
    fn deep_pipelines_of_prepared_statements_see_what_they_would_see_alone(
        statements in 1usize..4,
        turns in prop::collection::vec(
            (0usize..2, prop::collection::vec(
                prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d", "fail"]), 0..4),
                1..6,
            )),
            1..6,
        ),
        chance in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let mut world = World::new(statements, chance);
        let mut alone: Vec<Model> = (0..2).map(|_| Model::new()).collect();
        let mut sides: Vec<ClientSide> = (0..2)
            .map(|_| ClientSide::new(world.link.server.params.clone()))
            .collect();
        let prepare = ["P a|select 1|||", "P b|select 2|||", "P c|select 3|||", "P d|insert|||", "P fail|fail|||", "S "];
        let prepare: Vec<u8> = prepare.iter().flat_map(|text| frame(text)).collect();
        for (who, side) in sides.iter_mut().enumerate() {
            world.become_client(side);
            world.talk(&prepare);
            world.become_client(side);
            alone[who].hears(&prepare);
            alone[who].output.clear();
        }
        world.link.to_client.clear();
        for (who, batches) in turns {
            world.become_client(&mut sides[who]);
            let mut bytes = Vec::new();
            for batch in batches {
                for name in batch {
                    for text in [&format!("B |{name}||||"), "D P|", "E |||||"] {
                        bytes.extend(frame(text));
                    }
                }
                bytes.extend(frame("S "));
            }
            world.talk(&bytes);
            alone[who].hears(&bytes);
            let expected = plain(&std::mem::take(&mut alone[who].output));
            let heard = plain(&std::mem::take(&mut world.link.to_client));
            prop_assert_eq!(heard, expected);
            prop_assert!(world.link.is_over());
            world.become_client(&mut sides[who]);
        }
    }
}
