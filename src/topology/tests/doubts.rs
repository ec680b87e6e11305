//! A writer that does not answer, or not well.

use super::*;
use crate::topology::node::Role;

#[test]
fn a_bad_sign_holds_until_a_later_probe_clears_it() {
    let mut picture = stable();
    let before = picture.now + 10;
    picture.bad_sign(A).wait(20);
    assert_eq!(picture.phase(), Phase::Suspect);
    picture.answered_at(A, before - 10, before + 15, false, 3, 1000);
    assert_eq!(picture.phase(), Phase::Suspect, "asked before the sign");
    picture.primary(A, 3, 1000);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(A), 1));
}

#[test]
fn two_timeouts_lose_the_writer_and_a_late_answer_is_one() {
    let mut picture = stable();
    picture.failed(A, Trouble::Timeout);
    assert_eq!(picture.phase(), Phase::Suspect);
    let sent = picture.now + 1;
    picture.now += 700;
    picture.answered_at(A, sent, picture.now, false, 3, 1000);
    assert_eq!(picture.phase(), Phase::NoWriter);
}

#[test]
fn a_writer_that_does_not_let_us_ask_stays_in_office() {
    let mut picture = stable();
    picture.failed(A, Trouble::Lost("the connection broke".into()));
    assert_eq!(picture.phase(), Phase::Suspect);
    for _ in 0..20 {
        picture.failed(A, denied()).wait(250);
        assert_eq!(picture.primary_of_view(), Some(A));
    }
    let view = picture.view();
    assert_eq!(view.primary_at(at(picture.now)), Some(A));
    let seen = view.node(A).unwrap();
    assert_eq!((seen.role, seen.misses), (Role::Primary, 0));
    assert!(seen.trouble.as_deref().unwrap().contains("too many"));
    picture.bad_sign(A).wait(5);
    assert_eq!(picture.phase(), Phase::Suspect);
    picture.failed(A, denied()).primary(A, 3, 1000);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(A), 1));
}

#[test]
fn a_writer_that_does_not_let_us_ask_is_left_as_soon_as_anything_else_says_so() {
    let denying = || {
        let mut picture = stable();
        picture.failed(A, denied()).failed(A, denied());
        picture
    };
    let mut picture = denying();
    picture.refused(A).failed(A, denied());
    assert_eq!(picture.primary_of_view(), None, "it was away");
    let mut picture = denying();
    picture.primary(B, 4, 900);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(B), 2));
    let mut picture = denying();
    picture.keeper(Leader::Node(B), None).failed(A, denied());
    assert_eq!(picture.phase(), Phase::Orphan);
    let mut picture = denying();
    picture
        .failed(A, Trouble::Timeout)
        .failed(A, Trouble::Timeout);
    assert_eq!(picture.phase(), Phase::NoWriter);
    let mut picture = denying();
    picture.wait(5000).failed(A, denied());
    assert_eq!(picture.phase(), Phase::Suspect, "nobody has looked");
    picture.failed(A, denied()).primary(A, 3, 1000);
    assert_eq!((picture.primary_of_view(), picture.epoch()), (Some(A), 1));
}

#[test]
fn two_answers_that_make_no_sense_lose_the_writer() {
    let mut picture = stable();
    let absurd = || Trouble::Absurd("its answer makes no sense".into());
    picture.failed(A, absurd());
    assert_eq!(picture.phase(), Phase::Suspect);
    picture.failed(A, absurd());
    assert_eq!(picture.phase(), Phase::NoWriter);
}

#[test]
fn a_machine_that_hears_nothing_does_not_trust_what_it_knew() {
    let mut picture = stable();
    picture.wait(5000);
    assert_eq!(picture.primary_of_view(), None);
}
