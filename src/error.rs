//! One error for the whole product: what kind it is, what happened, and what to do next.

use std::fmt;
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the reader does next. Each kind has one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It failed; running the same command again may help.
    Failed,
    /// A flag, a key, a file or an SQL text is wrong; nothing was done.
    Usage,
    /// Some windows or rejects are left; the message names them.
    Incomplete,
    /// Another run owns the table or wrote the journal entry.
    Fenced,
    /// The journal or staged data do not agree with themselves.
    Damaged,
    /// The counts do not add up.
    Mismatch,
    /// The user stopped it.
    Interrupted,
}

impl Kind {
    /// Exit code of the process, as listed in the README.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Incomplete => 3,
            Kind::Fenced => 4,
            Kind::Damaged => 5,
            Kind::Mismatch => 7,
            Kind::Interrupted => 130,
        }
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A message in the user's words, with the resource in backticks, and the next step as a hint.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    context: Vec<String>,
    hint: Option<String>,
    retryable: bool,
    unreachable: bool,
    retry_after: Option<Duration>,
    source: Option<Source>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let inner = Inner {
            kind,
            message: message.into(),
            context: Vec::new(),
            hint: None,
            retryable: false,
            unreachable: false,
            retry_after: None,
            source: None,
        };
        Error { inner: Box::new(inner) }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Error::new(Kind::Failed, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(Kind::Usage, message)
    }

    /// The next step, printed on a `hint:` line.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// What was being done; once per boundary, outermost last.
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.inner.context.push(context.into());
        self
    }

    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Marks an error as weather: the same request may succeed later.
    pub fn retryable(mut self) -> Self {
        self.inner.retryable = true;
        self
    }

    /// Marks an error that every other request to the same place would meet too.
    pub fn unreachable(mut self) -> Self {
        self.inner.unreachable = true;
        self
    }

    pub fn is_unreachable(&self) -> bool {
        self.inner.unreachable
    }

    /// How long the server asked to wait, if it did.
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.inner.retry_after = wait;
        self
    }

    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The same once more, for whoever only has it to look at: its kind, its words and its hint.
    pub fn again(&self) -> Error {
        let again = Error::new(self.kind(), self.to_string());
        match self.hint_text() {
            Some(hint) => again.hint(hint),
            None => again,
        }
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.inner.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        write!(f, "{}", self.inner.message)?;
        let mut said = self.inner.message.clone();
        let mut source = self.inner.source.as_deref().map(|s| s as &dyn std::error::Error);
        while let Some(cause) = source {
            let text = cause.to_string();
            // Libraries like to repeat their cause in their own message; say each thing once.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(&text);
            }
            source = cause.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_reads_from_the_outermost_context_to_the_cause_and_says_nothing_twice() {
        let io = std::io::Error::other("no space left on device");
        let error = Error::failed("cannot write `a.parquet`").caused_by(io).context("day 3");
        assert_eq!(error.to_string(), "day 3: cannot write `a.parquet`: no space left on device");
        let wrapped = Error::failed("cannot write: no space left on device")
            .caused_by(std::io::Error::other("no space left on device"));
        assert_eq!(wrapped.to_string(), "cannot write: no space left on device");
    }
}
