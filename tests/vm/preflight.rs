//! The preflight in the guest: on each kernel, in each variant.

use std::fs;

use crate::common::preflight::{Report, truth};
use crate::common::{Run, eventually};
use crate::lives::programs;
use crate::suite::{Done, Variant, say, with_mounts};

/// What it says is what a run then does.
pub fn true_answer() -> Done {
    let variant = Variant::here();
    let forced = variant.value("transport");
    let args = forced.map_or(String::new(), |way| format!("--transport {way}"));
    let report = truth(&|args| Run::new(args).run(), &args);
    assert_ne!(report.result["check.result"], "cannot_run");
    let tracefs = match variant.is_confidential() {
        true => "no",
        false => "yes",
    };
    assert_eq!(report.verdict("tracefs"), tracefs);
    assert_eq!(report.taken(), Some(variant.way()));
    for finding in report
        .findings
        .iter()
        .filter(|f| f["check.verdict"] == "no")
    {
        say(&format!("info check {finding}"));
    }
    Ok(())
}

/// It leaves no mount that others can see, and no program.
pub fn nothing_left() -> Done {
    let mounts = || {
        with_mounts(|| fs::read_to_string("/proc/1/mountinfo").expect("the mounts of process 1"))
    };
    let before = mounts();
    Report::read(&Run::new("--check --format json").run());
    assert_eq!(mounts(), before);
    // Freed after a grace period.
    eventually(|| programs().is_empty());
    assert_eq!(programs(), Vec::<String>::new());
    Ok(())
}
