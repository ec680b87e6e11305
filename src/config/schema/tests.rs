use super::*;

fn names<S>(section: &Section<S>) -> Vec<&'static str> {
    let unbuilt = section.unbuilt.iter().map(|(name, _)| *name);
    section
        .keys
        .iter()
        .map(|key| key.name)
        .chain(unbuilt)
        .collect()
}

#[test]
fn the_tables_are_in_order_and_name_nothing_twice() {
    assert!(POOLER.keys.is_sorted_by(|a, b| a.name < b.name));
    assert!(DATABASE.keys.is_sorted_by(|a, b| a.name < b.name));
    assert!(USER.keys.is_sorted_by(|a, b| a.name < b.name));
    for names in [names(&POOLER), names(&DATABASE), names(&USER)] {
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }
}

#[test]
fn every_field_of_the_pooler_has_a_key() {
    let shown = format!("{:#?}", PoolerSettings::default());
    let fields = shown.lines().filter(|line| {
        let indented = line.strip_prefix("    ");
        indented.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    });
    assert_eq!(fields.count(), POOLER.keys.len());
}
