//! The order of keys, and what is said beside each, from the commented `pooler.toml`.

const SAMPLE: &str = include_str!("../../../pooler.toml");

/// The column at which comments begin.
const COMMENTS_AT: usize = 40;

/// A key to be written.
pub(super) struct Line {
    /// How it is spelled.
    pub key: &'static str,
    /// Its value, as TOML.
    pub value: String,
    /// Whether PgBouncer has it so when nobody says anything.
    pub is_default: bool,
}

/// `lines` in the sample's order, under its headings and with its comments; `kind` is the section, without a name.
pub(super) fn fill(kind: &str, lines: &[Line]) -> String {
    let (mut text, mut heading, mut written) = (String::new(), String::new(), Vec::new());
    for sample in section(kind) {
        if sample.trim().is_empty() {
            heading.clear();
        } else if sample.starts_with("# ") {
            heading.push_str(&format!("{sample}\n"));
        } else if let Some((key, comment)) = entry(sample)
            && let Some(line) = lines.iter().find(|line| line.key == key)
        {
            if !heading.is_empty() {
                text.push_str(&format!("\n{heading}"));
                heading.clear();
            }
            text.push_str(&one(line, comment));
            written.push(key);
        }
    }
    let others = lines.iter().filter(|line| !written.contains(&line.key));
    text.extend(others.map(|line| one(line, "")));
    text
}

/// The lines of the sample's first section of this `kind`.
fn section(kind: &str) -> impl Iterator<Item = &'static str> {
    let header = |line: &str| line.strip_prefix('#').unwrap_or(line).starts_with('[');
    let is_wanted = move |line: &str| {
        let name = line.trim_start_matches(['#', '[']);
        let name = name.split([']', '.']).next();
        header(line) && name == Some(kind)
    };
    let from = SAMPLE
        .lines()
        .position(is_wanted)
        .map_or(usize::MAX, |at| at + 1);
    let is_end = move |line: &str| header(line) || line.starts_with("# ---");
    SAMPLE
        .lines()
        .skip(from)
        .take_while(move |line| !is_end(line))
}

/// The key of a line of the sample, and the comment behind its value.
fn entry(line: &str) -> Option<(&str, &str)> {
    let (key, rest) = line.strip_prefix('#').unwrap_or(line).split_once(" = ")?;
    Some((key, rest.rsplit_once(" # ").map_or("", |(_, said)| said)))
}

fn one(line: &Line, comment: &str) -> String {
    let pair = format!("{} = {}", line.key, line.value);
    let default = if line.is_default {
        "PgBouncer's default"
    } else {
        ""
    };
    let said: Vec<_> = [default, comment]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    if said.is_empty() {
        return format!("{pair}\n");
    }
    format!(
        "{pair:<width$} # {}\n",
        said.join("; "),
        width = COMMENTS_AT - 1
    )
}
