//! Containers and pods by the names of their cgroups.
//!
//! Contract: a name is read as the runtimes give it, by either driver (systemd's
//! units, or plain folders), in cgroups of version 1 as of version 2. What is not
//! one of theirs, such as a monitor beside its container, is none.

use crate::model::text::{cut, is_digits};

/// Digits of a container's id, at least: others are parts of other ids.
const DIGITS: usize = 32;

/// What a cgroup's name says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Name {
    /// The id of the container, and the runtime's name, if it has one of its own.
    pub container: Option<(String, &'static str)>,
    /// The unique id of the pod.
    pub pod: Option<String>,
    /// What is in there is of none, whatever it is in.
    pub outside: bool,
}

/// What stands before a container's id, and whose that is.
const RUNTIMES: [(&str, &str); 7] = [
    ("docker", "docker"),
    ("cri-containerd", "containerd"),
    ("nerdctl", "containerd"),
    ("crio", "cri-o"),
    ("libpod", "podman"),
    ("libpod-payload", "podman"),
    // A folder that holds those of containers.
    ("libpod_parent", "podman"),
];

const NSPAWN: &str = "systemd-nspawn";

/// A runtime by its name; empty where it is none that is known.
pub(crate) fn runtime(name: &str) -> &'static str {
    let mut all = RUNTIMES.iter().map(|(_, name)| *name).chain([NSPAWN]);
    all.find(|known| *known == name).unwrap_or_default()
}

#[inline(never)]
fn is_id(text: &str) -> bool {
    text.len() >= DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What stands before and after the last such byte.
pub(super) fn last(text: &str, by: u8) -> Option<(&str, &str)> {
    let at = text.bytes().rposition(|b| b == by)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The text without what it begins and ends with, if it does.
#[inline(never)]
fn within<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.strip_prefix(begin)?.strip_suffix(end)
}

/// A machine's name, as a unit's name has it: systemd.unit(5).
fn machine(name: &str) -> Option<String> {
    let service = within(name, "systemd-nspawn@", ".service");
    let mut machine = within(name, "machine-", ".scope").or(service)?.to_string();
    while let Some((before, after)) = cut(&machine, "\\x2d") {
        machine = [before, "-", after].concat();
    }
    // Those of libvirt: virtual machines, and containers with another word for them.
    let foreign = ["qemu-", "lxc-"].iter().any(|of| machine.starts_with(of));
    (!foreign).then_some(machine)
}

/// The unique id of a pod, where this is the name of its cgroup.
fn pod(name: &str) -> Option<String> {
    let name = within(name, "", ".slice").unwrap_or(name);
    let at = name
        .as_bytes()
        .windows(3)
        .rposition(|word| word == b"pod")?;
    let (before, id) = (name.get(..at)?, name.get(at + 3..)?);
    let mut id = id.as_bytes().to_vec();
    let mut digits = 0;
    for byte in &mut id {
        match *byte {
            b'_' => *byte = b'-',
            b'-' => {}
            b if b.is_ascii_hexdigit() => digits += 1,
            _ => return None,
        }
    }
    let whole = digits == 32 && (before.is_empty() || before.ends_with('-'));
    String::from_utf8(id).ok().filter(|_| whole)
}

/// What the name of a cgroup says that is in one of the other name.
pub(crate) fn read(name: &str, parent: &str) -> Name {
    let mut read = Name::default();
    // By a runtime that takes a slice for a folder: `SLICE:PREFIX:ID`.
    let (slice, unit) = cut(name, ":").unwrap_or((name, name));
    read.pod = pod(slice);
    if let Some(machine) = machine(unit) {
        read.container = Some((machine, NSPAWN));
        return read;
    }
    // Who looks after the container, not what runs in it.
    let nspawn = ["machine-", "systemd-nspawn@"];
    let beside = unit == "supervisor" && nspawn.iter().any(|of| parent.starts_with(of));
    read.outside = beside;
    let unit = within(unit, "", ".scope").unwrap_or(unit);
    let unit = within(unit, "", ".service").unwrap_or(unit);
    let parts = last(unit, b':').or_else(|| last(unit, b'-'));
    let (prefix, id) = match parts {
        // A task's id, and a number: Amazon's ECS.
        Some((id, number)) if is_id(id) && is_digits(number) => ("", unit),
        Some((prefix, id)) if is_id(id) => (prefix, id),
        _ if is_id(unit) => (parent, unit),
        _ => return read,
    };
    if prefix.ends_with("conmon") {
        read.outside = true;
        return read;
    }
    let runtime = RUNTIMES.iter().find(|(before, _)| *before == prefix);
    let runtime = runtime.map_or("", |(_, name)| name);
    read.container = Some((id.to_ascii_lowercase(), runtime));
    read
}

/// The namespace and the name of the pod with this id, by the name of its folder of
/// logs.
pub(crate) fn logs<'a>(folder: &'a str, id: &str) -> Option<(&'a str, &'a str)> {
    let (pod, of) = last(folder, b'_')?;
    cut(pod, "_").filter(|_| of == id)
}

#[cfg(test)]
mod tests;
