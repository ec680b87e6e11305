//! Why a command of the console is not carried out.

/// The code of the console's errors.
pub const CODE: &str = "08P01";

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The SQLSTATE.
    pub code: &'static str,
    /// The message.
    pub message: String,
    /// What is behind it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl Complaint {
    /// A complaint that is all in its message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: CODE,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// The code that PgBouncer gives it: 08P01 for all but a RELOAD that failed.
    pub fn pgbouncer_code(&self) -> &'static str {
        match self.code {
            "F0000" => "F0000",
            _ => CODE,
        }
    }
}

impl From<String> for Complaint {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}
