use super::*;
use crate::config::value::PoolMode;

#[test]
fn a_value_that_is_refused_changes_nothing() {
    let mut port = 5432_u16;
    assert!(Slot::Port(&mut port).read(&Given::Whole(-1)).is_err());
    assert_eq!(port, 5432);
}

#[test]
fn text_in_quotes_is_no_number_but_text_of_the_environment_may_be() {
    let mut count = 0_usize;
    assert!(
        Slot::Count(&mut count)
            .read(&Given::Text("7".into()))
            .is_err()
    );
    assert!(
        Slot::Count(&mut count)
            .read(&Given::Loose("7".into()))
            .is_ok()
    );
    assert_eq!(count, 7);
}

#[test]
fn a_secret_is_neither_printed_nor_shown_when_it_is_refused() {
    let mut password = Some(Secret::new("hunter2"));
    let slot = Slot::Hidden(&mut password);
    assert_eq!(slot.print(), "***");
    let refusal = slot.read(&Given::Whole(98_765)).unwrap_err();
    assert!(!refusal.message.contains("98765"));
}

#[test]
fn ports_are_one_or_one_for_each_host() {
    let read = |given: Given| {
        let (mut first, mut others) = (1, vec![9]);
        let read = Slot::Ports(&mut first, &mut others).read(&given);
        read.is_ok().then_some((first, others))
    };
    assert_eq!(read(Given::Whole(5432)), Some((5432, vec![])));
    let list = Given::Text("5432, 5433".into());
    assert_eq!(read(list), Some((5432, vec![5433])));
    let list = Given::List(vec![Given::Whole(1), Given::Whole(2), Given::Whole(3)]);
    assert_eq!(read(list), Some((1, vec![2, 3])));
    for wrong in [
        Given::List(vec![]),
        Given::Text("5432,".into()),
        Given::Text("5432".into()),
        Given::Whole(70_000),
    ] {
        assert_eq!(read(wrong), None);
    }
}

#[test]
fn empty_text_is_none() {
    let mut name = Some("x".to_owned());
    assert!(
        Slot::MaybeText(&mut name)
            .read(&Given::Text(String::new()))
            .is_ok()
    );
    assert_eq!(name, None);
}

#[test]
fn a_word_that_need_not_be_there_prints_as_nothing() {
    let mut mode: Option<PoolMode> = None;
    assert_eq!(Slot::Word(&mut mode).print(), "");
    assert!(
        Slot::Word(&mut mode)
            .read(&Given::Text("SESSION".into()))
            .is_ok()
    );
    assert_eq!(mode, Some(PoolMode::Session));
}
