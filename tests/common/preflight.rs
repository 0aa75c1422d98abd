//! Whether `--check` says what a run then does.
//!
//! Contract: [`truth`] runs the program in one surroundings again and again:
//! with `--check` in both formats, as a usual run, and by each way to the
//! events. Everything that the preflight says of a run must then be so, to the
//! letter of its errors.

use super::event::{self, Value};
use super::{Output, net};

/// The row of the search at the start.
pub const EXISTING: &str = "what is open at the start";

/// Starts the program with these arguments, separated by spaces, and waits for
/// its end.
pub type Start<'a> = &'a dyn Fn(&str) -> Output;

/// The findings of a preflight, and what they come to.
pub struct Report {
    /// One object for each finding.
    pub findings: Vec<Value>,
    /// The last object.
    pub result: Value,
}

impl Report {
    /// Reads what `--check --format json` printed.
    pub fn read(out: &Output) -> Report {
        assert_eq!(out.stderr, "", "{out:?}");
        let mut findings = event::objects(&out.lines());
        let result = findings.pop().expect("a result");
        assert_eq!(result["event.name"], "check_result");
        let code = event::number(&result, "check.exit_code");
        assert_eq!(out.code, i32::try_from(code).ok(), "{result}");
        let name = ["all", "degraded", "cannot_run"][usize::try_from(code).unwrap()];
        assert_eq!(result["check.result"], name);
        for finding in &findings {
            event::nanos(finding);
            assert_eq!(finding["event.name"], "check", "{finding}");
            assert!(!finding.as_object().unwrap().values().any(Value::is_null));
        }
        let report = Report { findings, result };
        // All is on, or something is not, or nothing is.
        let features = report.section("feature");
        let on = features.iter().filter(|f| f["check.verdict"] == "yes");
        match (on.count(), features.len()) {
            (0, _) => assert_eq!(code, 2),
            (on, all) => assert_eq!(code, u64::from(on < all)),
        }
        report
    }

    /// All findings of this section.
    pub fn section(&self, section: &str) -> Vec<&Value> {
        let all = self.findings.iter();
        all.filter(|f| f["check.section"] == section).collect()
    }

    /// The finding of this name.
    pub fn of(&self, name: &str) -> &Value {
        let mut all = self.findings.iter().filter(|f| f["check.name"] == name);
        match (all.next(), all.next()) {
            (Some(one), None) => one,
            _ => panic!("not one finding {name}: {:#?}", self.findings),
        }
    }

    /// Its verdict.
    pub fn verdict(&self, name: &str) -> &str {
        event::text(self.of(name), "check.verdict")
    }

    /// Its evidence.
    pub fn evidence(&self, name: &str) -> &str {
        event::text(self.of(name), "check.evidence")
    }

    /// The way that a run is said to take.
    pub fn taken(&self) -> Option<&str> {
        let taken = self.result.get("check.transport").and_then(Value::as_str);
        for way in self.section("transport") {
            let this = way["check.evidence"] == "a run takes this one";
            assert_eq!(this, taken == way["check.name"].as_str(), "{way}");
        }
        taken
    }
}

/// Evidence and remedy, as a run says them.
fn words(finding: &Value) -> String {
    let why = event::text(finding, "check.evidence");
    match finding.get("check.remedy").and_then(Value::as_str) {
        Some(remedy) => format!("{why}; {remedy}"),
        None => why.to_owned(),
    }
}

/// A run ends as was said: well, or with this line alone.
fn ends(out: &Output, error: Option<&str>) {
    match error {
        None => assert_eq!(out.code, Some(0), "{out:?}"),
        Some(error) => {
            assert_ne!(out.code, Some(0), "{error}");
            assert_eq!(out.stderr, format!("socket-snoop: {error}\n"));
        }
    }
}

/// Without its numbers: processes come and go.
fn unnumbered(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// What the search at the start goes without is what a run says of it.
fn search_is_told(report: &Report, run: &Output) {
    let all = [run.denied.as_str(), &run.stderr].concat();
    let said = all.lines().filter(|line| line.contains("before the start"));
    let said: Vec<&str> = said.collect();
    let row = report.of(EXISTING);
    let on = row["check.verdict"] == "yes";
    assert_eq!(said.is_empty(), on, "{row}: {said:#?}");
    let words = unnumbered(&words(row));
    for line in said {
        let why = line.strip_prefix("socket-snoop: note: ");
        let why = why.or_else(|| line.strip_prefix("socket-snoop: warning: "));
        for part in why.expect(line).split("; ") {
            assert!(words.contains(&unnumbered(part)), "{part}: {row}");
        }
    }
}

/// What a person is shown is the same.
pub fn text_agrees(start: Start<'_>, args: &str, report: &Report) {
    let text = start(&format!("--check {args}"));
    let code = event::number(&report.result, "check.exit_code");
    assert_eq!(text.code, i32::try_from(code).ok(), "{}", text.stdout);
    assert_eq!(text.stderr, "");
    for finding in &report.findings {
        let name = event::text(finding, "check.name");
        let line = text.lines().into_iter().find(|line| {
            let cell = line.strip_prefix("  ").and_then(|l| l.strip_prefix(name));
            cell.is_some_and(|rest| rest.starts_with(' '))
        });
        let line = line.unwrap_or_else(|| panic!("{name}: {}", text.stdout));
        let verdict = event::text(finding, "check.verdict");
        assert!(verdict == "fact" || line.contains(verdict), "{line}");
    }
}

/// Compares the preflight with runs; `args` are given to all of them.
pub fn truth(start: Start<'_>, args: &str) -> Report {
    let report = Report::read(&start(&format!("--check --format json {args}")));
    let code = event::number(&report.result, "check.exit_code");

    // Something is there to be found, and it is somebody's.
    let _open = net::listen(net::own_ip());
    let run = start(&format!("--no-log --duration 0.1 {args}"));
    let error = report.result.get("check.error").and_then(Value::as_str);
    ends(&run, error);
    assert_eq!(error.is_some(), code == 2);
    assert_eq!(report.taken().is_some(), code != 2);
    if let Some(taken) = report.taken() {
        let noted = ["BTF", "perf samples"].map(|way| {
            let note = format!("socket-snoop: note: tracing by {way}");
            run.stderr.lines().any(|line| line.starts_with(&note))
        });
        assert_eq!(noted, [taken == "btf", taken == "perf"], "{}", run.stderr);
        let doors = format!("socket-snoop: note: {}\n", report.evidence("sandbox"));
        assert_eq!(run.sandbox, doors);
        let counters = report.of("bytes, segments, RTT");
        let by_messages = "note: bytes, segments and RTT come from sock_diag";
        let heard = event::text(counters, "check.evidence").starts_with("by sock_diag");
        assert_eq!(run.stderr.contains(by_messages), heard, "{}", run.stderr);
        let without = "note: connections without bytes, segments and RTT: ";
        let none = counters["check.verdict"] == "no";
        assert_eq!(run.stderr.contains(without), none, "{}", run.stderr);
        let seen = report.verdict("who accepts") == "yes";
        let asked = args.contains("--accept-owner") || taken == "perf";
        assert_eq!(run.unseen.is_empty(), seen || asked, "{}", run.unseen);
        let rings = report.of("rings");
        let less = format!("socket-snoop: warning: {}\n", words(rings));
        let smaller = rings["check.verdict"] == "no";
        assert_eq!(run.stderr.contains(&less), smaller, "{less}{}", run.stderr);
        assert_eq!(run.stderr.contains("warning: rings of"), smaller);
        search_is_told(&report, &run);
    }
    for way in report.section("transport") {
        let name = event::text(way, "check.name");
        let args = match args.contains("--transport") {
            true => continue,
            false if report.taken() == Some(name) => continue,
            false => format!("--no-log --duration 0.1 --transport {name} {args}"),
        };
        let error = (way["check.verdict"] != "yes").then(|| words(way));
        ends(&start(&args), error.as_deref());
    }
    report
}
