//! What a look at the host found.
//!
//! Contract: a finding is `Yes` or `No` only if the probe's answer says so;
//! everything else is `Unknown`. Evidence and remedy are one line each, from
//! the same [`Error`]s that end a run; whoever prints them escapes them.

use crate::error::{Error, Kind};

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What the host is and has.
    Host,
    /// A way to the events.
    Transport,
    /// What a run will do.
    Feature,
}

impl Section {
    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Section::Host => "host",
            Section::Transport => "transport",
            Section::Feature => "feature",
        }
    }
}

/// What a probe answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A value, which the evidence is.
    Fact,
    /// It is there, it works.
    Yes,
    /// It is not there, it does not work.
    No,
    /// The probe could not tell.
    Unknown,
}

impl Verdict {
    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Fact => "fact",
            Verdict::Yes => "yes",
            Verdict::No => "no",
            Verdict::Unknown => "unknown",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub section: Section,
    /// Its name.
    pub what: String,
    /// The answer.
    pub verdict: Verdict,
    /// The value, or how it is known.
    pub evidence: String,
    /// What to do; empty where there is nothing to be done.
    pub remedy: String,
    /// Of a tracepoint: the fields used, and those that are missing.
    pub fields: Option<(Vec<String>, Vec<String>)>,
}

impl Finding {
    /// A finding without remedy.
    // Called from everywhere, and never in a hurry.
    #[inline(never)]
    pub fn new(section: Section, what: &str, verdict: Verdict, evidence: &str) -> Finding {
        Finding {
            section,
            what: what.into(),
            verdict,
            evidence: evidence.into(),
            remedy: String::new(),
            fields: None,
        }
    }

    /// Its fields, as they are shown.
    pub fn fields(&self) -> Option<(Vec<&str>, Vec<&str>)> {
        let (used, missing) = self.fields.as_ref()?;
        let [used, missing] = [used, missing].map(|all| all.iter().map(String::as_str).collect());
        Some((used, missing))
    }

    /// Something of the host that an error is about: it is not there only if
    /// the kernel lacks it, otherwise nobody knows.
    pub fn of_host(what: &str, error: &Error) -> Finding {
        let verdict = match error.kind() {
            Kind::Unsupported => Verdict::No,
            _ => Verdict::Unknown,
        };
        Finding::failed(Section::Host, what, verdict, error)
    }

    /// Something that was tried and that does not work, whatever the reason.
    #[inline(never)]
    pub fn failed(section: Section, what: &str, verdict: Verdict, error: &Error) -> Finding {
        let mut finding = Finding::new(section, what, verdict, error.why());
        finding.remedy = error.remedy().into();
        finding
    }
}
