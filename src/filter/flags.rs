//! The original's flags as an expression.
//!
//! Contract: a flag that isn't set is everything; those that are must all hold.

use super::tree::{Expr, Nets, Ranges, Side, States, Term};
use crate::model::tcp::State;
use std::net::IpAddr;

/// The flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Process id of the owner.
    pub pid: Option<u32>,
    /// Local address.
    pub src_ip: Option<IpAddr>,
    /// Peer's address.
    pub dst_ip: Option<IpAddr>,
    /// Local port.
    pub src_port: Option<u16>,
    /// Peer's port.
    pub dst_port: Option<u16>,
    /// Only transitions to ESTABLISHED.
    pub active_only: bool,
}

impl Flags {
    /// What they ask for.
    pub fn expr(&self) -> Expr {
        let one = |n: u32| Ranges::of([(n, n)]);
        let net = |side, addr: IpAddr| {
            let len = if addr.is_ipv4() { 32 } else { 128 };
            Term::Net(side, Nets::of([(addr, len)]))
        };
        let port = |side, port: u16| Term::Port(side, one(port.into()));
        let established = States::default().and(State::Established);
        let terms = [
            self.pid.map(|pid| Term::Pid(one(pid))),
            self.src_ip.map(|addr| net(Side::Local, addr)),
            self.dst_ip.map(|addr| net(Side::Peer, addr)),
            self.src_port.map(|number| port(Side::Local, number)),
            self.dst_port.map(|number| port(Side::Peer, number)),
            self.active_only.then_some(Term::To(established)),
        ];
        Expr::and(terms.into_iter().flatten().map(Expr::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_an_expression() {
        assert_eq!(Flags::default().expr(), Expr::All);
        let all = Flags {
            pid: Some(7),
            src_ip: "10.0.0.1".parse().ok(),
            dst_ip: "::1".parse().ok(),
            src_port: Some(1),
            dst_port: Some(443),
            active_only: true,
        };
        assert_eq!(
            all.expr().text(),
            "pid 7 and src net 10.0.0.1 and dst net ::1 and src port 1 and dst port 443 \
             and to established"
        );
    }
}
