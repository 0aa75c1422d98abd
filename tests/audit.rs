//! The listings of docs/: every program as a stock host loads it, with BTF and without. They are made here, by
//! `WRITE_LISTINGS=1 cargo test --test audit`, and must be of the text as it is.

mod common;

use common::layouts::*;
use common::programs::program;
use socket_snoop::bpf_link::{Cast, Host, HostField, Template};
use socket_snoop::programs::{self, Name};
use socket_snoop::tracepoint::Format;
use std::fs;

/// Linux 6.18 on x86-64, by the format files of tests/data; of members, those that it is said to have.
struct Stock<'a> {
    template: &'a Template,
    members: &'a Layout,
    by_btf: bool,
}

impl Host for Stock<'_> {
    fn field(&self, name: &str) -> Option<HostField> {
        let known = |layout: &Layout| {
            let found = layout.iter().find(|field| field.0 == name)?;
            let (offset, size) = (found.1, found.2);
            Some(HostField { offset, size })
        };
        if self.by_btf {
            return known(RETURN).or_else(|| known(self.members));
        }
        let Template { group, event, .. } = self.template;
        let file = format!("tests/data/formats/amd64-6.18.44-host/{group}/{event}.format");
        let format = Format::parse(&fs::read(&file).expect(&file)).expect(&file);
        format.host_field(name).or_else(|| known(self.members))
    }
    fn map_fd(&self, name: &str) -> Option<i32> {
        Fields::new(&[]).map_fd(name)
    }
    fn cast(&self, structure: &str) -> Option<Cast> {
        self.field(LOADS).and_then(|_| cast(structure))
    }
    fn hidden(&self) -> u16 {
        if self.by_btf { 0 } else { 8 }
    }
    fn loads_members(&self) -> bool {
        self.by_btf
    }
}

const ALWAYS: [Name; 5] = [
    programs::STATE,
    programs::RETRANSMIT,
    programs::SYNACK,
    programs::RESET_SENT,
    programs::RESET_RECEIVED,
];

fn listing(name: Name, members: &Layout, by_btf: bool) -> String {
    let template = program(name);
    let host = Stock {
        template,
        members,
        by_btf,
    };
    let linked = template.linked(&host).expect("it links");
    let Template {
        name,
        group,
        event,
        license,
        ..
    } = template;
    let text = template.listing(&linked, &|name| host.field(name));
    format!("; {name} on {group}:{event}; licence {license}\n{text}")
}

fn check(file: &str, programs: Vec<String>) {
    let text = programs.join("\n");
    if std::env::var_os("WRITE_LISTINGS").is_some() {
        fs::write(file, &text).expect("written");
    }
    let there = fs::read_to_string(file).unwrap_or_default();
    let differs = there.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        there == text,
        "{file} is of another text (line {differs:?}): WRITE_LISTINGS=1 cargo test --test audit"
    );
}

#[test]
fn listings_are_of_this_text() {
    // What 6.7 and later count themselves, what older kernels have, and what has moved in the version that is listed.
    let older = [
        "helper.count_runs",
        "net.ipv4.tcp_death_row",
        "net.ipv4.tcp_death_row.tw_count.counter",
    ];
    let moved = [
        ("tcp_sock.tsorted_sent_queue.next", 1616, 8),
        ("tcp_sock.rcv_nxt", 1664, 4),
    ];
    let kept = |name: &str| !older.contains(&name) && moved.iter().all(|field| field.0 != name);
    let all = [MEMBERS, NEEDED].concat();
    let mut members: Vec<_> = all.into_iter().filter(|field| kept(field.0)).collect();
    members.extend(moved);
    let mut with: Vec<_> = ALWAYS.map(|t| listing(t, &members, false)).into();
    with.push(listing(programs::ACCEPT, &members, true));
    check("docs/listing-btf.txt", with);

    let none: &Layout = &[("helper.cgroup_id", 0, 8)];
    let mut without: Vec<_> = ALWAYS.map(|t| listing(t, none, false)).into();
    without.push(listing(programs::DESTROY, none, false));
    check("docs/listing-tracefs.txt", without);
}
