//! The one use of `ss` that the tests make, over sock_diag:
//!
//! ```text
//! ss -K -H -t -a -n [state listening] src ADDRESS sport = PORT [dst ADDRESS dport = PORT]
//! ```
//!
//! Contract: it destroys that one IPv4 socket and prints a line; without a
//! line nothing was destroyed. Anything else is refused. Messages are those of
//! include/uapi/linux/inet_diag.h and sock_diag.h.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use nix::sys::socket::SockProtocol;

use crate::link::Request;
use crate::suite::say;

const SOCK_DESTROY: u16 = 21;

/// struct inet_diag_req_v2: family, protocol, extensions, padding, states, and
/// the socket by its ports and addresses, with its device and its cookie left
/// open.
fn socket(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Vec<u8> {
    let wide = |ip: Ipv4Addr| [&ip.octets()[..], &[0; 12]].concat();
    [
        &[libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0][..],
        &u32::MAX.to_ne_bytes(),
        &src.1.to_be_bytes(),
        &dst.1.to_be_bytes(),
        &wide(src.0),
        &wide(dst.0),
        &[0; 4],
        &[0xff; 8],
    ]
    .concat()
}

fn end(ip: &str, port: &str) -> Result<(Ipv4Addr, u16), String> {
    let ip = ip.parse().map_err(|e| format!("{ip}: {e}"))?;
    Ok((ip, port.parse().map_err(|e| format!("{port}: {e}"))?))
}

fn destroy(args: &[&str]) -> Result<(), String> {
    let (src, dst) = match args {
        [
            "-K",
            "-H",
            "-t",
            "-a",
            "-n",
            "state",
            "listening",
            "src",
            ip,
            "sport",
            "=",
            port,
        ] => (end(ip, port)?, (Ipv4Addr::UNSPECIFIED, 0)),
        [
            "-K",
            "-H",
            "-t",
            "-a",
            "-n",
            "src",
            ip,
            "sport",
            "=",
            port,
            "dst",
            peer,
            "dport",
            "=",
            to,
        ] => (end(ip, port)?, end(peer, to)?),
        _ => return Err("not the use known here".to_owned()),
    };
    Request::new(SOCK_DESTROY, 0, &socket(src, dst)).send_by(SockProtocol::NetlinkSockDiag)
}

/// As `ss` with these arguments.
pub fn main(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match destroy(&words) {
        Ok(()) => say("destroyed"),
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{}: {why}", words.join(" "));
        }
    }
    ExitCode::SUCCESS
}
