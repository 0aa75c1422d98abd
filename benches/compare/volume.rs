//! After very many connections: the memory that it took.
//!
//! Contract: everything is on, the report too, and the lines go to /dev/null. What
//! is mapped of the rings is told apart, where the kernel counts it at all.

use std::fs::File;

use crate::load::Load;
use crate::table::Table;
use crate::tool::Tool;
use crate::watch;
use crate::{Told, progress};

/// The net of this load.
const NET: u8 = 69;

fn kib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// The most memory of each, at the end of its report.
pub fn memory(tools: &[Tool], load: Load) -> Told {
    let heads = [
        "connections/s",
        "peak RSS MiB",
        "of it rings",
        "beside them",
    ];
    let title = format!("Memory after {} connections", load.connections);
    let mut table = Table::new(title, &heads);
    for tool in tools {
        progress(format!("memory: {}", tool.name));
        let null = || File::create("/dev/null").map_err(|e| format!("/dev/null: {e}"));
        let mut running = tool.start_with(null()?)?;
        let made = Load { net: NET, ..load }.make()?;
        running.settle();
        let rings = watch::rings(running.child.pid());
        let peak = running.stop()?;
        let beside = peak.saturating_sub(rings);
        table.row(
            &tool.name,
            &[
                (made.rate(), 0),
                (kib(peak), 1),
                (kib(rings), 1),
                (kib(beside), 1),
            ],
        );
    }
    Ok((table, Vec::new()))
}
