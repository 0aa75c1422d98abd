//! Cgroups of version 2: which one is in which, and which is a container's or a pod's.
//!
//! Contract: a cgroup's id is the inode number of its directory (64 bits since
//! Linux 5.5, fs/kernfs). The tree is read when it is opened, and again where an id
//! isn't known, a piece at a time, and a small part of the time: until all of it was,
//! nothing is said of that one. In the sandbox the same calls go on (Linux 5.6).
//! What is known stays known when the cgroup is gone, as long as there is room.

use crate::host::container::{self, Name};
use crate::model::table::TableByNumber;
use crate::sandbox::OutputAccess;
use crate::sys::folder::{self, BELOW, How};
use crate::sys::time;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// CGROUP2_SUPER_MAGIC (include/uapi/linux/magic.h)
const CGROUP2: u32 = 0x6367_7270;
/// Where it is mounted, alone or beside those of version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where the kubelet has the logs of pods: NAMESPACE_NAME_ID.
const LOGS: &str = "/var/log/pods";
/// Cgroups known, and how deep they are in each other.
const MOST: usize = 65536;
const DEPTH: usize = 32;
/// Pods whose names are kept.
const PODS: usize = 4096;
/// Directories that are read in one piece, and the part of the time that this may take.
const PIECE: usize = 512;
const PART: u64 = 20;

const FOLDER: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NOFOLLOW);

/// What is known of one.
#[derive(Debug, Default)]
struct Known {
    parent: u64,
    name: Name,
    /// Not found: the number of the reading by which it should be. 0: found.
    due: u64,
}

/// The namespace and the name of a pod, by its id; empty where they aren't known.
#[derive(Debug)]
struct Pod {
    id: String,
    names: (String, String),
}

/// What was read.
#[derive(Debug, Default)]
struct Read {
    known: TableByNumber<Known>,
    pods: Vec<Pod>,
    /// Directories that are still to be read: paths, names and ids.
    rest: Vec<(String, u64)>,
    /// Readings that were begun, and those that are over.
    begun: u64,
    over: u64,
    /// When to go on, and when to look for a pod's logs again.
    again: u64,
    again_logs: u64,
}

/// What a cgroup is in; what is empty isn't known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The container's id.
    pub container: String,
    /// Its runtime.
    pub runtime: &'static str,
    /// The pod's unique id.
    pub pod: String,
    /// Its namespace, and its name.
    pub names: (String, String),
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    root: Option<OwnedFd>,
    logs: Option<OwnedFd>,
    top: u64,
    read: RefCell<Read>,
    /// How folders are opened: by the one call that is left in the sandbox, or another.
    how: Cell<Option<&'static How>>,
    /// Whether nothing can be read any more.
    shut: Cell<bool>,
}

fn open(path: &str) -> Option<OwnedFd> {
    let dir = nix::fcntl::open(path, OFlag::O_RDONLY | FOLDER, Mode::empty()).ok()?;
    let kind = fstatfs(dir.as_fd()).ok()?.filesystem_type();
    (kind == FsType(CGROUP2 as _)).then_some(dir)
}

/// The inode number of a directory.
fn inode(dir: &OwnedFd) -> Option<u64> {
    fstat(dir.as_fd()).ok().map(|stat| stat.st_ino as _)
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
    /// Those that are there now.
    pub(crate) fn open() -> Cgroups {
        let root = ROOTS.into_iter().find_map(open);
        let logs = nix::fcntl::open(
            LOGS,
            OFlag::O_RDONLY | (FOLDER - OFlag::O_NOFOLLOW),
            Mode::empty(),
        );
        let cgroups = Cgroups {
            top: root.as_ref().and_then(inode).unwrap_or(0),
            root,
            logs: logs.ok(),
            ..Cgroups::default()
        };
        if let Some(root) = &cgroups.root {
            let fine = folder::open(root.as_fd(), c".", &BELOW).is_ok();
            cgroups.how.set(fine.then_some(&BELOW));
            let read = &mut cgroups.read.borrow_mut();
            while read.over == 0 {
                read.again = 0;
                cgroups.go_on(read, 1);
            }
        }
        cgroups
    }

    /// None, but for those that [`Cgroups::recall`] tells of.
    pub(crate) fn recorded() -> Cgroups {
        let cgroups = Cgroups::default();
        cgroups.shut.set(true);
        cgroups
    }

    /// What was recorded of one: what it is below of otherwise isn't known.
    pub(crate) fn recall(&self, id: u64, place: Place) {
        let read = &mut *self.read.borrow_mut();
        let known = Known {
            parent: u64::MAX,
            name: Name {
                container: Some((place.container, place.runtime)),
                pod: Some(place.pod.clone()).filter(|pod| !pod.is_empty()),
                outside: false,
            },
            due: 0,
        };
        if read.known.len() < MOST || read.known.has(id) {
            read.known.insert(id, known);
        }
        if !place.names.1.is_empty() && read.pods.len() < PODS {
            let same = read.pods.iter().any(|pod| pod.id == place.pod);
            if !same {
                let (id, names) = (place.pod, place.names);
                read.pods.push(Pod { id, names });
            }
        }
    }

    /// What has to be read later.
    pub(crate) fn access(&self) -> OutputAccess<'_> {
        let root = self.root.as_ref().filter(|_| self.how.get().is_some());
        OutputAccess {
            below: root.map(OwnedFd::as_fd),
            names: self.logs.as_ref().map(OwnedFd::as_raw_fd),
            ..OutputAccess::default()
        }
    }

    /// Whether cgroups that are made later can't be known in the sandbox.
    pub(crate) fn is_for_now(&self) -> bool {
        self.root.is_some() && self.how.get().is_none()
    }

    /// From here on in the sandbox, with this copy of how folders are opened.
    pub(crate) fn pin(&self, how: Option<&'static How>) {
        self.shut.set(self.is_for_now());
        self.how.set(how.or(self.how.get()));
    }

    /// Reads a directory: those in it are known, and are to be read.
    fn one(&self, read: &mut Read, (path, parent): (String, u64)) -> Option<()> {
        let root = self.root.as_ref()?;
        let name = CString::new(if path.is_empty() { "." } else { &path }).ok()?;
        let dir = match self.how.get() {
            Some(how) => folder::open(root.as_fd(), &name, how).ok()?,
            None => openat(
                root,
                name.as_c_str(),
                OFlag::O_RDONLY | FOLDER,
                Mode::empty(),
            )
            .ok()?,
        };
        let own = container::last(&path, b'/').map_or(path.as_str(), |(_, name)| name);
        let deep = path.bytes().filter(|b| *b == b'/').count() + 1 >= DEPTH;
        folder::names(dir.as_fd(), &mut |id, name| {
            if read.known.len() >= MOST && !read.known.has(id) {
                return;
            }
            let known = Known {
                parent,
                name: container::read(name, own),
                due: 0,
            };
            read.known.insert(id, known);
            if !deep {
                let path = if path.is_empty() {
                    name.to_string()
                } else {
                    [&path, "/", name].concat()
                };
                read.rest.push((path, id));
            }
        })
        .ok()
    }

    /// Goes on reading for this one.
    fn go_on(&self, read: &mut Read, due: u64) {
        let now = time::monotonic();
        if now < read.again || self.shut.get() || read.over >= due {
            return;
        }
        if read.over == read.begun {
            read.begun += 1;
            if read.known.len() >= MOST / 2 {
                // Those that are gone are forgotten with the others.
                read.known.clear();
            }
            read.rest.push((String::new(), self.top));
        }
        for _ in 0..PIECE {
            let Some(next) = read.rest.pop() else {
                read.over = read.begun;
                break;
            };
            self.one(read, next);
        }
        let end = time::monotonic();
        read.again = end.saturating_add(PART * (end - now));
    }

    /// Looks for one; whether all is known of it that will be.
    fn look(&self, read: &mut Read, id: u64) -> bool {
        let due = match read.known.get(id) {
            Some(known) if known.due == 0 => return true,
            Some(known) => known.due,
            None => {
                let due = read.begun + 1;
                if read.known.len() < MOST {
                    let known = Known {
                        due,
                        ..Known::default()
                    };
                    read.known.insert(id, known);
                }
                due
            }
        };
        self.go_on(read, due);
        read.over >= due
            || self.shut.get()
            || read.known.get(id).is_some_and(|known| known.due == 0)
    }

    /// Hands on those that a cgroup is in, itself the first, until `each` returns
    /// false; whether all of them, up to the root, are known, and whether they may
    /// still come to be.
    fn up(&self, id: u64, each: &mut dyn FnMut(u64, &Name) -> bool) -> (bool, bool) {
        let read = &mut *self.read.borrow_mut();
        let mut at = id;
        for _ in 0..=DEPTH {
            let top = at == self.top;
            let whole = top || self.look(read, at);
            let known = read.known.get(at).filter(|known| known.due == 0);
            let name = known.map(|known| &known.name);
            let on = each(at, name.unwrap_or(&Name::default()));
            match known {
                _ if top || !on => return (true, false),
                Some(known) => at = known.parent,
                None => return (false, !whole),
            }
        }
        (false, false)
    }

    /// Whether one of those that a cgroup is in, itself among them, is such a one;
    /// what is outside of containers is in none further up.
    fn any(&self, id: u64, is: &dyn Fn(u64, &Name) -> bool) -> Option<bool> {
        let mut found = false;
        let (whole, _) = self.up(id, &mut |at, name| {
            found = is(at, name);
            !found
        });
        (found || whole).then_some(found)
    }

    /// Whether a cgroup is one of these, or below one.
    pub(crate) fn is_below(&self, id: u64, tops: &[u64]) -> Option<bool> {
        self.any(id, &|id, _| tops.contains(&id))
    }

    /// Whether a cgroup is that of a container whose id begins with one of these, or
    /// below it.
    pub(crate) fn is_contained(&self, id: u64, ids: &[String]) -> Option<bool> {
        let begins = |container: &str| ids.iter().any(|id| container.starts_with(id.as_str()));
        let is = |_, name: &Name| name.container.as_ref().is_some_and(|(id, _)| begins(id));
        self.any(id, &is)
    }

    /// What a cgroup is in, the innermost of each; and whether all is known of it that
    /// will be.
    pub(crate) fn place(&self, id: u64) -> (Place, bool) {
        let mut place = Place::default();
        let (_, later) = self.up(id, &mut |_, name| {
            if let (Some((id, runtime)), true) = (&name.container, place.container.is_empty()) {
                (place.container, place.runtime) = (id.clone(), runtime);
            }
            place.pod = name.pod.clone().unwrap_or_default();
            place.pod.is_empty() && !name.outside
        });
        let whole = self.name(&mut place);
        (place, whole && !later)
    }

    /// Names the pod by the folder of its logs, if it has one; whether that was looked
    /// for.
    fn name(&self, place: &mut Place) -> bool {
        if place.pod.is_empty() {
            return true;
        }
        let read = &mut *self.read.borrow_mut();
        if let Some(pod) = read.pods.iter().find(|pod| pod.id == place.pod) {
            place.names = pod.names.clone();
            return true;
        }
        let Some(logs) = &self.logs else {
            return true;
        };
        let now = time::monotonic();
        if now < read.again_logs || folder::rewind(logs.as_fd()).is_err() {
            return false;
        }
        let _ = folder::names(logs.as_fd(), &mut |_, name| {
            if let Some((namespace, name)) = container::logs(name, &place.pod) {
                place.names = (namespace.into(), name.into());
            }
        });
        let end = time::monotonic();
        read.again_logs = end.saturating_add(PART * (end - now));
        if read.pods.len() >= PODS {
            read.pods.clear();
        }
        let (id, names) = (place.pod.clone(), place.names.clone());
        read.pods.push(Pod { id, names });
        true
    }
}

#[cfg(test)]
pub(crate) mod tests;
