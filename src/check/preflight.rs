//! The findings of `--check`, for a person or a program.
//!
//! Contract: a finding is one line in either format; whatever it holds of the
//! host's is escaped here. The JSON keys are those of [`keys`].

use super::finding::{Finding, Section, Verdict};
use crate::bpf_link::is_member;
use crate::model::text::{self, printable};
use crate::output::json::Json;
use crate::output::keys;
use crate::output::members::{number, plain, string, strings};

/// The columns of the names and of the verdicts.
const NAME: usize = 34;
const VERDICT: usize = 9;

fn heading(section: Section) -> &'static str {
    match section {
        Section::Host => "Host",
        Section::Transport => "Ways to the events",
        Section::Feature => "What will be on",
    }
}

fn column(out: &mut Vec<u8>, text: &str, width: usize) {
    out.extend_from_slice(text.as_bytes());
    let len = text.chars().count();
    out.resize(out.len() + width.saturating_sub(len).max(1), b' ');
}

/// Appends names, if there are any.
fn names(out: &mut Vec<u8>, before: &str, all: &[&str]) {
    for (n, name) in all.iter().enumerate() {
        out.extend_from_slice(if n == 0 { before } else { " " }.as_bytes());
        out.extend_from_slice(name.as_bytes());
    }
}

/// Aligned lines under a heading for each section.
pub(crate) fn classic(out: &mut Vec<u8>, findings: &[Finding]) {
    let mut section = None;
    for finding in findings {
        if section != Some(finding.section) {
            section = Some(finding.section);
            out.extend_from_slice(heading(finding.section).as_bytes());
            out.push(b'\n');
        }
        out.extend_from_slice(b"  ");
        column(out, &printable(&finding.what), NAME);
        let verdict = match finding.verdict {
            Verdict::Fact => "",
            other => other.name(),
        };
        column(out, verdict, VERDICT);
        out.extend_from_slice(printable(&finding.evidence).as_bytes());
        if let Some((used, missing)) = finding.fields() {
            // Of what is there, the members of kernel structures are too many.
            let (members, own): (Vec<&str>, Vec<&str>) =
                used.into_iter().partition(|name| is_member(name));
            names(out, " with ", &own);
            if !members.is_empty() {
                out.extend_from_slice(b" and ");
                text::number(out, members.len() as u64);
                out.extend_from_slice(b" members by BTF");
            }
            names(out, "; without ", &missing);
        }
        if !finding.remedy.is_empty() {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(printable(&finding.remedy).as_bytes());
        }
        while out.last() == Some(&b' ') {
            out.pop();
        }
        out.push(b'\n');
    }
}

/// The last line for a person.
pub(crate) fn classic_result(out: &mut Vec<u8>, line: &str) {
    out.extend_from_slice(printable(line).as_bytes());
    out.push(b'\n');
}

/// One object a finding. `wall` is the time to give, in nanoseconds since the
/// epoch.
pub(crate) fn json(out: &mut Vec<u8>, wall: u64, findings: &[Finding]) {
    let mut json = Json::default();
    for finding in findings {
        json.open(out, wall, "check");
        plain(out, keys::CHECK_SECTION, finding.section.name());
        string(out, keys::CHECK_NAME, finding.what.as_bytes());
        plain(out, keys::CHECK_VERDICT, finding.verdict.name());
        string(out, keys::CHECK_EVIDENCE, finding.evidence.as_bytes());
        string(out, keys::CHECK_REMEDY, finding.remedy.as_bytes());
        if let Some((used, missing)) = finding.fields() {
            strings(out, keys::CHECK_FIELDS_USED, &used);
            strings(out, keys::CHECK_FIELDS_MISSING, &missing);
        }
        out.extend_from_slice(b"}\n");
    }
}

/// What the findings come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conclusion<'a> {
    /// Its name.
    pub result: &'a str,
    /// The exit code.
    pub code: u8,
    /// The way that a run takes.
    pub transport: Option<&'a str>,
    /// What a run would end with.
    pub error: Option<&'a str>,
}

/// The last object.
pub(crate) fn json_result(out: &mut Vec<u8>, wall: u64, conclusion: &Conclusion<'_>) {
    Json::default().open(out, wall, "check_result");
    plain(out, keys::CHECK_OUTCOME, conclusion.result);
    number(out, keys::CHECK_EXIT_CODE, u64::from(conclusion.code));
    string(
        out,
        keys::CHECK_TRANSPORT,
        conclusion.transport.unwrap_or_default().as_bytes(),
    );
    string(
        out,
        keys::CHECK_ERROR,
        conclusion.error.unwrap_or_default().as_bytes(),
    );
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> Vec<Finding> {
        let mut a = Finding::new(
            Section::Host,
            "tra\x1bcefs",
            Verdict::Yes,
            "at /a\n\x1b[2Jb\"c",
        );
        a.remedy = "do\r\u{85}it".into();
        a.fields = Some((
            ["one", "two", "a.b"].map(String::from).into(),
            vec!["c".into()],
        ));
        let b = Finding::new(Section::Feature, "x", Verdict::Fact, "");
        vec![a, b]
    }

    #[test]
    fn a_person_gets_one_printable_line_each() {
        let mut out = Vec::new();
        classic(&mut out, &hostile());
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text.lines().count(), 4, "{text}");
        let controls = text.chars().filter(|c| c.is_control() && *c != '\n');
        assert_eq!(controls.count(), 0, "{text:?}");
        assert!(
            text.contains(
                "at /a\\n\\u{1b}[2Jb\"c with one two and 1 members by BTF; without c; do\\r"
            ),
            "{text}"
        );
        assert!(text.ends_with("\n  x\n"), "{text:?}");
    }

    #[test]
    fn a_program_gets_one_object_each() {
        let mut out = Vec::new();
        json(&mut out, 0, &hostile());
        let conclusion = Conclusion {
            result: "all",
            code: 0,
            transport: Some("btf"),
            error: None,
        };
        json_result(&mut out, 0, &conclusion);
        let text = String::from_utf8(out).expect("UTF-8");
        let all: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0]["check.evidence"], "at /a\n\x1b[2Jb\"c");
        assert_eq!(all[0]["check.fields.used"][1], "two");
        assert!(all[1].get("check.remedy").is_none());
        assert_eq!(all[2]["check.exit_code"], 0);
        assert_eq!(all[2]["check.transport"], "btf");
        assert!(all[2].get("check.error").is_none());
    }
}
