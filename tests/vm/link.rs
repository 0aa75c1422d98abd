//! The few uses of `ip` and `tc` that the tests make, over rtnetlink:
//!
//! ```text
//! ip link set DEV up|down
//! ip link add DEV type veth peer name DEV netns PID
//! ip addr add ADDRESS/PREFIX dev DEV [nodad]
//! ip neigh add|replace ADDRESS lladdr MAC nud permanent dev DEV
//! ip neigh del ADDRESS dev DEV
//! tc qdisc add|replace dev DEV root netem loss PERCENT%
//! ```
//!
//! Contract: one request, one answer; anything else and any refusal is one
//! line on standard error and exit code 1. Message types and attributes are
//! those of include/uapi/linux/rtnetlink.h, if_link.h, neighbour.h, pkt_sched.h.

use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWQDISC: u16 = 36;

const HEADER: usize = 16;

/// A request under construction: header, body, attributes.
pub struct Request(Vec<u8>);

impl Request {
    /// One of this kind that asks for an answer.
    pub fn new(kind: u16, flags: u16, body: &[u8]) -> Request {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(body);
        Request(bytes)
    }

    fn with(mut self, kind: u16, value: &[u8]) -> Request {
        self.0.extend(attribute(kind, value));
        self
    }

    fn send(self) -> Result<(), String> {
        self.send_by(SockProtocol::NetlinkRoute)
    }

    /// Sends it to this family of netlink; the kernel's refusal, if it refuses.
    pub fn send_by(mut self, family: SockProtocol) -> Result<(), String> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        let ask = || {
            let netlink = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                family,
            )?;
            let kernel = NetlinkAddr::new(0, 0);
            sendto(netlink.as_raw_fd(), &self.0, &kernel, MsgFlags::empty())?;
            let mut answer = vec![0; 4096];
            let len = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            answer.truncate(len);
            Ok(answer)
        };
        let answer = ask().map_err(|e: nix::Error| e.to_string())?;
        let kind = answer.get(4..6).map(|b| u16::from_ne_bytes([b[0], b[1]]));
        let error = answer.get(HEADER..HEADER + 4);
        match (kind, error) {
            (Some(NLMSG_ERROR), Some(&[a, b, c, d])) => match i32::from_ne_bytes([a, b, c, d]) {
                0 => Ok(()),
                error => Err(nix::Error::from_raw(-error).to_string()),
            },
            _ => Err("no answer".to_owned()),
        }
    }
}

/// Length, type, value, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((value.len() as u16 + 4).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

fn index(device: &str) -> Result<[u8; 4], String> {
    let index = if_nametoindex(device).map_err(|e| format!("{device}: {e}"))?;
    Ok(index.to_ne_bytes())
}

fn address(text: &str) -> Result<(u8, Vec<u8>), String> {
    match text.parse() {
        Ok(IpAddr::V4(ip)) => Ok((libc::AF_INET as u8, ip.octets().to_vec())),
        Ok(IpAddr::V6(ip)) => Ok((libc::AF_INET6 as u8, ip.octets().to_vec())),
        Err(e) => Err(format!("{text}: {e}")),
    }
}

/// struct ifinfomsg: family, padding, type, index, flags, changed flags.
fn link_body(index: [u8; 4], flags: u32, change: u32) -> Vec<u8> {
    [&[0; 4], &index, &flags.to_ne_bytes(), &change.to_ne_bytes()]
        .map(|part| part.to_vec())
        .concat()
}

fn set_link(device: &str, up: bool) -> Result<(), String> {
    const IFF_UP: u32 = 1;
    let body = link_body(index(device)?, u32::from(up), IFF_UP);
    Request::new(RTM_NEWLINK, 0, &body).send()
}

fn add_veth(device: &str, peer: &str, pid: &str) -> Result<(), String> {
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_NET_NS_PID: u16 = 19;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    const VETH_INFO_PEER: u16 = 1;
    let pid: u32 = pid.parse().map_err(|e| format!("{pid}: {e}"))?;
    let other = [
        link_body([0; 4], 0, 0),
        attribute(IFLA_IFNAME, &text(peer)),
        attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes()),
    ]
    .concat();
    let info = [
        attribute(IFLA_INFO_KIND, b"veth"),
        attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &other)),
    ]
    .concat();
    Request::new(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &link_body([0; 4], 0, 0),
    )
    .with(IFLA_IFNAME, &text(device))
    .with(IFLA_LINKINFO, &info)
    .send()
}

fn add_address(net: &str, device: &str, flags: u8) -> Result<(), String> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let (ip, prefix) = net
        .split_once('/')
        .ok_or_else(|| format!("{net}: no prefix"))?;
    let (family, ip) = address(ip)?;
    let prefix: u8 = prefix.parse().map_err(|e| format!("{net}: {e}"))?;
    let body = [&[family, prefix, flags, 0][..], &index(device)?].concat();
    Request::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body)
        .with(IFA_LOCAL, &ip)
        .with(IFA_ADDRESS, &ip)
        .send()
}

fn neighbour(
    kind: u16,
    flags: u16,
    ip: &str,
    mac: Option<&str>,
    device: &str,
) -> Result<(), String> {
    const NUD_PERMANENT: u16 = 0x80;
    const NDA_DST: u16 = 1;
    const NDA_LLADDR: u16 = 2;
    let (family, ip) = address(ip)?;
    let state = NUD_PERMANENT.to_ne_bytes();
    let body = [&[family, 0, 0, 0][..], &index(device)?, &state, &[0, 0]].concat();
    let mut request = Request::new(kind, flags, &body).with(NDA_DST, &ip);
    if let Some(mac) = mac {
        let octets: Result<Vec<u8>, _> = mac
            .split(':')
            .map(|octet| u8::from_str_radix(octet, 16))
            .collect();
        request = request.with(NDA_LLADDR, &octets.map_err(|e| format!("{mac}: {e}"))?);
    }
    request.send()
}

fn set_netem(flags: u16, device: &str, loss: &str) -> Result<(), String> {
    const TC_H_ROOT: u32 = u32::MAX;
    const TCA_KIND: u16 = 1;
    const TCA_OPTIONS: u16 = 2;
    let percent: u64 = loss
        .trim_end_matches('%')
        .parse()
        .map_err(|e| format!("{loss}: {e}"))?;
    let lost = u32::try_from(u64::from(u32::MAX) * percent / 100).map_err(|e| e.to_string())?;
    // struct tcmsg: family, padding, index, handle, parent, info.
    let body = [
        [0; 4],
        index(device)?,
        [0; 4],
        TC_H_ROOT.to_ne_bytes(),
        [0; 4],
    ]
    .concat();
    // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
    let options: Vec<u8> = [0, 1000, lost, 0, 0, 0]
        .iter()
        .flat_map(|n: &u32| n.to_ne_bytes())
        .collect();
    Request::new(RTM_NEWQDISC, flags, &body)
        .with(TCA_KIND, &text("netem"))
        .with(TCA_OPTIONS, &options)
        .send()
}

fn run(args: &[&str]) -> Result<(), String> {
    const IFA_F_NODAD: u8 = 2;
    let flags = |how: &str| match how {
        "add" => NLM_F_CREATE | NLM_F_EXCL,
        _ => NLM_F_CREATE | NLM_F_REPLACE,
    };
    match args {
        ["link", "set", device, state @ ("up" | "down")] => set_link(device, *state == "up"),
        [
            "link",
            "add",
            device,
            "type",
            "veth",
            "peer",
            "name",
            peer,
            "netns",
            pid,
        ] => add_veth(device, peer, pid),
        ["addr", "add", net, "dev", device] => add_address(net, device, 0),
        ["addr", "add", net, "dev", device, "nodad"] => add_address(net, device, IFA_F_NODAD),
        [
            "neigh",
            how @ ("add" | "replace"),
            ip,
            "lladdr",
            mac,
            "nud",
            "permanent",
            "dev",
            device,
        ] => neighbour(RTM_NEWNEIGH, flags(how), ip, Some(mac), device),
        ["neigh", "del", ip, "dev", device] => neighbour(RTM_DELNEIGH, 0, ip, None, device),
        [
            "qdisc",
            how @ ("add" | "replace"),
            "dev",
            device,
            "root",
            "netem",
            "loss",
            loss,
        ] => set_netem(flags(how), device, loss),
        _ => Err("not one of the uses known here".to_owned()),
    }
}

/// As `ip` or `tc` with these arguments.
pub fn main(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{}: {why}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}
