//! Under load: each tool in turn, each of its runs beside an untraced one.
//!
//! Contract: a round is an untraced load, then the tool with a load of the same
//! size, then with one more while the kernel measures programs, for that itself
//! costs time. All tools have a round before any has its next.

use crate::common::kernel;
use crate::load::Load;
use crate::table::{self, Table};
use crate::tool::{Kind, Tool};
use crate::watch;

/// The nets of the loads that are traced: without the kernel's measuring, and with.
const NETS: [u8; 2] = [66, 67];
/// That of those that are not.
const UNTRACED: u8 = 65;

/// What a round tells; a figure that a tool has none of is no number.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Connections a second against those of the untraced load.
    throughput: f64,
    /// The load's own CPU time of a connection, likewise.
    load_cpu: f64,
    /// Nanoseconds in the kernel for each change of state.
    kernel: f64,
    /// The tool's own CPU time for each event that it printed, in nanoseconds.
    user: f64,
    /// Wake-ups a second.
    wakes: f64,
    /// Events that are missing, of a hundred.
    lost: f64,
    /// Events that are missing, less those that it says to be.
    silent: u64,
    /// Whether it printed more than there was.
    more: bool,
}

/// One round of one tool.
fn round(tool: &Tool, load: Load) -> Result<Round, String> {
    let on = |net| Load { net, ..load };
    let untraced = on(UNTRACED).make()?;
    let mut running = tool.start()?;
    let pid = running.child.pid();
    let before = running.used();
    let made = on(NETS[0]).make()?;
    let wakes = running.used().wakes - before.wakes;
    running.settle();
    let cpu = running.used().cpu - before.cpu;
    let (time, runs) = {
        let _measuring = kernel::measure_programs()
            .map_err(|e| format!("BPF_ENABLE_STATS (Linux 5.8 and later): {e}"))?;
        let before = watch::programs(pid);
        on(NETS[1]).make()?;
        let after = watch::programs(pid);
        (after.0 - before.0, after.1 - before.1)
    };
    running.settle();
    running.stop()?;
    let (shown, count) = running.shown(NETS[0])?;
    let expected = made.connections * tool.lines();
    let (rest, _) = running.shown(NETS[1])?;
    let missing = (2 * expected).saturating_sub(shown + rest);
    Ok(Round {
        throughput: made.rate() / untraced.rate(),
        load_cpu: made.each() / untraced.each(),
        kernel: time as f64 / runs as f64,
        user: match tool.kind {
            Kind::Nothing => f64::NAN,
            _ => cpu.as_nanos() as f64 / shown as f64,
        },
        wakes: wakes as f64 / made.wall.as_secs_f64(),
        lost: match expected {
            0 => f64::NAN,
            _ => 100.0 * (expected as f64 - shown as f64) / expected as f64,
        },
        silent: missing.saturating_sub(count.lost),
        more: shown > expected || rest > expected,
    })
}

/// All rounds of all tools.
pub struct Rounds(Vec<(Tool, Vec<Round>)>);

impl Rounds {
    /// Makes them; `each` is told of every one.
    pub fn make(
        tools: &[Tool],
        count: u32,
        load: Load,
        each: &mut dyn FnMut(String),
    ) -> Result<Rounds, String> {
        let mut rounds: Vec<_> = tools.iter().map(|t| (t.clone(), Vec::new())).collect();
        for n in 1..=count {
            for (tool, all) in &mut rounds {
                each(format!("{n} of {count}: {}", tool.name));
                all.push(round(tool, load).map_err(|e| format!("{}: {e}", tool.name))?);
            }
        }
        Ok(Rounds(rounds))
    }

    fn median(&self, name: &str, figure: fn(&Round) -> f64) -> f64 {
        let rounds = self.0.iter().find(|(tool, _)| tool.name == name);
        let figures = rounds.map_or(Vec::new(), |(_, all)| all.iter().map(figure).collect());
        table::median(figures)
    }

    /// As a table. Beside the kernel's and the tool's own nanoseconds stands how
    /// often they are those of floors k and e.
    pub fn table(&self, title: String) -> Table {
        let heads = [
            "throughput",
            "load's CPU",
            "kernel ns/event",
            "× k",
            "user ns/event",
            "× e",
            "wake-ups/s",
            "lost %",
        ];
        let mut table = Table::new(title, &heads);
        let floors = [
            self.median("floor k", |r| r.kernel),
            self.median("floor e", |r| r.user),
        ];
        for (tool, _) in &self.0 {
            let of = |figure| self.median(&tool.name, figure);
            let [kernel, user] = [of(|r| r.kernel), of(|r| r.user)];
            table.row(
                &tool.name,
                &[
                    (of(|r| r.throughput), 3),
                    (of(|r| r.load_cpu), 3),
                    (kernel, 0),
                    (kernel / floors[0], 2),
                    (user, 0),
                    (user / floors[1], 2),
                    (of(|r| r.wakes), 0),
                    (of(|r| r.lost), 3),
                ],
            );
        }
        table
    }

    /// What is wrong with the counts: more lines than there was, and of a tool that
    /// tells its losses, what is missing without a word.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (tool, rounds) in &self.0 {
            if rounds.iter().any(|round| round.more) {
                faults.push(format!("{} printed more than there was", tool.name));
            }
            let silent: u64 = rounds.iter().map(|round| round.silent).sum();
            if tool.tells && silent > 0 {
                faults.push(format!("{}: {silent} are missing and not said", tool.name));
            }
        }
        faults
    }
}
