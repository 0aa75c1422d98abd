//! The service: its unit as systemd sees it, what `make install` puts where, and the rights that
//! are enough in a container.
//!
//! Contract: that the service does its work under a real systemd is shown by scripts/vm-service.
//! What needs a tool that is not there skips with a reason, and fails with `CI=true`.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{TempDir, binary, skip};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("start it");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

fn install(remove: bool, destdir: &Path, prefix: &str) {
    let mut command = Command::new(project().join("scripts/install"));
    if remove {
        command.arg("--remove");
    }
    run(command.arg(destdir).arg(prefix));
}

/// Whether the release binary that is installed is built.
fn built() -> bool {
    let path = project().join(format!("dist/socket-snoop-{}", std::env::consts::ARCH));
    if !path.exists() {
        skip(&format!(
            "{} is missing: run 'make release'",
            path.display()
        ));
    }
    path.exists()
}

fn analyze(args: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(args).output() {
        Ok(output) => Some(output),
        Err(e) => {
            skip(&format!("systemd-analyze (package systemd): {e}"));
            None
        }
    }
}

/// The files in a folder and below, without it.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).expect("read a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => todo.push(path),
                false => {
                    let name = path.strip_prefix(folder).expect("below it");
                    found.push(name.to_string_lossy().into_owned());
                }
            }
        }
    }
    found.sort();
    found
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

#[test]
fn install_puts_everything_in_place_and_takes_it_away() {
    if !built() {
        return;
    }
    for (prefix, unit) in [
        ("/usr", "usr/lib/systemd/system/socket-snoop.service"),
        ("/usr/local", "etc/systemd/system/socket-snoop.service"),
        ("/opt/snoop-1.0", "etc/systemd/system/socket-snoop.service"),
    ] {
        let dir = TempDir::new();
        let root = dir.join("a root");
        install(false, &root, prefix);
        let binary = format!("{}/sbin/socket-snoop", &prefix[1..]);
        assert_eq!(mode(root.join(&binary)), 0o755);
        assert_eq!(mode(root.join(unit)), 0o644);
        assert_eq!(mode(root.join("etc/logrotate.d/socket-snoop")), 0o644);
        for name in [
            "man/man8/socket-snoop.8",
            "bash-completion/completions/socket-snoop",
            "zsh/site-functions/_socket-snoop",
            "fish/vendor_completions.d/socket-snoop.fish",
            "doc/socket-snoop/README.md",
            "doc/socket-snoop/docs/audit.md",
        ] {
            let path = root.join(format!("{}/share/{name}", &prefix[1..]));
            assert_eq!(mode(path), 0o644, "{name}");
        }
        let text = fs::read_to_string(root.join(unit)).expect("the unit");
        let start = format!("\nExecStart={prefix}/sbin/socket-snoop ");
        assert!(text.contains(&start), "{text}");
        // Once more over a running one; what was changed stays.
        let rotation = root.join("etc/logrotate.d/socket-snoop");
        fs::write(&rotation, "# mine\n").expect("change it");
        install(false, &root, prefix);
        assert_eq!(fs::read_to_string(&rotation).expect("it"), "# mine\n");
        install(true, &root, prefix);
        assert_eq!(files(&root), ["etc/logrotate.d/socket-snoop"]);
        fs::remove_file(&rotation).expect("remove it");
        install(false, &root, prefix);
        install(true, &root, prefix);
        assert_eq!(files(&root), [""; 0]);
    }
}

#[test]
fn a_prefix_that_no_unit_can_hold_is_refused() {
    let dir = TempDir::new();
    for prefix in ["usr", "/opt/a b", "/opt/%n", "/opt/$x", "/opt/a\nUser=root"] {
        let mut command = Command::new(project().join("scripts/install"));
        let output = command.arg(dir.path()).arg(prefix).output();
        let output = output.expect("start it");
        assert!(!output.status.success(), "{prefix}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("PREFIX"));
    }
    assert_eq!(files(dir.path()), [""; 0]);
}

/// The text of logrotate's file is the one in the README.
#[test]
fn the_readme_shows_the_rotation() {
    let readme = fs::read_to_string(project().join("README.md")).expect("README.md");
    let rotation = project().join("contrib/logrotate/socket-snoop");
    let rotation = fs::read_to_string(rotation).expect("the file");
    let indented: String = rotation.lines().map(|l| format!("    {l}\n")).collect();
    assert!(readme.contains(&indented), "not in the README:\n{indented}");
}

#[test]
fn systemd_finds_no_fault_with_the_unit() {
    let dir = TempDir::new();
    let text = fs::read_to_string(project().join("systemd/socket-snoop.service")).expect("it");
    let here = format!("ExecStart={}", binary().display());
    let readme = format!("file:{}/README.md", project().display());
    let text = text
        .replace("ExecStart=/usr/sbin/socket-snoop", &here)
        .replace("file:/usr/share/doc/socket-snoop/README.md", &readme);
    let unit = dir.join("socket-snoop.service");
    fs::write(&unit, &text).expect("write it");
    let unit = unit.to_str().expect("a name");
    let Some(output) = analyze(&["verify", "--man=no", unit]) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // It looks at all units that this one needs, and those of the machine may have faults.
    let ours: Vec<&str> = said
        .lines()
        .filter(|l| l.contains("socket-snoop"))
        .collect();
    assert!(ours.is_empty(), "{said}");

    // It does find one.
    fs::write(unit, text.replace("Type=notify", "Type=no-such")).expect("write it");
    let output = analyze(&["verify", "--man=no", unit]).expect("it is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("socket-snoop.service"), "{said}");
}

#[test]
fn the_unit_is_hardened() {
    let unit = project().join("systemd/socket-snoop.service");
    let unit = unit.to_str().expect("a name");
    let level = |threshold| {
        let threshold = format!("--threshold={threshold}");
        analyze(&["security", "--offline=true", "--no-pager", &threshold, unit])
    };
    let Some(output) = level("25") else { return };
    assert!(output.status.success(), "{output:?}");
    assert!(!level("10").expect("it is there").status.success());
}
