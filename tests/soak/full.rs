//! As many connections as are wanted, as fast as can be, by a thread for each CPU:
//! more than a busy host has, for as long as it takes.
//!
//! Contract: as the steady one, the log is rotated and the reader stops for five
//! seconds in each minute; there is no flood besides, and no CPU goes. Bounded by
//! the number of connections, and by [`SLOWEST`].

use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use super::common::{TempDir, wait};
use super::lines::NETS;
use super::load::{CHANGES, Load, Running};
use super::{Ordering, Soak, heads, say, status};

/// Connections a second that any machine makes.
const SLOWEST: u64 = 500;
/// Between two looks.
const PIECE: Duration = Duration::from_secs(5);
/// Looks of a round.
const PIECES: u32 = 12;

/// A round: a minute, or less where the load ends.
fn round(soak: &mut Soak, load: &mut Running) {
    for piece in 0..PIECES {
        let what = match piece {
            1 => {
                soak.rotate();
                "the log was rotated"
            }
            2 => {
                soak.reader.pause.store(true, Ordering::Relaxed);
                "the reader stands still"
            }
            _ => "",
        };
        let ended = wait::within(PIECE, || load.ended());
        soak.reader.pause.store(false, Ordering::Relaxed);
        if ended {
            return;
        }
        soak.sample(what);
    }
    soak.rounds.push(status(soak.tracer.pid(), "VmRSS"));
}

/// Makes so many connections; what is wrong.
pub fn soak(connections: u64) -> Vec<String> {
    let dir = TempDir::new();
    let mut soak = Soak::start(dir.path());
    let threads = available_parallelism().map_or(1, |n| n.get().min(64)) as u8;
    let load = Load {
        net: NETS[0],
        rate: 0,
        lasts: Duration::from_secs(connections / SLOWEST),
        connections: connections.div_ceil(threads.into()),
        threads,
        user: 0,
    };
    heads();
    soak.sample("");
    let began = Instant::now();
    let mut load = load.start();
    while !load.ended() {
        round(&mut soak, &mut load);
    }
    let took = began.elapsed().as_secs_f64();
    let made = load.finish(Duration::from_secs(1)).unwrap_or_else(|why| {
        soak.faults.push(why);
        0
    });
    soak.catch_up(made * CHANGES);
    let rate = made as f64 / took;
    say(&format!(
        "{made} connections at {rate:.0} a second; {CHANGES} changes each"
    ));
    soak.stop([made * CHANGES, 0])
}
