//! Cgroups of version 2: which one is in which, and which is a container's.
//!
//! Contract: a cgroup's id is the inode number of its directory (64 bits since
//! Linux 5.5, fs/kernfs). The tree is read when it is opened, and again where an id
//! isn't known and reading is still allowed; what isn't known then is said to be
//! so. Memory is bounded.

use crate::model::hash::ByNumber;
use nix::dir::{Dir, Type};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use std::cell::RefCell;
use std::os::fd::AsFd;

/// CGROUP2_SUPER_MAGIC (include/uapi/linux/magic.h)
const CGROUP2: u32 = 0x6367_7270;
/// Where it is mounted, alone or beside those of version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Cgroups known, and how deep they are in each other.
const MOST: usize = 65536;
const DEPTH: usize = 32;
/// Digits of a container's id in the name of its cgroup, at least: others are parts
/// of other ids.
const DIGITS: usize = 32;

/// What is known of one.
#[derive(Clone, Debug)]
struct Known {
    parent: u64,
    container: Option<String>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Cgroups {
    root: &'static str,
    top: u64,
    known: RefCell<ByNumber<u64, Option<Known>>>,
    /// Whether directories can still be opened.
    live: bool,
}

fn open(path: &str) -> Option<Dir> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let dir = Dir::open(path, flags, Mode::empty()).ok()?;
    let kind = fstatfs(dir.as_fd()).ok()?.filesystem_type();
    (kind == FsType(CGROUP2 as _)).then_some(dir)
}

/// The inode number of a directory.
fn inode(dir: &Dir) -> Option<u64> {
    fstat(dir.as_fd()).ok().map(|stat| stat.st_ino as _)
}

/// The container's id in a cgroup's name, as `docker-ID.scope` or `ID`.
fn container(name: &str) -> Option<String> {
    let mut runs = name.split(|c: char| !c.is_ascii_hexdigit());
    let id = runs.find(|run| run.len() >= DIGITS)?;
    Some(id.to_ascii_lowercase())
}

/// The id of the cgroup with this path: from the root of all, or where that is
/// mounted.
pub(crate) fn find(path: &str) -> Option<u64> {
    ROOTS.iter().find_map(|root| {
        let below = path.strip_prefix(root).unwrap_or(path);
        let full = [root, "/", below.trim_matches('/')].concat();
        let dir = open(full.trim_end_matches('/'))?;
        // Not out of it.
        let inside = !below.split('/').any(|part| part == "..");
        inode(&dir).filter(|_| inside)
    })
}

impl Cgroups {
    /// Those that are there now. `live`: what comes later can be looked for, too.
    pub(crate) fn open(live: bool) -> Option<Cgroups> {
        let root = ROOTS.into_iter().find(|root| open(root).is_some())?;
        let cgroups = Cgroups {
            root,
            top: inode(&open(root)?)?,
            known: RefCell::default(),
            live,
        };
        cgroups.read(&mut root.to_string(), cgroups.top, 0);
        Some(cgroups)
    }

    /// Takes those in a directory.
    fn read(&self, path: &mut String, parent: u64, depth: usize) {
        let Some(mut dir) = open(path).filter(|_| depth < DEPTH) else {
            return;
        };
        let len = path.len();
        for entry in dir.iter().flatten() {
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let full = self.known.borrow().len() >= MOST;
            if entry.file_type() != Some(Type::Directory) || name.starts_with('.') || full {
                continue;
            }
            let (id, container) = (entry.ino(), container(name));
            let known = Known { parent, container };
            self.known.borrow_mut().insert(id, Some(known));
            path.push('/');
            path.push_str(name);
            self.read(path, id, depth + 1);
            path.truncate(len);
        }
    }

    fn get(&self, id: u64) -> Option<Known> {
        let known = self.known.borrow().get(&id).cloned();
        match known {
            Some(known) => known,
            None if self.live && self.known.borrow().len() < MOST => {
                // Looked for once.
                self.known.borrow_mut().insert(id, None);
                self.read(&mut self.root.to_string(), self.top, 0);
                self.known.borrow().get(&id).cloned().flatten()
            }
            None => None,
        }
    }

    /// Whether one of those that a cgroup is in, itself among them, is such a one.
    fn any(&self, id: u64, is: &dyn Fn(u64, Option<&str>) -> bool) -> Option<bool> {
        let mut at = id;
        for _ in 0..=DEPTH {
            if at == self.top {
                return Some(is(at, None));
            }
            let known = self.get(at);
            if is(
                at,
                known.as_ref().and_then(|known| known.container.as_deref()),
            ) {
                return Some(true);
            }
            at = known?.parent;
        }
        None
    }

    /// Whether a cgroup is one of these, or below one.
    pub(crate) fn is_below(&self, id: u64, tops: &[u64]) -> Option<bool> {
        self.any(id, &|id, _| tops.contains(&id))
    }

    /// Whether a cgroup is that of a container whose id begins with one of these, or
    /// below it.
    pub(crate) fn is_contained(&self, id: u64, ids: &[String]) -> Option<bool> {
        let begins = |container: &str| ids.iter().any(|id| container.starts_with(id.as_str()));
        self.any(id, &|_, container| container.is_some_and(begins))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_containers() {
        let id = "0123456789abcdef".repeat(4);
        for name in [
            id.clone(),
            format!("docker-{id}.scope"),
            format!("cri-containerd-{}.scope", id.to_uppercase()),
        ] {
            assert_eq!(container(&name).as_ref(), Some(&id), "{name}");
        }
        let pod = "kubepods-pod01234567_89ab_cdef_0123_456789abcdef.slice";
        for name in ["system.slice", "deadbeef", pod] {
            assert_eq!(container(name), None, "{name}");
        }
    }

    #[test]
    fn the_tree_of_cgroups() {
        let known = |parent, container: Option<&str>| {
            let container = container.map(str::to_string);
            Some(Known { parent, container })
        };
        let all = [
            (2, known(1, None)),
            (3, known(2, Some("abc"))),
            (4, known(3, None)),
            (5, None),
        ];
        let cgroups = Cgroups {
            root: "/nowhere",
            top: 1,
            known: RefCell::new(all.into_iter().collect()),
            live: false,
        };
        assert_eq!(cgroups.is_below(4, &[2]), Some(true));
        assert_eq!(cgroups.is_below(4, &[1]), Some(true));
        assert_eq!(cgroups.is_below(2, &[2]), Some(true));
        assert_eq!(cgroups.is_below(2, &[3]), Some(false));
        assert_eq!(cgroups.is_contained(4, &["ab".into()]), Some(true));
        assert_eq!(cgroups.is_contained(2, &["ab".into()]), Some(false));
        for unknown in [5, 6] {
            assert_eq!(cgroups.is_below(unknown, &[1]), None);
            assert_eq!(cgroups.is_below(unknown, &[unknown]), Some(true));
        }
    }
}
