//! Listeners that are reached at addresses where they do not listen.

use std::net::SocketAddr;

use crate::actor::{Actor, Stage};
use crate::check::Life;
use crate::common::net::Netns;
use crate::common::skip;
use crate::nets::{joined, port, second};
use crate::scenes::part;

/// A whole network that is the second namespace's own, if that can be had.
fn route(here: &Netns, there: &Netns) -> Option<()> {
    let routes = [
        (here, "route add 10.78.0.0/16 via 10.77.0.2"),
        (there, "route add local 10.78.0.0/16 dev lo"),
    ];
    for (netns, route) in routes {
        if let Err(why) = netns.tool("ip", route) {
            skip(&format!("no ip that knows of routes: {why}"));
            return None;
        }
    }
    Some(())
}

/// A connection to this address, which the server accepts from `l`; the client
/// closes first.
fn converse(server: &mut Actor, client: &mut Actor, at: SocketAddr) -> (SocketAddr, Life) {
    let from = client.connect("c", at);
    server.ask("accept l s");
    part(client, "c", server, "s");
    (
        from,
        Life::client(from, at, &client.who).closes(&client.who),
    )
}

/// By netfilter: once where another process listens, once where nobody does.
pub fn by_tproxy(stage: &Stage) -> Option<Vec<Life>> {
    const IP_TRANSPARENT: i32 = 19;
    let (here, there) = joined()?;
    let mut server = stage.actor_in(&there, "proxy");
    let mut rival = stage.actor_in(&there, "rival");
    let mut client = stage.actor_in(&here, "client");
    let (own, taken) = (second(60), second(61));
    let free = SocketAddr::from(([10, 78, 0, 1], port(62)));
    let rules = [
        "add table ip t".into(),
        "add chain ip t c { type filter hook prerouting priority -150 ; }".into(),
        format!(
            "add rule ip t c tcp dport {{ {}, {} }} tproxy to {own} meta mark set 1 accept",
            taken.port(),
            free.port()
        ),
    ];
    if let Some(why) = rules.iter().find_map(|rule| there.tool("nft", rule).err()) {
        skip(&format!("no nft, or a kernel without its tproxy: {why}"));
        return None;
    }
    route(&here, &there)?;
    there.ip("rule add fwmark 1 lookup 100");
    there.ip("route add local 0.0.0.0/0 dev lo table 100");
    server.ask("socket l 4");
    server.ask(&format!("option l {} {IP_TRANSPARENT} 1", libc::SOL_IP));
    server.ask(&format!("bind l {own}"));
    server.ask("listen l");
    rival.listen("l", taken);
    let mut lives = Vec::new();
    for (at, rival) in [(taken, Some(&rival.who)), (free, None)] {
        let (from, life) = converse(&mut server, &mut client, at);
        let child = Life::chosen(at, from, &server.who, rival);
        lives.extend([life, child.follows(&[&server.who], &server.who)]);
    }
    Some(lives)
}

/// By a program in the kernel, past the process that listens there.
pub fn by_sk_lookup(stage: &Stage) -> Option<Vec<Life>> {
    let (here, there) = joined()?;
    let mut server = stage.actor_in(&there, "server");
    let mut rival = stage.actor_in(&there, "rival");
    let mut client = stage.actor_in(&here, "client");
    let (own, taken) = (second(63), second(64));
    server.listen("l", own);
    rival.listen("l", taken);
    server.tell(&format!("steer l {}", taken.port()));
    if let Some(error) = server.answer().get("error") {
        skip(&format!("a kernel without sk_lookup (bpf: {error})"));
        return None;
    }
    let mut lives = Vec::new();
    for (at, rival) in [(taken, Some(&rival.who)), (own, None)] {
        let (from, life) = converse(&mut server, &mut client, at);
        let child = match rival {
            Some(rival) => Life::chosen(at, from, &server.who, Some(rival)),
            None => Life::server(at, from, &server.who),
        };
        lives.extend([life, child.follows(&[&server.who], &server.who)]);
    }
    Some(lives)
}

/// Where a whole network is this host's own, a wildcard stands for all of it.
pub fn at_any_address(stage: &Stage) -> Option<Vec<Life>> {
    let (here, there) = joined()?;
    route(&here, &there)?;
    let mut server = stage.actor_in(&there, "server");
    let mut client = stage.actor_in(&here, "client");
    server.listen("l", SocketAddr::from(([0, 0, 0, 0], port(65))));
    let at = SocketAddr::from(([10, 78, 3, 4], port(65)));
    let (from, life) = converse(&mut server, &mut client, at);
    let child = Life::server(at, from, &server.who);
    Some(vec![life, child.follows(&[&server.who], &server.who)])
}
