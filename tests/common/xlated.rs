//! What `-d` prints, held against what the kernel holds: instruction by
//! instruction.
//!
//! Contract: what the kernel changes as it takes a program is a rule here, each
//! with where the kernel does it; anything else is a difference. The rules:
//!
//! 1. A map's descriptor becomes the map's id (v6.12 kernel/bpf/syscall.c,
//!    bpf_insn_prepare_dump): it must be that map's.
//! 2. A helper's number becomes the address of its function: bpftool names it. It
//!    is the helper's own, that for this type of program, or that for this type of
//!    map (kernel/bpf/verifier.c, do_misc_fixups). Where nobody may know addresses,
//!    there is none.
//! 3. A lookup in a hash is followed by the way from the element to its value
//!    (kernel/bpf/hashtab.c, htab_map_gen_lookup).
//! 4. A lookup in an array is done in place (kernel/bpf/arraymap.c,
//!    array_map_gen_lookup): with this map's entries and the size of its values.
//! 5. The CPU's number, and the task, are read in place from 6.10 and 6.16 on
//!    (do_misc_fixups).
//! 6. A call of bpf_rdonly_cast() becomes a move (kernel/bpf/verifier.c,
//!    fixup_kfunc_call).
//! 7. A jump has another distance where something on its way has grown; it must
//!    go to the same instruction.

use socket_snoop::bpf_insn::{Alu, HELPERS, Insn, text};
use std::collections::{BTreeMap, HashMap};

/// An instruction as `-d` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub place: usize,
    pub text: String,
    /// File, line and statement.
    pub from: (String, u32, String),
    /// The map of rule 1.
    pub map: Option<String>,
}

/// A map as `-d` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMap {
    pub kind: String,
    pub key: u32,
    pub value: u32,
    pub entries: String,
}

/// What `-d` prints.
#[derive(Debug, Default)]
pub struct Listing {
    pub programs: BTreeMap<String, Vec<Listed>>,
    pub maps: BTreeMap<String, ListedMap>,
}

/// Reads what `-d` printed.
pub fn listing(printed: &str) -> Listing {
    let mut all = Listing::default();
    let mut program = None;
    let mut maps = false;
    for line in printed.lines() {
        if let Some(head) = line.strip_prefix("; socket_snoop_") {
            let name = format!("socket_snoop_{}", head.split(' ').next().unwrap());
            program = Some(name.clone());
            let before = all.programs.insert(name, Vec::new());
            // Doors are alike.
            let door = line.starts_with("; socket_snoop_in ");
            assert!(before.is_none() || door, "twice: {line}");
            continue;
        }
        if line == "; maps" {
            maps = true;
            continue;
        }
        if line.is_empty() || line.starts_with("; ") {
            continue;
        }
        if maps {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [
                name,
                kind,
                "key",
                key,
                "value",
                value,
                "entries",
                entries @ ..,
            ] = &words[..]
            else {
                panic!("{line}");
            };
            let map = ListedMap {
                kind: kind.to_string(),
                key: key.parse().expect(line),
                value: value.parse().expect(line),
                entries: entries.join(" "),
            };
            all.maps.insert(name.to_string(), map);
            continue;
        }
        let name = program.as_ref().expect("instructions of a program");
        all.programs.get_mut(name).unwrap().extend(listed(line));
    }
    all
}

/// An instruction; `None` for a label.
fn listed(line: &str) -> Option<Listed> {
    let (shown, from) = line.split_once(" ; ").expect(line);
    let (place, text) = match shown.trim() {
        "" => {
            assert!(from.ends_with(':'), "{line}");
            return None;
        }
        shown => shown.split_once(": ").expect(line),
    };
    let (at, statement) = from.split_once(' ').expect(line);
    let (file, number) = at.split_once(':').expect(line);
    // What the numbers stand for is in brackets behind it.
    let mut statement = statement;
    let mut map = None;
    while let Some((rest, note)) = statement.rsplit_once(" [") {
        statement = rest;
        let note = note.strip_suffix(']').expect(line);
        map = map.or(note.strip_prefix("map ").map(str::to_string));
    }
    Some(Listed {
        place: place.parse().expect(line),
        text: text.trim().to_string(),
        from: (file.into(), number.parse().expect(line), statement.into()),
        map,
    })
}

/// An instruction that the kernel holds, in the notation of `-d`, with where it
/// comes from if the kernel tells.
#[derive(Clone, Debug)]
pub struct Held {
    pub place: usize,
    pub text: String,
    pub from: Option<(String, u32, String)>,
}

/// Instructions as bpf(2) gives them.
pub fn raw(insns: &[u64]) -> Vec<Held> {
    let mut insns: Vec<Insn> = insns.iter().map(|raw| Insn::decode(*raw)).collect();
    for insn in &mut insns {
        // A move between address spaces says so in its offset.
        let mov = Insn::alu(
            true,
            Alu::Mov,
            insn.dst,
            socket_snoop::bpf_insn::Operand::Reg(insn.src),
        );
        if insn.code == mov.code {
            insn.off = 0;
        }
    }
    let mut all = Vec::new();
    let mut place = 0;
    while place < insns.len() {
        let (shown, slots) = text(&insns[place..]);
        let text = shown.to_string();
        let text = match text.strip_prefix("call ") {
            Some(_) => "call ?".to_string(),
            None => text.replace("map[fd:", "map[id:"),
        };
        let from = None;
        all.push(Held { place, text, from });
        place += slots;
    }
    all
}

/// What `bpftool prog dump xlated … linum` printed.
pub fn bpftool(printed: &str) -> Vec<Held> {
    let mut all = Vec::new();
    let mut from = None;
    for line in printed.lines() {
        if let Some(told) = line.strip_prefix("; ") {
            let (statement, at) = told.rsplit_once(" [file:").expect(line);
            let (file, rest) = at.split_once(" line_num:").expect(line);
            let number = rest.split(' ').next().unwrap().parse().expect(line);
            from = Some((file.to_string(), number, statement.to_string()));
            continue;
        }
        let Some((place, shown)) = line.trim().split_once(": (") else {
            continue;
        };
        let (_, shown) = shown.split_once(") ").expect(line);
        all.push(Held {
            place: place.parse().expect(line),
            text: in_our_words(shown.trim()),
            from: from.clone(),
        });
    }
    all
}

/// bpftool's notation in that of `-d`.
fn in_our_words(shown: &str) -> String {
    let words = shown.split(' ').map(|word| {
        let bare = word.trim_end_matches(')');
        let rest = &word[bare.len()..];
        if let Some(hex) = bare.strip_prefix("0x") {
            let number = u64::from_str_radix(hex, 16).expect(shown);
            return format!("{}{rest}", number as i32);
        }
        if let Some(distance) = bare.strip_prefix("pc") {
            return distance.to_string();
        }
        // (r6 +30)
        let signed = bare.starts_with(['+', '-']) && bare[1..].parse::<u16>().is_ok();
        if signed && !rest.is_empty() {
            return format!("{} {}{rest}", &bare[..1], &bare[1..]);
        }
        word.to_string()
    });
    let text = words.collect::<Vec<_>>().join(" ");
    match text.strip_prefix("call ") {
        Some(called) => format!("call {}", called.split('#').next().unwrap()),
        None if text.contains("map[id:") => format!("{text} ll"),
        None => text,
    }
}

/// Without a jump's distance, which comes alone.
fn split_jump(text: &str) -> (&str, Option<i64>) {
    let Some((before, distance)) = text.rsplit_once("goto ") else {
        return (text, None);
    };
    (before, distance.parse().ok())
}

/// Whether rule 2 lets a function stand for a helper.
fn stands_for(function: &str, helper: &str) -> bool {
    let of_map = helper.strip_prefix("bpf_map_");
    function == "?"
        || function == helper
        || [format!("{helper}_tp"), format!("{helper}_raw_tp")].contains(&function.to_string())
        || of_map.is_some_and(|what| function.ends_with(&format!("htab_map_{what}")))
}

/// What a call has become, from its place on: how many instructions, or why not.
fn call(number: i32, map: Option<&ListedMap>, held: &[Held]) -> Result<usize, String> {
    let helper = HELPERS.iter().find(|(_, known)| *known == number);
    let (helper, _) = helper.ok_or(format!("helper {number} has no name"))?;
    let texts: Vec<&str> = held.iter().take(8).map(|held| held.text.as_str()).collect();
    let number_in = |text: &str, before: &str| -> Option<u32> {
        text.strip_prefix(before)?.split(' ').next()?.parse().ok()
    };
    // Its place in each CPU's own memory, which 6.12 sets by 32 bits and the newest by 64.
    let placed = texts[0].starts_with("r0 = ") || texts[0].starts_with("w0 = ");
    if let (["r0 = r0", read, ..], true) = (&texts[1..], placed) {
        let width = match *helper {
            "bpf_get_smp_processor_id" => "r0 = *(u32 *)(r0 + 0)",
            "bpf_get_current_task" | "bpf_get_current_task_btf" => "r0 = *(u64 *)(r0 + 0)",
            _ => return Err(format!("{helper} is not read in place")),
        };
        return if *read == width {
            Ok(3)
        } else {
            Err(format!("it is read by {read}"))
        };
    }
    if *helper == "bpf_map_lookup_elem" && texts[0].starts_with("r1 += ") {
        let map = map.ok_or("a lookup without its map")?;
        let masked = usize::from(texts[3].starts_with("r0 &= ") || texts[3].starts_with("w0 &= "));
        let entries = number_in(texts[2], "if r0 >= ");
        if map.kind != "array" || entries.map(|n| n.to_string()) != Some(map.entries.clone()) {
            return Err(format!("an array of {entries:?}, not {map:?}"));
        }
        let scale = texts[3 + masked];
        let scaled = match (number_in(scale, "r0 <<= "), number_in(scale, "r0 *= ")) {
            (Some(bits), _) => 1 << bits,
            (_, factor) => factor.unwrap_or(0),
        };
        let rest = &texts[4 + masked..7 + masked];
        let fits = texts[1] == "r0 = *(u32 *)(r2 + 0)"
            && texts[2].ends_with(&format!("goto +{}", 3 + masked))
            && scaled == map.value
            && rest == ["r0 += r1", "goto +1", "r0 = 0"];
        return if fits {
            Ok(7 + masked)
        } else {
            Err(format!("no lookup: {texts:?}"))
        };
    }
    let called = texts[0].strip_prefix("call ").ok_or("no call")?;
    if !stands_for(called, helper) {
        return Err(format!("{called} is not {helper}"));
    }
    let hash = map.is_some_and(|map| map.kind == "hash");
    let to_value = *helper == "bpf_map_lookup_elem"
        && texts.get(1) == Some(&"if r0 == 0 goto +1")
        && texts
            .get(2)
            .is_some_and(|text| number_in(text, "r0 += ").is_some());
    match to_value {
        // The key, rounded up, stands between the element's head and its value.
        true if hash => Ok(3),
        _ => Ok(1),
    }
}

/// Holds a program against its listing; `map` gives the name of a map by its id.
pub fn compare(
    listed: &[Listed],
    maps: &BTreeMap<String, ListedMap>,
    held: &[Held],
    map: &dyn Fn(u32) -> Option<String>,
) -> Result<(), String> {
    let mut places = HashMap::new();
    let (mut jumps, mut at) = (Vec::new(), 0);
    let mut looked_up = None;
    for ours in listed {
        let Some(theirs) = held.get(at) else {
            return Err(format!("the kernel's ends before {ours:?}"));
        };
        places.insert(ours.place as i64, theirs.place as i64);
        let wrong = |why: &str| Err(format!("{why}\n  listed {ours:?}\n  held   {theirs:?}"));
        let mut count = 1;
        if let Some(name) = &ours.map {
            looked_up = maps.get(name);
            let (register, _) = ours.text.split_once(" = ").unwrap();
            let id = theirs.text.strip_prefix(&format!("{register} = map[id:"));
            let id = id.and_then(|rest| rest.split(']').next()?.parse().ok());
            if id.and_then(map).as_ref() != Some(name) {
                return wrong("another map");
            }
        } else if ours.text.starts_with("call kernel ") {
            if theirs.text != "r0 = r1" {
                return wrong("no move");
            }
        } else if let Some(number) = ours.text.strip_prefix("call ") {
            let number = number.parse().expect("a number");
            count = match call(number, looked_up, &held[at..]) {
                Ok(count) => count,
                Err(why) => return wrong(&why),
            };
        } else if let (before, Some(distance)) = split_jump(&ours.text) {
            let (theirs_before, Some(other)) = split_jump(&theirs.text) else {
                return wrong("no jump");
            };
            if before != theirs_before {
                return wrong("another jump");
            }
            jumps.push((
                ours,
                ours.place as i64 + 1 + distance,
                theirs.place as i64 + 1 + other,
            ));
        } else if ours.text != theirs.text {
            return wrong("another instruction");
        }
        for theirs in &held[at..at + count] {
            if theirs.from.as_ref().is_some_and(|from| *from != ours.from) {
                return Err(format!(
                    "from elsewhere\n  listed {ours:?}\n  held   {theirs:?}"
                ));
            }
        }
        at += count;
    }
    if at != held.len() {
        return Err(format!("the kernel's goes on: {:?}", &held[at..]));
    }
    for (ours, to, theirs) in jumps {
        if places.get(&to) != Some(&theirs) {
            return Err(format!("{ours:?} goes elsewhere: to {theirs}"));
        }
    }
    Ok(())
}
