//! The table against a simple model, and against anything.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What happens, with ids from a few.
#[derive(Clone, Debug)]
enum Act {
    Fork(u32, u32),
    Thread(u32),
    Exit(u32),
    Exec(u32),
    Ran(u32),
    /// Lives or names, and whether records get lost from here or no longer.
    Miss(bool),
    Gap(bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let pid = 10u32..22;
    let act = prop_oneof![
        6 => (pid.clone(), pid.clone()).prop_map(|(a, b)| Act::Fork(a, b)),
        2 => pid.clone().prop_map(Act::Thread),
        6 => pid.clone().prop_map(Act::Exit),
        1 => pid.clone().prop_map(Act::Exec),
        2 => pid.prop_map(Act::Ran),
        1 => any::<bool>().prop_map(Act::Miss),
        1 => any::<bool>().prop_map(Act::Gap),
    ];
    prop::collection::vec(act, 1..120)
}

/// A process of the model.
#[derive(Clone)]
struct Model {
    pid: u32,
    born: u64,
    ended: Option<u64>,
    threads: Vec<u32>,
    parent: Option<usize>,
}

proptest! {
    /// Whatever comes, what is told is so; without loss everything is told.
    #[test]
    fn it_agrees_with_a_simple_model(acts in acts(), lossless in any::<bool>()) {
        let mut t = Told(Processes::unseeded());
        let mut all: Vec<Model> = Vec::new();
        let mut current: BTreeMap<u32, usize> = BTreeMap::new();
        let mut next_tid = 1000;
        let mut gap = false;
        for (time, act) in (1u64..).map(|n| n * 10).zip(acts) {
            match act {
                Act::Fork(child, parent) if child != parent && !current.contains_key(&child) => {
                    let parent_is = current.get(&parent).copied();
                    if parent_is.is_none() && !all.is_empty() {
                        continue;
                    }
                    current.insert(child, all.len());
                    all.push(Model {
                        pid: child,
                        born: time,
                        ended: None,
                        threads: vec![child],
                        parent: parent_is,
                    });
                    if !gap {
                        t.fork(time, child, parent);
                    }
                }
                Act::Thread(pid) => {
                    let Some(&at) = current.get(&pid) else { continue };
                    next_tid += 1;
                    all[at].threads.push(next_tid);
                    if !gap {
                        t.thread(time, pid, next_tid);
                    }
                }
                Act::Exit(pid) => {
                    let Some(&at) = current.get(&pid) else { continue };
                    let tid = all[at].threads.remove(0);
                    if all[at].threads.is_empty() {
                        all[at].ended = Some(time);
                        current.remove(&pid);
                    }
                    if !gap {
                        t.exit(time, ids(pid, tid));
                    }
                }
                Act::Exec(pid) => {
                    let Some(&at) = current.get(&pid) else { continue };
                    for tid in std::mem::take(&mut all[at].threads).split_off(1) {
                        if !gap {
                            t.exit(time, ids(pid, tid));
                        }
                    }
                    all[at].threads = vec![pid];
                    t.comm(time + 1, leader(pid), "x", true);
                }
                Act::Ran(pid) => {
                    let Some(&at) = current.get(&pid) else { continue };
                    t.ran(time, pid, all[at].threads[0], "");
                }
                Act::Miss(lives) if !lossless => {
                    let topic = if lives { Topic::Lives } else { Topic::Names };
                    t.miss(time, topic);
                }
                Act::Gap(opens) if !lossless => {
                    gap = opens;
                    t.miss(time, Topic::Lives);
                }
                _ => {}
            }
            if gap {
                t.miss(time, Topic::Lives);
            }
            for (at, process) in all.iter().enumerate() {
                let since = process.born;
                let told = t.0.lives(process.pid, since);
                let living = process.ended.is_none();
                prop_assert!(told.is_none_or(|told| told == living));
                prop_assert!(!lossless || told.is_some());
                let mut heirs = Vec::new();
                for (n, heir) in all.iter().enumerate() {
                    let mut up = heir.parent;
                    while up.is_some_and(|up| up != at) {
                        up = all[up.unwrap()].parent;
                    }
                    if up == Some(at) && heir.ended.is_none() && n != at {
                        heirs.push((heir.pid, heir.born));
                    }
                }
                let told = t.0.descendants(process.pid, since);
                let right = match heirs[..] {
                    [] => Descendants::None,
                    [(pid, born)] => Descendants::Only(pid, born),
                    _ => Descendants::Several,
                };
                prop_assert!(told == right || !lossless && told == Descendants::Unknown,
                    "{:?} {:?}", told, right);
            }
            let kept = t.0.tree.size().0;
            prop_assert!(kept <= all.len() && t.0.by_pid.len() <= kept);
            prop_assert!(t.0.living <= kept);
        }
    }

    #[test]
    fn anything_is_survived(news in prop::collection::vec((0u8..6, 0u32..8, 0u32..8, 0u64..100), 0..200)) {
        let mut t = Told(Processes::unseeded());
        for (kind, a, b, time) in news {
            match kind {
                0 => t.fork_by(time, a, ids(b, a)),
                1 => t.thread(time, a, b),
                2 => t.exit(time, ids(a, b)),
                3 => t.comm(time, ids(a, b), "x", a > b),
                4 => t.miss(time, Topic::Lives),
                _ => t.ran(time, a, b, "y"),
            }
            t.0.lives(a, time);
            t.0.descendants(b, time);
            t.0.name(a);
            t.0.parent(b);
            t.0.execed_since(a, time);
            prop_assert!(t.0.by_pid.len() <= 9 && t.0.tree.size().0 <= 300);
        }
    }
}
