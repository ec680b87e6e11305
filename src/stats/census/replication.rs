//! Which replication protocol a connection speaks.

/// Which replication protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replication {
    /// None: an ordinary connection.
    #[default]
    None,
    /// Logical replication, of one database.
    Logical,
    /// Physical replication.
    Physical,
}

impl Replication {
    /// What the value of the startup parameter `replication` asks for; `None` for what is none. A boolean is read as PostgreSQL
    /// reads it: its words, and whatever they clearly begin with. Nothing at all is false.
    pub fn asked_by(value: &str) -> Option<Self> {
        let value = value.to_ascii_lowercase();
        let begins = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
        match value.as_str() {
            "database" => Some(Self::Logical),
            "" | "0" => Some(Self::None),
            "1" | "on" => Some(Self::Physical),
            _ if begins("true", 1) || begins("yes", 1) => Some(Self::Physical),
            _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => Some(Self::None),
            _ => None,
        }
    }

    /// PgBouncer's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Logical => "logical",
            Self::Physical => "physical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Replication;

    #[test]
    fn the_wish_for_replication_is_a_boolean_as_postgresql_reads_it_or_a_word() {
        let is = |text: &str, what| assert_eq!(Replication::asked_by(text), what, "{text}");
        for text in ["t", "TRUE", "y", "on", "1"] {
            is(text, Some(Replication::Physical));
        }
        for text in ["f", "no", "of", "0", ""] {
            is(text, Some(Replication::None));
        }
        is("Database", Some(Replication::Logical));
        is("o", None);
    }
}
