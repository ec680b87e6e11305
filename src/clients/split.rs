//! What a session needs whose reads are split off: what it has done, how its texts are read, and the gate of its link.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::clients::trial::Trial;
use crate::clock::{self, Moment};
use crate::pools::routes::{self, Decision, Flight, Routes};
use crate::protocol::effects::Isolation;
use crate::protocol::parameters::Parameters;
use crate::protocol::prepared::Names;
use crate::routing::ask::{Ask, Bar};
use crate::routing::cache::{Cache, Recent, Scope};
use crate::routing::circumstances::Circumstances;
use crate::routing::classify::Facts;
use crate::routing::dice::Dice;
use crate::routing::fitness::is_soon;
use crate::routing::intent::Intent;
use crate::routing::own::Wish;
use crate::routing::reason::Reason;
use crate::routing::request::{self, Asked, Cutter, Known, Verdict};
use crate::routing::route::Route;
use crate::routing::standing::{Standing, Terms};
use crate::routing::talk::Talk;
use crate::topology::node::Role;

thread_local! {
    static RECENT: RefCell<Recent> = RefCell::default();
}

/// What may pass from the client to its server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Gate {
    /// Everything.
    #[default]
    Open,
    /// So many bytes, which have been judged.
    Judged(usize),
    /// One request, within a transaction.
    One(Cutter),
    /// Nothing until what passed is answered.
    Closed,
    /// What the next request is, once it is read.
    Judging,
}

/// What a session needs whose reads are split off.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) routes: Arc<Routes>,
    pub(super) standing: Standing,
    pub(super) dice: Dice,
    pub(super) scope: Option<(Arc<Parameters>, Arc<Scope>)>,
    /// What the session has SET of the pooler's own settings.
    pub(super) wish: Wish,
    /// What it has when all settings are reset.
    usual: Wish,
    /// What is being asked.
    pub(super) asked: Asked,
    /// What it says of them in the extended protocol, while that goes on.
    pub(super) talk: Option<Box<Talk>>,
    /// It has given names to statements about them.
    pub(super) owns_names: bool,
    /// So many held bytes are the beginning of a request; 0 when none is being gathered.
    pub(super) gathered: usize,
    pub(super) gate: Gate,
    pub(super) flight: Option<Flight>,
    /// A read is on its way to the primary, whose share it is.
    pub(super) share: Option<Flight>,
    /// How often the client said something on the link.
    pub(super) said: usize,
    /// A transaction on the primary has only read so far, and what comes is looked at for that.
    pub(super) is_watched: bool,
    /// What is under way on a replica, until its fate is known.
    pub(super) trial: Option<Trial>,
    /// A replica could not serve the request.
    pub(super) must_be_primary: bool,
    /// The primary was lost while it read.
    pub(super) is_asked_again: bool,
    /// So many reads in a row went to the primary for want of a replica.
    pub(super) strays: u32,
    /// Until when the request may wait for a sample.
    pub(super) waits_until: Option<Moment>,
    /// Where the request goes, while it is to be listed.
    pub(super) to_list: Option<Box<Decision>>,
    /// How its server isolates transactions by itself, once it was asked.
    pub(super) told: Option<Isolation>,
}

/// So many reads in a row go to the primary before one waits for the sample that would end this: a client that reads without a
/// pause would never see one that is newer than its last read.
const STRAYS: u32 = 2;
/// How long it waits.
const SOON: Duration = Duration::from_millis(20);
/// How long what was said to go to a replica waits for one.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

impl Split {
    pub(super) fn new(routes: Arc<Routes>, wish: Wish) -> Self {
        Self {
            routes,
            standing: Standing::default(),
            dice: Dice::new(routes::seed()),
            scope: None,
            wish,
            usual: wish,
            asked: Asked {
                ask: Ask::of(Intent::Unknown),
                size: 0,
                is_whole: false,
                resets: false,
            },
            talk: None,
            owns_names: false,
            gathered: 0,
            gate: Gate::Open,
            flight: None,
            share: None,
            said: 0,
            is_watched: false,
            trial: None,
            must_be_primary: false,
            is_asked_again: false,
            strays: 0,
            waits_until: None,
            to_list: None,
            told: None,
        }
    }

    /// Has what wants a replica and finds none wait on; false when it has waited for `limit`.
    pub(super) fn wait_on(&mut self, now: Moment, limit: Duration) -> bool {
        now < *self.waits_until.get_or_insert(now.after(limit))
    }

    /// Has it wait for the next sample in place of one more read on the primary; false where that is no use, or has lasted too long.
    pub(super) fn wait_for_sample(&mut self, around: &Circumstances<'_>) -> bool {
        if self.strays < STRAYS || self.must_be_primary || !is_soon(&self.standing, around) {
            self.waits_until = None;
            return false;
        }
        let until = *self.waits_until.get_or_insert(around.now.after(SOON));
        around.now < until
    }

    /// The scope in which the session's texts are read now.
    fn scope(&mut self, texts: &Cache, params: &Arc<Parameters>, user: &str) -> Arc<Scope> {
        let catalog = self.routes.catalog.load_full();
        if let Some((known, scope)) = &self.scope
            && Arc::ptr_eq(known, params)
            && scope.catalog.generation == catalog.generation
        {
            return Arc::clone(scope);
        }
        let terms = Terms::of(|name| params.get(name), user);
        let database = self.routes.database.as_bytes();
        let scope = texts.scope(database, &catalog, terms.path, terms.reading);
        self.standing.defaults = terms.defaults;
        self.scope = Some((Arc::clone(params), Arc::clone(&scope)));
        scope
    }

    /// Whether a replica might serve what is asked.
    pub(super) fn may_read(&self) -> bool {
        let ask = self.ask();
        ask.intent == Intent::Read || ask.begins.is_some()
    }

    /// What is to be asked of [`route`].
    pub(super) fn ask(&self) -> Ask {
        if self.must_be_primary {
            return Ask::barred(Bar::Again);
        }
        self.asked.ask.by(&self.standing)
    }

    /// A link begins for what is asked, which goes where `route` says.
    pub(super) fn sets_out(&mut self, route: Route, now: Moment) {
        self.said = 0;
        self.is_watched = false;
        self.trial = None;
        self.flight = None;
        self.share = (route.why == Reason::Share).then(|| self.routes.takes_off(route.node, now));
        self.gate = Gate::Open;
        if route.role == Role::Replica {
            self.gate = if self.asked.is_whole {
                Gate::Judged(self.asked.size)
            } else {
                Gate::One(Cutter::default())
            };
            self.flight = Some(self.routes.takes_off(route.node, now));
            // Who asked for a replica hears what it says.
            let is_tried = self.asked.is_whole && route.why != Reason::Asked;
            self.trial = is_tried.then(Trial::default);
        } else if self.is_read() {
            // What the client has sent behind it is not known to read.
            self.gate = Gate::Judged(self.asked.size);
            let may_be_asked_again = !self.must_be_primary && !self.is_asked_again;
            self.trial = may_be_asked_again.then(Trial::on_primary);
        }
    }

    /// Whether what goes to the primary now is known to read, and nothing else.
    fn is_read(&self) -> bool {
        let asked = &self.asked.ask;
        asked.intent == Intent::Read && asked.begins.is_none() && self.asked.is_whole
    }

    /// Whether all that the client said on the link is known to read.
    pub(super) fn has_only_read(&self) -> bool {
        let ask = &self.asked.ask;
        (self.said <= 1 || self.is_watched)
            && ask.intent <= Intent::NodeLocal
            && ask.begins.is_none()
    }

    /// Whether nothing was done by what the client said on the link, whatever became of it.
    pub(super) fn changes_nothing(&self) -> bool {
        self.said <= 1 && self.asked.is_whole && self.has_only_read()
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.gate, Gate::Closed)
    }
}

/// A session's own knowledge of texts and names.
struct Knowledge<'a> {
    texts: &'a Cache,
    recent: &'a mut Recent,
    pub(super) scope: &'a Scope,
    names: &'a Names,
    now: Moment,
    /// Every text is one that a replica has refused: until when it goes to the primary.
    offends_until: Option<Moment>,
}

impl Knowledge<'_> {
    fn facts(&mut self, text: &[u8]) -> Arc<Facts> {
        let facts = self.texts.facts(self.recent, self.scope, text);
        if let Some(until) = self.offends_until {
            facts.offence.note(until);
        }
        facts
    }
}

impl Known for Knowledge<'_> {
    fn text(&mut self, text: &[u8]) -> Verdict {
        Verdict::at(&self.facts(text), self.now)
    }

    fn named(&mut self, name: &[u8]) -> Option<Verdict> {
        let statement = self.names.get(name)?;
        let noted = statement.noted();
        if noted >> 16 == self.scope.id() && self.offends_until.is_none() {
            return Some(Verdict::from_bits(noted & 0xFFFF));
        }
        let facts = self.facts(statement.text());
        let verdict = Verdict::at(&facts, self.now);
        // That a replica has refused it is over some day.
        let lasts = !facts.offence.is_on(self.now);
        let note = self.scope.id() << 16 | verdict.to_bits();
        statement.take_note(if lasts { note } else { 0 });
        Some(verdict)
    }
}

/// Reads what is asked: all of it, or the first request alone, of a client in a transaction. `offends_until`: a replica has refused it.
pub(super) fn judge(
    split: &mut Split,
    params: &Arc<Parameters>,
    user: &str,
    names: &Names,
    bytes: &[u8],
    (is_first, offends_until): (bool, Option<Moment>),
) -> Option<Asked> {
    let texts = split.routes.texts.load_full();
    let scope = split.scope(&texts, params, user);
    let asked = RECENT.with_borrow_mut(|recent| {
        let mut known = Knowledge {
            texts: &texts,
            recent,
            scope: &scope,
            names,
            now: clock::now(),
            offends_until,
        };
        if is_first {
            request::read_first(bytes, &mut known)
        } else {
            request::read(bytes, &mut known)
        }
    });
    if asked.is_some_and(|asked| asked.resets) {
        split.wish = split.usual;
    }
    asked
}

/// What is known of a text in the session's scope.
pub(super) fn facts_of(
    split: &mut Split,
    params: &Arc<Parameters>,
    user: &str,
    text: &[u8],
) -> Arc<Facts> {
    let texts = split.routes.texts.load_full();
    let scope = split.scope(&texts, params, user);
    RECENT.with_borrow_mut(|recent| texts.facts(recent, &scope, text))
}
