//! The commit that the sources are of, for `--version`.
//!
//! Contract: it is asked for only where the sources are the top of a git work tree, whose `.git` is a
//! folder or, of a further work tree, a file; in an archive's there is none, also where that was
//! unpacked inside of another work tree. Git is told nothing by the environment, and writes nothing.

use std::path::Path;
use std::process::Command;

/// What git says in this folder, without the line's end; `None` where it says nothing or fails.
fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("--no-optional-locks").args(args);
    command.current_dir(folder);
    // A hook's, of whichever repository.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    let output = command.output().ok().filter(|done| done.status.success());
    let text = String::from_utf8(output?.stdout).ok()?;
    Some(text.trim_end().to_string())
}

/// The commit of the sources in this folder, with `-dirty` where one of these files differs from it.
pub fn commit(folder: &Path, files: &[&str]) -> Option<String> {
    if !folder.join(".git").exists() {
        return None;
    }
    let commit = git(folder, &["rev-parse", "--short=12", "HEAD"])?;
    let mut status = vec!["status", "--porcelain", "--untracked-files=all", "--"];
    status.extend(files);
    let clean = git(folder, &status)?.is_empty();
    Some(commit + if clean { "" } else { "-dirty" })
}

/// Files of git's that change when the commit does, those that are there: the log of HEAD does, also where
/// the branch has no file of its own yet.
pub fn tells(folder: &Path) -> Vec<String> {
    if !folder.join(".git").exists() {
        return Vec::new();
    }
    let names = ["HEAD", "logs/HEAD"].map(String::from).into_iter();
    let names = names.chain(git(folder, &["symbolic-ref", "-q", "HEAD"]));
    let paths = names.filter_map(|name| git(folder, &["rev-parse", "--git-path", &name]));
    let there = |path: &String| folder.join(path).exists();
    paths.filter(there).collect()
}
