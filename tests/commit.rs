//! The commit that `--version` names: of which sources there is one, and what it is.
//!
//! Contract: repositories of the test's own. Without git it skips with a reason, and fails with `CI=true`.

mod common;
#[path = "../build/commit.rs"]
mod named;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{TempDir, skip};

/// Runs git in a folder, without the configuration of this host; what it says.
fn git(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
    command.args(args).current_dir(folder);
    for name in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"] {
        command.env(name, "/dev/null");
    }
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    let output = command.output().expect("start git");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A repository with one commit of `a/one` and `b`; `None`, said, without git.
fn repository(folder: &Path) -> Option<()> {
    if Command::new("git").arg("--version").output().is_err() {
        skip("git (package git) is missing");
        return None;
    }
    fs::create_dir_all(folder.join("a")).expect("make a folder");
    for name in ["a/one", "b"] {
        fs::write(folder.join(name), "1\n").expect("write it");
    }
    git(folder, &["init", "-q"]);
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "1"]);
    Some(())
}

fn head(folder: &Path) -> String {
    let text = git(folder, &["rev-parse", "HEAD"]);
    text[..12].to_string()
}

#[test]
fn a_commit_is_named_with_what_differs_from_it() {
    let dir = TempDir::new();
    let folder = dir.join("one");
    let Some(()) = repository(&folder) else {
        return;
    };
    let commit = |of: &Path| named::commit(of, &["a", "none"]);
    let first = head(&folder);
    assert_eq!(commit(&folder), Some(first.clone()));
    // Of what else is there it is not.
    fs::write(folder.join("b"), "2\n").expect("write it");
    assert_eq!(commit(&folder), Some(first.clone()));
    for name in ["a/one", "a/two"] {
        let old = fs::read(folder.join(name));
        fs::write(folder.join(name), "2\n").expect("write it");
        assert_eq!(commit(&folder), Some(format!("{first}-dirty")), "{name}");
        match old {
            Ok(old) => fs::write(folder.join(name), old).expect("write it"),
            Err(_) => fs::remove_file(folder.join(name)).expect("remove it"),
        }
        assert_eq!(commit(&folder), Some(first.clone()), "{name}");
    }
    git(&folder, &["commit", "-q", "-a", "-m", "2"]);
    assert_ne!(head(&folder), first);
    assert_eq!(commit(&folder), Some(head(&folder)));
}

#[test]
fn a_further_work_tree_has_its_own() {
    let dir = TempDir::new();
    let folder = dir.join("one");
    let Some(()) = repository(&folder) else {
        return;
    };
    let other = dir.join("other");
    let path = other.to_str().expect("a path");
    git(&folder, &["worktree", "add", "-q", path, "-b", "other"]);
    fs::write(other.join("a/one"), "2\n").expect("write it");
    git(&other, &["commit", "-q", "-a", "-m", "2"]);
    assert!(other.join(".git").is_file());
    assert_ne!(head(&folder), head(&other));
    for of in [&folder, &other] {
        assert_eq!(named::commit(of, &["a"]), Some(head(of)));
    }
}

/// Nor where what is around it is a repository.
#[test]
fn an_archive_has_none() {
    let dir = TempDir::new();
    let folder = dir.join("one");
    let Some(()) = repository(&folder) else {
        return;
    };
    assert_eq!(named::commit(&folder.join("a"), &["one"]), None);
    assert_eq!(named::tells(&folder.join("a")), [""; 0]);
    assert_eq!(named::commit(dir.path(), &["one"]), None);
}

/// A commit changes one of the files at least, whichever way refs are held.
#[test]
fn the_files_that_tell_do_change() {
    let dir = TempDir::new();
    let folder = dir.join("one");
    let Some(()) = repository(&folder) else {
        return;
    };
    let read = || -> Vec<(String, Vec<u8>)> {
        let paths = named::tells(&folder).into_iter();
        let read = |path: String| (path.clone(), fs::read(folder.join(path)).expect("read it"));
        paths.map(read).collect()
    };
    for way in [
        &["status"][..],
        &["pack-refs", "--all"],
        &["checkout", "-q", "--detach"],
    ] {
        git(&folder, way);
        let before = read();
        assert!(!before.is_empty(), "{way:?}");
        git(&folder, &["commit", "-q", "--allow-empty", "-m", "2"]);
        let changed = before.iter().any(|(path, old)| {
            let new = fs::read(folder.join(path)).expect("read it");
            new != *old
        });
        assert!(changed, "{way:?}: {before:?}");
    }
}
