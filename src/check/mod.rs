//! The preflight: what this host gives, and what a run will do on it.
//!
//! Contract: nothing is predicted. The programs are loaded and attached just as
//! a run does it, by each way, and let go again; what a run would go without is
//! what they went without. Nothing stays attached or mounted. A finding that
//! says `No` about a way or a feature has the words that a run would end with.

mod features;
mod host;

use crate::cli::Config;
use crate::error::Error;
use crate::finding::{Finding, Section, Verdict};
use crate::output::FormatName;
use crate::output::preflight;
use crate::source::{Source, Transport};
use crate::sys::time;

/// How it ends; the exit code of `--check`. (That of a run is another table.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything will be on.
    All = 0,
    /// A run works, but something will be off.
    Degraded = 1,
    /// A run would end at once.
    CannotRun = 2,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::All => "all",
            Outcome::Degraded => "degraded",
            Outcome::CannotRun => "cannot_run",
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order in which it is shown.
    pub findings: Vec<Finding>,
    /// What it comes to.
    pub outcome: Outcome,
    /// What a run would end with.
    pub error: Option<Error>,
}

/// Looks at the host as a run with this configuration would find it.
pub fn look(config: &Config) -> Report {
    // First of all as a run does it: what was tried before might be in its way.
    let opened = Source::open(config.buffer, config.transport);
    let (taken, features, error) = match &opened {
        Ok(source) => (Some(source.transport()), features::of(source), None),
        Err(error) => (None, features::none(), Some(error.clone())),
    };
    drop(opened);
    let mut findings = host::findings();
    findings.extend(Transport::LADDER.map(|transport| way(config.buffer, transport, taken)));
    let off = features.iter().any(|f| f.verdict != Verdict::Yes);
    findings.extend(features);
    let outcome = match (&error, off) {
        (Some(_), _) => Outcome::CannotRun,
        (None, true) => Outcome::Degraded,
        (None, false) => Outcome::All,
    };
    Report {
        findings,
        outcome,
        error,
    }
}

/// A way to the events, tried.
fn way(buffer: Option<usize>, transport: Transport, taken: Option<Transport>) -> Finding {
    match Source::open(buffer, Some(transport)) {
        Ok(_) => {
            let evidence = match taken == Some(transport) {
                true => "a run takes this one",
                false => "works, too",
            };
            Finding::new(Section::Transport, transport.name(), Verdict::Yes, evidence)
        }
        Err(error) => Finding::failed(Section::Transport, transport.name(), Verdict::No, &error),
    }
}

/// What is printed, and the exit code.
pub fn run(config: &Config) -> (Vec<u8>, u8) {
    let report = look(config);
    let outcome = report.outcome;
    let mut out = Vec::new();
    match config.format {
        FormatName::Json => {
            let wall = time::realtime();
            preflight::json(&mut out, wall, &report.findings);
            let error = report.error.map(|error| error.to_string());
            let end = (outcome.name(), outcome as u8, error.as_deref());
            preflight::json_result(&mut out, wall, end);
        }
        FormatName::Classic => {
            preflight::classic(&mut out, &report.findings);
            let line = match (outcome, report.error) {
                (Outcome::All, _) => "Everything will be on.".into(),
                (Outcome::Degraded, _) => "It will run, but without what says no above.".into(),
                (Outcome::CannotRun, error) => {
                    let why = error.map(|error| error.to_string()).unwrap_or_default();
                    format!("It can't run: {why}")
                }
            };
            preflight::classic_result(&mut out, &line);
        }
    }
    (out, outcome as u8)
}
