//! The Debian package and the changelog, as far as their texts tell.
//!
//! Contract: scripts/package builds, installs and purges the packages themselves.

use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn the_changelog_begins_with_the_version() {
    let log = read("CHANGELOG.md");
    let first = log.lines().find_map(|line| line.strip_prefix("## ["));
    let (version, date) = first
        .and_then(|line| line.split_once("] - "))
        .expect("a version");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let parts: Vec<usize> = date.split('-').map(str::len).collect();
    assert_eq!(parts, [4, 2, 2], "{date}");
    assert!(
        date.bytes().all(|b| b == b'-' || b.is_ascii_digit()),
        "{date}"
    );
}

/// They run below another root, too: no path of the host is changed but behind `$DPKG_ROOT`.
#[test]
fn the_packages_scripts_stay_below_their_root() {
    let stays = |text: &str| {
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'));
        lines.all(|line| {
            let mut words = line.split_whitespace();
            let changes = [
                "rm", "rmdir", "mv", "cp", "ln", "mkdir", "touch", "chown", "chmod",
            ];
            match words.next().is_some_and(|word| changes.contains(&word)) {
                true => words.all(|word| word.starts_with('-') || word.starts_with("\"$root/")),
                false => !line.contains(" >/") || line.contains(">/dev/null"),
            }
        })
    };
    for name in ["postinst", "prerm", "postrm"] {
        let text = read(&format!("contrib/debian/{name}"));
        assert!(
            text.starts_with("#!/bin/sh\n") && text.contains("\nset -e\n"),
            "{name}"
        );
        assert!(stays(&text), "{name}");
        // The host's service manager is let alone then.
        for line in text.lines().filter(|line| line.contains("/run/systemd")) {
            let asked = line.contains("-z \"${DPKG_ROOT:-}\"") || line.contains("-z \"$root\"");
            assert!(asked, "{name}: {line}");
        }
    }
    assert!(!stays("rm -rf /var/log/x\n"));
    assert!(!stays("echo >/etc/x\n"));
}
