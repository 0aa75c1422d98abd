//! Listeners by address, and whose the connections are that wait there.

use super::diag::AF_INET;
use crate::bpf::layout::LK_SIZE;
use crate::bpf::maps::Listener;
use crate::model::event::{Owner, OwnerSource};
use crate::model::sort;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Puts the listeners of one address together, in the order of their keys. They
/// have an owner if all are known to be of the same process.
pub(super) fn together(mut listeners: Vec<Listener>) -> Vec<Listener> {
    sort::by_key(&mut listeners, Listener::key);
    listeners.dedup_by(|next, first| {
        let same = next.key() == first.key();
        if same {
            let pid = |listener: &Listener| listener.owner.map(|owner| owner.task.pid);
            if pid(next) != pid(first) {
                first.owner = None;
            }
            first.count += next.count;
            first.shared |= next.shared;
        }
        same
    });
    listeners
}

/// The owner of the listener that a connection waits to be accepted by: that of
/// its address, else that of all addresses.
pub(super) fn awaited(listeners: &[Listener], connection: &Listener) -> Option<Owner> {
    let find = |key: &[u8; LK_SIZE]| {
        let place = listeners.binary_search_by_key(key, Listener::key).ok()?;
        listeners.get(place)
    };
    let mut wild = *connection;
    wild.local.addr = match connection.family {
        AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let listener = find(&connection.key()).or_else(|| find(&wild.key()))?;
    Some(Owner {
        source: OwnerSource::Listener,
        ..listener.owner?
    })
}

#[cfg(test)]
mod tests {
    use super::super::diag::AF_INET6;
    use super::*;
    use crate::bpf::wire::tests::owner;
    use crate::model::tcp::Endpoint;

    fn listener(netns: u32, family: u16, address: &str, pid: Option<u32>) -> Listener {
        Listener {
            netns,
            family,
            local: Endpoint {
                addr: address.parse().expect("an address"),
                port: 80,
            },
            device: 0,
            owner: pid.map(|pid| owner(pid, OwnerSource::Snapshot)),
            count: 1,
            shared: false,
        }
    }

    #[test]
    fn listeners_of_one_address_need_one_owner() {
        let one = |pid| listener(1, AF_INET, "0.0.0.0", pid);
        let all = |pids: &[Option<u32>]| {
            let all = together(pids.iter().map(|pid| one(*pid)).collect());
            assert_eq!(all.len(), 1);
            (all[0].count, all[0].owner.map(|o| o.task.pid))
        };
        assert_eq!(all(&[Some(7), Some(7)]), (2, Some(7)));
        assert_eq!(all(&[Some(7), Some(8)]), (2, None));
        assert_eq!(all(&[Some(7), None]), (2, None));
        assert_eq!(all(&[None, Some(7)]), (2, None));
        assert_eq!(all(&[Some(7), Some(8), Some(7)]), (3, None));
    }

    #[test]
    fn a_waiting_connection_is_its_listeners() {
        let all = together(vec![
            listener(1, AF_INET, "0.0.0.0", Some(1)),
            listener(1, AF_INET, "10.0.0.1", Some(2)),
            listener(1, AF_INET6, "::", Some(3)),
            listener(2, AF_INET, "0.0.0.0", Some(4)),
            listener(3, AF_INET, "0.0.0.0", None),
        ]);
        let at = |netns, family, address| {
            let owner = awaited(&all, &listener(netns, family, address, None));
            owner.map(|owner| (owner.task.pid, owner.source))
        };
        let whose = |pid| Some((pid, OwnerSource::Listener));
        assert_eq!(at(1, AF_INET, "10.0.0.1"), whose(2));
        assert_eq!(at(1, AF_INET, "10.0.0.2"), whose(1));
        assert_eq!(at(1, AF_INET6, "10.0.0.2"), whose(3));
        assert_eq!(at(2, AF_INET, "10.0.0.2"), whose(4));
        assert_eq!(at(3, AF_INET, "10.0.0.2"), None);
        assert_eq!(at(4, AF_INET, "10.0.0.2"), None);
    }
}
