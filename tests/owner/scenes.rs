//! What the programs do on loopback, and whose each event of it is.

use std::net::SocketAddr;

use crate::actor::{Actor, Stage, Who};
use crate::check::{Life, Whose};
use crate::common::net::own_ip;
use crate::{ends, holders, nets, servers, steered};

/// Plays, and says what is to be told of it; `None` where it can't be played.
pub type Scene = fn(&Stage) -> Option<Vec<Life>>;

/// Every scene but that of the sockets from before the start.
pub const ALL: [(&str, Scene); 47] = [
    ("plain", servers::plain),
    ("server_closes_first", servers::server_closes_first),
    ("ipv6_and_dual_stack", servers::ipv6_and_dual_stack),
    ("forking_server", servers::forking_server),
    ("preforked_server", servers::preforked_server),
    ("reuseport_workers", servers::reuseport_workers),
    (
        "reuseport_of_one_process",
        servers::reuseport_of_one_process,
    ),
    ("threads", servers::threads),
    ("killed", ends::killed),
    ("killed_with_data_unread", ends::killed_with_data_unread),
    ("passed_on", ends::passed_on),
    ("left_to_the_garbage_collector", ends::garbage),
    ("refused", ends::refused),
    ("reset_by_client", ends::reset_by_client),
    ("reset_by_server", ends::reset_by_server),
    ("half_closed", ends::half_closed),
    ("shut_down_by_another", ends::shut_down_by_another),
    ("let_go_by_another", ends::let_go_by_another),
    ("lesser_user", servers::lesser_user),
    ("never_accepted", ends::never_accepted),
    ("connected_again", ends::connected_again),
    ("to_itself", ends::to_itself),
    ("renamed", ends::renamed),
    ("other_user_and_cgroup", ends::other_user_and_cgroup),
    ("killed_by_an_admin", ends::killed_by_an_admin),
    ("two_namespaces", nets::two_namespaces),
    ("slow_connect", nets::slow_connect),
    ("timed_out", nets::timed_out),
    ("simultaneous_open", nets::simultaneous_open),
    ("fast_open", nets::fast_open),
    ("fast_open_shut_early", nets::fast_open_shut_early),
    ("lossy", nets::lossy),
    ("bound_to_device", nets::bound_to_device),
    ("by_tproxy", steered::by_tproxy),
    ("by_sk_lookup", steered::by_sk_lookup),
    ("at_any_address", steered::at_any_address),
    ("daemon", holders::daemon),
    ("daemon_by_two_forks", holders::daemon_by_two_forks),
    ("supervisor", holders::supervisor),
    ("dropped_privileges", holders::dropped_privileges),
    ("acceptor_ends", holders::acceptor_ends),
    ("passed_on_and_ended", holders::passed_on_and_ended),
    ("ended_by_a_worker", holders::ended_by_a_worker),
    ("named_thread", holders::named_thread),
    ("migrated", holders::migrated),
    ("second_subflow", holders::second_subflow),
    ("renamed_meanwhile", holders::renamed_meanwhile),
];

/// The name of the scene that begins before the tracers do.
pub const OLD: &str = "open_before_the_start";

/// An address of its own, at a port of the kernel's choice.
pub fn anywhere() -> SocketAddr {
    SocketAddr::new(own_ip().into(), 0)
}

/// A server that listens, and a client.
pub fn two(stage: &Stage) -> (Actor, Actor, SocketAddr) {
    let (mut server, client) = (stage.actor("server"), stage.actor("client"));
    let at = server.listen("l", anywhere());
    (server, client, at)
}

/// A request and its answer.
pub fn talk(client: &mut Actor, server: &mut Actor, there: u64, back: u64) {
    client.ask(&format!("send c {there}"));
    server.ask(&format!("receive s {there}"));
    server.ask(&format!("send s {back}"));
    client.ask(&format!("receive c {back}"));
}

/// The first closes its end, then the last, which sees it.
pub fn part(first: &mut Actor, one: &str, last: &mut Actor, other: &str) {
    first.ask(&format!("close {one}"));
    last.ask(&format!("receive {other} all"));
    last.ask(&format!("close {other}"));
}

/// A listener and two connections from before the start of the tracers.
pub struct Old {
    server: Actor,
    client: Actor,
    at: SocketAddr,
    from: SocketAddr,
}

impl Old {
    pub fn open(stage: &Stage) -> Old {
        let (mut server, mut client, at) = two(stage);
        let from = client.connect("c", at);
        server.ask("accept l s");
        talk(&mut client, &mut server, 3, 4);
        Old {
            server,
            client,
            at,
            from,
        }
    }

    /// Closes the old ones, and makes a new child of the old listener.
    pub fn close(mut self) -> Vec<Life> {
        let (server, client) = (&mut self.server, &mut self.client);
        part(server, "s", client, "c");
        let new = client.connect("d", self.at);
        server.ask("accept l t");
        part(client, "d", server, "t");
        server.ask("close l");
        let (server, client) = (&server.who, &client.who);
        let old = |who: &Who| Whose::Old(who.clone());
        vec![
            Life::new("old client", self.from, self.at)
                .then("ESTABLISHED>CLOSE_WAIT", old(client))
                .by("CLOSE_WAIT>LAST_ACK", client)
                .passive("LAST_ACK>CLOSE", &[client])
                .bytes(3, 4),
            Life::new("old server", self.at, self.from)
                .closes(server)
                .bytes(4, 3),
            Life::client(new, self.at, client).closes(client),
            Life::new("child of an old listener", self.at, new)
                .then("LISTEN>SYN_RECV", old(server))
                .passive("SYN_RECV>ESTABLISHED", &[])
                .accepted(server)
                .follows(&[server], server),
        ]
    }
}
