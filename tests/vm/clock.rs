//! The wall clock is set while events lie in the rings. The machine's clock is
//! its own.

use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use crate::common::event::{self, Value};
use crate::common::{Tracer, net, wait};
use crate::lives::both_closed;
use crate::suite::Done;

const HOUR: i64 = 3_600_000_000_000;

/// Sets the wall clock so far ahead, or back.
fn step(nanos: i64) {
    let to = net::now().checked_add_signed(nanos).expect("a time");
    let to = TimeSpec::from_duration(Duration::from_nanos(to));
    clock_settime(ClockId::CLOCK_REALTIME, to).expect("clock_settime");
}

/// A conversation, and the wall clock before and after.
fn converse(listener: &std::net::TcpListener) -> [u64; 2] {
    let before = net::now();
    net::converse(listener);
    [before, net::now()]
}

fn fits(events: &[Value], [before, after]: [u64; 2]) {
    for event in events {
        let time = event::nanos(event);
        // Reading two clocks takes a moment, too.
        let slack = 5_000_000;
        let range = before - slack..after + slack;
        assert!(range.contains(&time), "not in {range:?}: {event}");
    }
}

/// Events keep the time of before, and those that come later have the new one:
/// an hour ahead, and an hour back.
pub fn set() -> Done {
    let tracer = Tracer::json("");
    let started = Instant::now();
    let listeners = [(); 3].map(|()| net::listen(net::own_ip()));
    let servers = listeners
        .each_ref()
        .map(|l| l.local_addr().expect("its address"));
    let first_second = Duration::from_millis(1200).saturating_sub(started.elapsed());
    wait::pass(
        "it looks more often at first, which would be too easy",
        first_second,
    );
    let first = converse(&listeners[0]);
    step(HOUR);
    const WOKEN: &str = "it isn't said when it has been woken";
    wait::pass(WOKEN, Duration::from_millis(50));
    let second = converse(&listeners[1]);
    step(-HOUR);
    wait::pass(WOKEN, Duration::from_millis(50));
    let third = converse(&listeners[2]);
    tracer.until(|lines| servers.iter().all(|server| both_closed(lines, *server)));
    let all = event::objects(&tracer.stop().ok().lines());
    for (server, span) in servers.into_iter().zip([first, second, third]) {
        let events = event::with(&all, server);
        assert!(events.len() >= 9, "{events:#?}");
        fits(&events, span);
    }
    Ok(())
}
