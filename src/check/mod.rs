//! The preflight: what this host gives, and what a run will do on it.
//!
//! Contract: nothing is predicted. The programs are loaded and attached just as
//! a run does it, by each way, and let go again; what a run would go without is
//! what they went without. So it is with the search for what exists. Then the
//! sandbox is entered, as in a run without a log. Nothing stays attached, mounted or
//! loaded. A finding that says `No` about a way or a feature has the words that a
//! run would end with, or says at its start.

mod features;
pub(crate) mod finding;
mod host;
pub(crate) mod preflight;

use crate::capture::{Confinement, Source, Transport};
use crate::cli::Config;
use crate::error::Error;
use crate::host::priority;
use crate::host::user;
use crate::model::ability::Abilities;
use crate::output::FormatName;
use finding::{Finding, Section, Verdict};

use crate::sandbox::OutputAccess;
use crate::sys::{limits, time};

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

/// Precedence over other processes.
const PRECEDENCE: &str = "precedence";

/// Everything that was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order in which it is shown.
    pub findings: Vec<Finding>,
    /// What it comes to.
    pub outcome: Outcome,
    /// The way that a run takes, or what it would end with.
    pub taken: Result<Transport, Error>,
}

/// Looks at the host as a run with this configuration would find it. Afterwards
/// this process has given up what a run does: it can write its answer and end.
pub fn look(config: &Config) -> Report {
    limits::raise_open_files();
    // First of all as a run does it: what was tried before might be in its way.
    let opened = Source::open(config.buffer, config.transport, config.wants, None);
    let (features, taken) = match opened {
        Ok(source) => {
            let mut features = features::of(&source);
            features.extend(features::tried(&source, config.snapshot, config.history));
            (features, Ok(source.transport()))
        }
        Err(error) => (features::none(), Err(error)),
    };
    let mut findings = host::findings(config.wants);
    let ways = Transport::LADDER;
    for transport in ways {
        findings.push(way(config, transport, taken.as_ref().ok()));
    }
    let mut features = features;
    features.push(match &taken {
        Ok(_) => precedence(config.priority),
        Err(_) => features::without_way(PRECEDENCE),
    });
    let (finding, user) = sandbox(config);
    features.push(finding);
    let taken = taken.and_then(|way| user.map(|()| way));
    let off = features.iter().any(|f| f.verdict != Verdict::Yes);
    findings.extend(features);
    let outcome = match (&taken, off) {
        (Err(_), _) => Outcome::CannotRun,
        (Ok(_), true) => Outcome::Degraded,
        (Ok(_), false) => Outcome::All,
    };
    Report {
        findings,
        outcome,
        taken,
    }
}

/// What a run wants but for the accepts: whether a host tells them is known by
/// then, and the kernel lets go of their program slowly.
fn without_accepts(config: &Config) -> Abilities {
    config.wants - Abilities::ACCEPTS
}

/// Precedence over other processes, by taking it.
fn precedence(wanted: Option<bool>) -> Finding {
    let yes = |how: &str| Finding::new(Section::Feature, PRECEDENCE, Verdict::Yes, how);
    match (wanted != Some(false)).then(priority::take) {
        None => yes("not taken, as asked for"),
        Some(Ok(taken)) => yes(&taken.to_string()),
        Some(Err(error)) => Finding::failed(Section::Feature, PRECEDENCE, Verdict::No, &error),
    }
}

/// What is given up, by giving it up: the last of all that is tried. An error is
/// what keeps a run from becoming the user that was asked for.
fn sandbox(config: &Config) -> (Finding, Result<(), Error>) {
    const WHAT: &str = "sandbox";
    match Source::open(
        config.buffer,
        config.transport,
        without_accepts(config),
        None,
    ) {
        Ok(mut source) => {
            let user = config.user.as_deref().map(user::find).transpose();
            let shut = user.and_then(|user| {
                source.enter_sandbox(Confinement {
                    mode: config.sandbox,
                    user,
                    outputs: OutputAccess::default(),
                    receive: false,
                    kill: None,
                    wait: false,
                })
            });
            let enforced = match shut {
                Ok((enforced, _)) => enforced,
                Err(error) => {
                    let finding = Finding::failed(Section::Feature, WHAT, Verdict::No, &error);
                    return (finding, Err(error));
                }
            };
            let verdict = match enforced.is_whole() {
                true => Verdict::Yes,
                false => Verdict::No,
            };
            let said = enforced.to_string();
            let finding = Finding::new(Section::Feature, WHAT, verdict, &said);
            (finding, Ok(()))
        }
        Err(_) => (features::without_way(WHAT), Ok(())),
    }
}

/// A way to the events, tried; `taken` is the one that was tried already.
fn way(config: &Config, transport: Transport, taken: Option<&Transport>) -> Finding {
    let works =
        |evidence| Finding::new(Section::Transport, transport.name(), Verdict::Yes, evidence);
    if taken == Some(&transport) {
        return works("a run takes this one");
    }
    match Source::open(
        config.buffer,
        Some(transport),
        without_accepts(config),
        None,
    ) {
        Ok(_) => works("works, too"),
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
            let error = report.taken.as_ref().err().map(Error::to_string);
            let conclusion = preflight::Conclusion {
                result: outcome.name(),
                code: outcome as u8,
                transport: report.taken.as_ref().ok().map(|taken| taken.name()),
                error: error.as_deref(),
            };
            preflight::json_result(&mut out, wall, &conclusion);
        }
        FormatName::Classic | FormatName::Picture => {
            preflight::classic(&mut out, &report.findings);
            let line = match (report.taken, outcome) {
                (Err(error), _) => format!("It can't run: {error}"),
                (Ok(_), Outcome::All) => "Everything will be on.".into(),
                (Ok(_), _) => "It will run, but without what says no above.".into(),
            };
            preflight::classic_result(&mut out, &line);
        }
    }
    (out, outcome as u8)
}
