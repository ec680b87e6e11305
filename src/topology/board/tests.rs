use super::Board;
use super::waiting::{Held, HoldLimits};
use crate::clock::Moment;
use crate::topology::choice::Memory;
use crate::topology::cluster::Cluster;
use crate::topology::membership::{Out, Service};
use crate::topology::node::Observation;
use crate::topology::phase::Phase;
use crate::topology::tests::{A, B, RULES, places};
use crate::topology::view::ClusterView;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn board(clients: usize) -> Arc<Board> {
    let now = Moment::from_micros(0);
    let cluster = Cluster::new("main", RULES, places(), Memory::default(), now);
    let limits = HoldLimits {
        timeout: Duration::from_secs(1),
        clients,
    };
    Board::new(cluster.view(), limits, Box::new(|_| {}))
}

#[test]
fn the_line_is_bounded_and_who_leaves_makes_room() {
    let board = board(1);
    let now = Moment::from_micros(0);
    let hold = board.hold(now, Waker::noop()).unwrap();
    assert!(board.hold(now, Waker::noop()).is_none());
    drop(hold);
    assert!(board.hold(now, Waker::noop()).is_some());
}

#[test]
fn each_that_goes_lets_the_next_go() {
    let limits = HoldLimits {
        timeout: Duration::from_secs(1),
        clients: 100,
    };
    let view = crate::topology::tests::stable().view();
    let board = Board::new(view, limits, Box::new(|_| {}));
    let mut cx = Context::from_waker(Waker::noop());
    let now = Moment::from_micros(0);
    let first = board.hold(now, Waker::noop()).unwrap();
    let second = board.hold(now, Waker::noop()).unwrap();
    board.let_go(1);
    assert_eq!(first.poll(&mut cx), Poll::Ready(Held::Go));
    assert_eq!(second.poll(&mut cx), Poll::Pending);
    drop(first);
    assert_eq!(second.poll(&mut cx), Poll::Ready(Held::Go));
}

#[test]
fn without_a_writer_only_who_could_read_looks_again_and_nobody_else_is_let_go() {
    let limits = HoldLimits {
        timeout: Duration::from_secs(1),
        clients: 100,
    };
    let view = crate::topology::tests::stable().view();
    let board = Board::new(view.clone(), limits, Box::new(|_| {}));
    let mut cx = Context::from_waker(Waker::noop());
    let now = Moment::from_micros(0);
    let reader = board.hold_for(now, Waker::noop(), true).unwrap();
    let writer = board.hold(now, Waker::noop()).unwrap();
    let suspect = ClusterView {
        phase: Phase::Suspect,
        ..view.clone()
    };
    board.publish(suspect, &[], None);
    assert_eq!(reader.poll(&mut cx), Poll::Pending);
    let lost = ClusterView {
        phase: Phase::NoWriter,
        writer: None,
        ..view
    };
    board.publish(lost.clone(), &[], None);
    assert_eq!(reader.poll(&mut cx), Poll::Ready(Held::Go));
    drop(reader);
    assert_eq!(writer.poll(&mut cx), Poll::Pending);
    let again = board.hold_for(now, Waker::noop(), true).unwrap();
    board.publish(lost.clone(), &[], None);
    assert_eq!(again.poll(&mut cx), Poll::Pending, "nothing has changed");
    let mut fewer = lost;
    fewer
        .nodes
        .iter_mut()
        .for_each(|node| node.own = Service::none(Out::Behind));
    board.publish(fewer, &[], None);
    assert_eq!(again.poll(&mut cx), Poll::Ready(Held::Go));
}

#[test]
fn who_waits_for_a_view_is_called_once_by_the_next_and_calls_nobody() {
    let board = board(1);
    let mut cx = Context::from_waker(Waker::noop());
    let now = Moment::from_micros(0);
    let look = || board.look_out(now, Waker::noop());
    let (one, other) = (look(), look());
    assert_eq!(one.poll(&mut cx), Poll::Pending);
    assert_eq!(board.waiting(), 0, "that is no wait for a primary");
    board.publish(ClusterView::clone(&board.view()), &[], None);
    assert_eq!(one.poll(&mut cx), Poll::Ready(Held::Go));
    let again = look();
    drop((one, other));
    assert_eq!(again.poll(&mut cx), Poll::Pending);
    board.expire(Moment::from_micros(1_000_000));
    assert_eq!(again.poll(&mut cx), Poll::Ready(Held::TimedOut));
}

#[test]
fn a_writer_that_does_not_let_us_ask_is_not_asked_every_few_milliseconds() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let limits = HoldLimits {
        timeout: Duration::from_secs(1),
        clients: 1,
    };
    let view = crate::topology::tests::stable().view();
    let teller = move |_| {
        count.fetch_add(1, SeqCst);
    };
    let board = Board::new(view.clone(), limits, Box::new(teller));
    let asked = |from: u64| {
        let before = told.load(SeqCst);
        (from..from + 1000).for_each(|ms| board.want_sample(Moment::from_micros(ms * 1000)));
        told.load(SeqCst) - before
    };
    assert_eq!(asked(1_000), 200);
    let mut denied = view;
    denied.nodes[usize::from(A.0)].trouble = Some("sorry, too many clients already".into());
    board.publish(denied, &[], None);
    assert_eq!(asked(3_000), 10);
}

#[test]
fn who_has_waited_long_enough_is_told() {
    let board = board(100);
    let mut cx = Context::from_waker(Waker::noop());
    let hold = board.hold(Moment::from_micros(0), Waker::noop()).unwrap();
    board.expire(Moment::from_micros(999_999));
    assert_eq!(hold.poll(&mut cx), Poll::Pending);
    board.expire(Moment::from_micros(1_000_000));
    assert_eq!(hold.poll(&mut cx), Poll::Ready(Held::TimedOut));
}

#[test]
fn a_bad_sign_holds_new_transactions_before_the_machine_has_heard_of_it() {
    let limits = HoldLimits {
        timeout: Duration::from_secs(1),
        clients: 1,
    };
    let view = crate::topology::tests::stable().view();
    let board = Board::new(view, limits, Box::new(|_| {}));
    let sign = |node| Observation::BadSign {
        node,
        at: Moment::from_micros(50_000),
        why: "a server was lost".into(),
    };
    board.tell(sign(B));
    assert_eq!(board.view().primary(), Some(A), "only the writer matters");
    board.tell(sign(A));
    assert_eq!(board.view().primary(), None);
    assert_eq!(board.view().writer, Some(A), "it stays in office");
}
