//! Live: what `-d` prints is what the kernel holds, by each way; bpftool shows
//! each instruction's line; and objects are what stock tools read.

mod common;

use common::{Run, TempDir, Tracer, binary, kernel, live, skip, xlated};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use story::story;

/// What a tool prints, which must succeed.
fn tool(name: &str, args: &[&str]) -> String {
    let out = Command::new(name).args(args).output().expect(name);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name} {args:?}: {said}");
    String::from_utf8(out.stdout).expect("text")
}

fn has_bpftool() -> bool {
    let has = Command::new("bpftool").arg("version").output().is_ok();
    if !has {
        skip("bpftool is not installed");
    }
    has
}

/// What `-d` prints with these flags.
fn listing(flags: &str) -> xlated::Listing {
    let out = Run::new(flags).arg("-d").run().ok();
    xlated::listing(&out.stdout)
}

/// The names of the maps by their ids.
fn maps() -> BTreeMap<u32, String> {
    let all = tool("bpftool", &["-j", "map", "show"]);
    let all: serde_json::Value = serde_json::from_str(&all).expect("JSON");
    let one = |map: &serde_json::Value| {
        let name = map["name"].as_str().unwrap_or_default().to_string();
        Some((map["id"].as_u64()? as u32, name))
    };
    all.as_array()
        .expect("a list")
        .iter()
        .filter_map(one)
        .collect()
}

/// The ids of the maps that a program uses.
fn maps_of(program: u32) -> Vec<u64> {
    let shown = tool(
        "bpftool",
        &["-j", "prog", "show", "id", &program.to_string()],
    );
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let ids = shown["map_ids"].as_array().into_iter().flatten();
    ids.filter_map(serde_json::Value::as_u64).collect()
}

/// Whether this kernel lets programs see who accepts a connection.
fn sees_accepts() -> bool {
    let out = Tracer::json("").stop().ok();
    out.unseen.is_empty()
}

fn held_against_bpftool(flags: &str) {
    let listing = listing(flags);
    let tracer = Tracer::json(flags);
    let ids = kernel::programs_of(tracer.child.pid());
    let maps = maps();
    let names: BTreeMap<u32, String> = kernel::programs().expect("listed").into_iter().collect();
    let mut seen = Vec::new();
    for id in ids {
        let name = &names[&id];
        let listed = listing.programs.get(name).expect(name);
        let dump = ["prog", "dump", "xlated", "id", &id.to_string(), "linum"];
        let held = xlated::bpftool(&tool("bpftool", &dump));
        assert!(
            held.iter().all(|insn| insn.from.is_some()),
            "{name} without lines"
        );
        let compared = xlated::compare(listed, &listing.maps, &held, &|id| maps.get(&id).cloned());
        compared.unwrap_or_else(|why| panic!("{flags}: {name}: {why}"));
        seen.push(name.as_str());
    }
    let left: Vec<&String> = listing
        .programs
        .keys()
        .filter(|name| !seen.contains(&name.as_str()))
        .collect();
    let out = tracer.stop().ok();
    // Only the kernel knows whether it lets a function's return be traced.
    let left: Vec<&str> = left.into_iter().map(String::as_str).collect();
    let expected: &[&str] = match sees_accepts() {
        true => &[],
        false => &["socket_snoop_ac"],
    };
    assert_eq!(left, expected, "{flags}: {out:?}");
    assert!(seen.len() >= 5, "{seen:?}");
}

#[story]
fn what_is_listed_is_what_the_kernel_holds() {
    if !live() || !has_bpftool() {
        return;
    }
    for flags in [
        "--transport tracepoint",
        "--transport tracepoint --accept-owner",
        "--transport tracepoint --owner-by transitions",
        "--transport btf",
        "--transport btf --accept-owner",
    ] {
        held_against_bpftool(flags);
    }
}

/// With a filter that another one can follow, each program stands behind a door.
#[story]
fn doors_are_listed_as_they_are() {
    if !live() || !has_bpftool() {
        return;
    }
    let dir = TempDir::new();
    let file = dir.join("filter");
    std::fs::write(&file, "port 9 and pid 7").expect("the filter");
    let flags = format!("--sandbox off --filter-file {}", file.display());
    let twice = Run::new(&flags).arg("-dd").run().ok();
    let listed = xlated::listing(&twice.stdout);
    assert!(
        twice.stdout.contains(", before socket_snoop_st; "),
        "{}",
        twice.stdout
    );
    assert_eq!(listed.maps["turn"].kind, "prog_array");
    let doors = twice.stdout.matches("\n; socket_snoop_in on ").count();
    let tracer = Tracer::json(&flags);
    let ids = kernel::programs_of(tracer.child.pid());
    let names: BTreeMap<u32, String> = kernel::programs().expect("listed").into_iter().collect();
    let ids: Vec<u32> = ids
        .into_iter()
        .filter(|id| names[id] == "socket_snoop_in")
        .collect();
    assert_eq!(ids.len(), doors);
    let maps = maps();
    for id in ids {
        let dump = ["prog", "dump", "xlated", "id", &id.to_string(), "linum"];
        let held = xlated::bpftool(&tool("bpftool", &dump));
        let door = &listed.programs["socket_snoop_in"];
        let same = xlated::compare(door, &listed.maps, &held, &|id| maps.get(&id).cloned());
        same.unwrap_or_else(|why| panic!("{why}"));
    }
    tracer.stop().ok();
    // Without a file, or in the sandbox, there are none.
    for flags in ["--sandbox off", &flags.replace("off", "on")] {
        let out = Run::new(flags).arg("-dd").arg("port 9").run().ok();
        assert!(!out.stdout.contains("socket_snoop_in"), "{flags}");
    }
    let to = dir.join("objects");
    Run::new(&flags).arg("--export-object").arg(&to).run().ok();
    for name in ["socket_snoop_in.socket_snoop_st.o", "socket_snoop_st.o"] {
        let path = to.join(name);
        let path = path.to_str().expect("a name");
        let section = tool("llvm-objdump", &["-h", path]);
        assert!(
            section.contains("tracepoint/sock/inet_sock_set_state"),
            "{section}"
        );
        let btf = tool("bpftool", &["btf", "dump", "file", path]);
        assert_eq!(btf.contains("'turn'"), name.contains("_in"), "{btf}");
    }
}

/// The kernel's own word for the sizes of the maps.
#[story]
fn maps_are_listed_as_they_are() {
    if !live() || !has_bpftool() {
        return;
    }
    let listing = listing("");
    let tracer = Tracer::json("");
    // By what its own programs use: others are loaded beside it.
    let programs = kernel::programs_of(tracer.child.pid());
    let used: BTreeSet<u64> = programs.into_iter().flat_map(maps_of).collect();
    let mut seen = BTreeSet::new();
    for id in used {
        let map = tool("bpftool", &["-j", "map", "show", "id", &id.to_string()]);
        let map: serde_json::Value = serde_json::from_str(&map).expect("JSON");
        let name = map["name"].as_str().expect("its name");
        let listed = listing.maps.get(name).expect(name);
        let number = |key: &str| map[key].as_u64().unwrap_or_default();
        assert_eq!(map["type"], listed.kind, "{name}");
        let sizes = (u64::from(listed.key), u64::from(listed.value));
        assert_eq!(
            (number("bytes_key"), number("bytes_value")),
            sizes,
            "{name}"
        );
        assert_eq!(number("max_entries").to_string(), listed.entries, "{name}");
        assert!(seen.insert(name.to_string()), "{name} twice");
    }
    let all: BTreeSet<String> = listing.maps.into_keys().collect();
    assert_eq!(seen, all);
    tracer.stop().ok();
}

/// Each object is taken by the kernel as bpftool loads it, but for a function's return.
#[story]
fn objects_are_loaded_by_bpftool() {
    if !live() || !has_bpftool() {
        return;
    }
    let dir = TempDir::new();
    Run::new("--accept-owner")
        .arg("--export-object")
        .arg(dir.path())
        .run()
        .ok();
    let mut count = 0;
    for file in std::fs::read_dir(dir.path()).expect("the folder") {
        let path = file.expect("a file").path();
        let path = path.to_str().expect("a name");
        let btf = tool("bpftool", &["btf", "dump", "file", path]);
        assert!(
            btf.contains("DATASEC '.maps'") && btf.contains("linkage=global"),
            "{btf}"
        );
        if tool("llvm-objdump", &["-h", path]).contains("fexit/") {
            continue;
        }
        let pin = format!(
            "/sys/fs/bpf/socket-snoop-test-{}-{count}",
            std::process::id()
        );
        let loaded = Command::new("bpftool")
            .args(["prog", "load", path, &pin])
            .output();
        let loaded = loaded.expect("bpftool");
        let said = String::from_utf8_lossy(&loaded.stderr).into_owned();
        let _ = std::fs::remove_file(&pin);
        assert!(loaded.status.success(), "{path}: {said}");
        count += 1;
    }
    assert!(count >= 5, "{count}");
}

/// Without any right it says so, and lists what BTF tells.
#[story]
fn it_needs_no_right() {
    if !live() || std::fs::metadata(socket_snoop::btf::PATH).is_err() {
        return;
    }
    let dir = TempDir::new();
    let copy = dir.join("socket-snoop");
    std::fs::copy(binary(), &copy).expect("copied");
    let out = Run::of(copy, "-d").user(65534).run().ok();
    assert!(out.stdout.starts_with("; socket-snoop "), "{}", out.stdout);
    let listing = xlated::listing(&out.stdout);
    assert!(listing.programs.len() >= 5 && listing.maps.len() == 4);
    let as_root = xlated::listing(&Run::new("--transport btf").arg("-d").run().ok().stdout);
    assert_eq!(listing.programs, as_root.programs);
}
