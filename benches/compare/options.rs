//! The command line.
//!
//! Contract: without `--bench`, which `cargo bench` passes, it is the smoke test.

use crate::load::Load;
use crate::tool::{Kind, Tool};

pub const USAGE: &str = "usage: make bench ARGS=\"[--parts full,rate,idle,start,memory,filter] [--reps N] \
    [--conns N] [--threads N] [--rate N] [--volume N] [--only NAME,…] [--tool NAME=COMMAND]… [--smoke]\"";

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// As many connections as can be.
    Full,
    /// A host that is not busy.
    Rate,
    /// A host on which nothing happens.
    Idle,
    /// From exec to attached, and from event to line.
    Start,
    /// Memory after many connections.
    Memory,
    /// Full speed with filters.
    Filter,
}

const PARTS: [(&str, Part); 6] = [
    ("full", Part::Full),
    ("rate", Part::Rate),
    ("idle", Part::Idle),
    ("start", Part::Start),
    ("memory", Part::Memory),
    ("filter", Part::Filter),
];

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Options {
    pub parts: Vec<Part>,
    pub reps: u32,
    pub conns: u64,
    pub threads: u64,
    pub rate: u64,
    pub volume: u64,
    /// The tools that are measured, by name; empty for all.
    pub only: Vec<String>,
    more: Vec<Tool>,
    pub smoke: bool,
}

impl Options {
    /// Reads the arguments.
    pub fn parse(args: &[String]) -> Result<Options, String> {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        let mut options = Options {
            parts: PARTS.iter().map(|(_, part)| *part).collect(),
            reps: 5,
            conns: 20_000,
            threads: cpus as u64,
            rate: 1000,
            volume: 1_000_000,
            only: Vec::new(),
            more: Vec::new(),
            smoke: !args.iter().any(|arg| arg == "--bench"),
        };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--bench" => continue,
                "--smoke" => {
                    options.smoke = true;
                    continue;
                }
                _ => {}
            }
            let value = args.next().ok_or(format!("{flag} of what?"))?;
            let number = |least: u64, most: u64| {
                let number = value.parse().ok().filter(|n| (least..=most).contains(n));
                number.ok_or(format!("{flag} is {least} to {most}, not {value}"))
            };
            match flag.as_str() {
                "--parts" => options.parts = parts(value)?,
                "--reps" => options.reps = number(1, 100)? as u32,
                "--conns" => options.conns = number(10, 1_000_000)?,
                "--threads" => options.threads = number(1, 64)?,
                "--rate" => options.rate = number(1, 100_000)?,
                "--volume" => options.volume = number(1000, 5_000_000)?,
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                "--tool" => {
                    let tool = Tool::given(value).ok_or(format!("{value} is no NAME=COMMAND"))?;
                    options.more.push(tool);
                }
                _ => return Err(format!("unknown: {flag}")),
            }
        }
        if options.smoke {
            options.parts = vec![Part::Full];
            (options.reps, options.conns, options.threads) = (1, 200, 2);
            options.only = ["JSON", "--closed-only", "floor e"]
                .map(String::from)
                .into();
        }
        Ok(options)
    }

    /// What is measured; what is not, and why.
    pub fn tools(&self) -> (Vec<Tool>, Vec<String>) {
        let (peers, missing) = Tool::peers();
        let mut tools = Tool::ours();
        tools.extend(self.more.clone());
        tools.extend(Tool::floors());
        tools.extend(peers);
        // Those that print the same stand together.
        tools.sort_by_key(|tool| tool.kind == Kind::Records);
        tools.retain(|tool| {
            let given = self.more.iter().any(|more| more.name == tool.name);
            given || self.only.is_empty() || self.only.contains(&tool.name)
        });
        (
            tools,
            if self.only.is_empty() {
                missing
            } else {
                Vec::new()
            },
        )
    }

    /// Those whose memory is measured: this program and what was given, unless
    /// others are named.
    pub fn sized(&self) -> Vec<Tool> {
        let (mut tools, _) = self.tools();
        if self.only.is_empty() {
            let given = |tool: &Tool| self.more.iter().any(|more| more.name == tool.name);
            tools.retain(|tool| tool.name == "classic" || given(tool));
        }
        tools
    }

    /// The load that their memory is measured by.
    pub fn many(&self) -> Load {
        Load {
            connections: self.volume,
            ..self.full()
        }
    }

    /// The load of full speed.
    pub fn full(&self) -> Load {
        Load {
            connections: self.conns,
            threads: self.threads,
            rate: 0,
            net: 0,
        }
    }

    /// That of a host that is not busy: two seconds of it.
    pub fn paced(&self) -> Load {
        Load {
            connections: self.rate * 2,
            threads: 1,
            rate: self.rate,
            net: 0,
        }
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let part = |name: &str| {
        let found = PARTS.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, part)| *part)
            .ok_or(format!("no part {name}"))
    };
    text.split(',').map(part).collect()
}
