//! How a value is written in a `pooler.toml`.

use std::time::Duration;

use crate::config::slot::Slot;

/// What `slot` holds, as TOML; `None` where it holds nothing.
pub(super) fn of(slot: &Slot<'_>) -> Option<String> {
    Some(match slot {
        Slot::Text(place) => text(place),
        Slot::MaybeText(place) => text(place.as_deref()?),
        Slot::Path(place) => text(&place.as_ref()?.display().to_string()),
        Slot::Hidden(place) => text(place.as_ref()?.expose()),
        Slot::Flag(place) => place.to_string(),
        Slot::Ports(_, others) if !others.is_empty() => text(&slot.print()),
        Slot::Port(place) | Slot::Ports(place, _) => place.to_string(),
        Slot::Small(place) => place.to_string(),
        Slot::Count(place) | Slot::Bytes(place) => place.to_string(),
        Slot::MaybeCount(place) | Slot::MaybeBytes(place) => (**place)?.to_string(),
        Slot::Share(place) => format!("{place:?}"),
        Slot::Permissions(place) => text(&format!("0{place:o}")),
        Slot::Span(place) => span(**place),
        Slot::MaybeSpan(place) => span((**place)?),
        Slot::Millis(place) => place.as_millis().to_string(),
        Slot::List(place) => {
            let items: Vec<_> = place.iter().map(|item| text(item)).collect();
            format!("[{}]", items.join(", "))
        }
        Slot::Nodes(place) if place.is_empty() => return None,
        // An ini has no clusters.
        Slot::Etcd(_) => return None,
        Slot::Nodes(_) => text(&slot.print()),
        Slot::Protocols(place) => text(place.as_str()),
        Slot::MaybeProtocols(place) => {
            let own = place.as_ref().map(|own| text(own.as_str()));
            own.unwrap_or_default()
        }
        Slot::Word(place) if place.chosen().is_empty() => return None,
        Slot::Word(place) => text(place.chosen()),
    })
}

/// Seconds, with a point where they are not whole.
fn span(span: Duration) -> String {
    if span.subsec_nanos() == 0 {
        span.as_secs().to_string()
    } else {
        format!("{:?}", span.as_secs_f64())
    }
}

/// `text` in quotes, as it stands: it names no variable.
pub(super) fn text(text: &str) -> String {
    quoted(&text.replace("${", "$${"))
}

/// A name as a key.
pub(super) fn key(name: &str) -> String {
    let is_bare = |each: char| each.is_ascii_alphanumeric() || "_-".contains(each);
    if !name.is_empty() && name.chars().all(is_bare) {
        return name.to_owned();
    }
    quoted(name)
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for each in text.chars() {
        match each {
            '"' | '\\' => quoted.extend(['\\', each]),
            each if each.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(each))),
            each => quoted.push(each),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_it_was() {
        assert_eq!(text("a\"b\\c\t${X}"), "\"a\\\"b\\\\c\\u0009$${X}\"");
        assert_eq!(key("a b"), "\"a b\"");
        assert_eq!(key("*"), "\"*\"");
        assert_eq!(key("app-1"), "app-1");
    }

    #[test]
    fn parts_of_a_second_are_kept() {
        assert_eq!(span(Duration::from_millis(1_250)), "1.25");
        assert_eq!(span(Duration::from_secs(3)), "3");
        let third = Duration::from_secs_f64(1.0 / 3.0);
        let read: f64 = span(third).parse().unwrap();
        assert_eq!(Duration::from_secs_f64(read), third);
    }
}
