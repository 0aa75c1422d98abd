//! Limits of this process (setrlimit(2)).

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process have as many descriptors as it may: programs, maps, rings,
/// and by samples each tracepoint on each CPU take one.
pub(crate) fn raise_open_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where that is refused, they may do as they are.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// How many descriptors this process may have; 0 where that is not known.
pub(crate) fn open_files() -> usize {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    limits.map_or(0, |(now, _)| usize::try_from(now).unwrap_or(usize::MAX))
}
