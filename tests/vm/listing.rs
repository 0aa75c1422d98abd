//! What `-d` prints is what the kernel holds: see tests/common/xlated.rs. There
//! is no bpftool here, so that the kernel is asked itself.

use crate::common::kernel::{self, Program};
use crate::common::{Run, Tracer, xlated};
use crate::suite::{Done, Variant};
use std::collections::BTreeMap;

pub fn held() -> Done {
    // The rules were found on x86-64, 5.10 and the newest.
    let kernel = nix::sys::utsname::uname().expect("uname");
    let release = kernel.release().to_string_lossy().into_owned();
    if cfg!(target_arch = "aarch64") || release.contains("-rt-") {
        return Err("what this kernel changes in a program is not written down".into());
    }
    let taken = Variant::here().way().to_owned();
    let ways: &[&str] = match taken.as_str() {
        "tracepoint" => &["tracepoint", "btf"],
        "btf" => &["btf"],
        _ => return Err("no program is loaded".into()),
    };
    for way in ways {
        if *way == "btf" && std::fs::metadata(socket_snoop::btf::PATH).is_err() {
            continue;
        }
        let flags = format!("--transport {way} --accept-owner");
        let printed = Run::new(&flags).arg("-d").run().ok().stdout;
        let listing = xlated::listing(&printed);
        let tracer = Tracer::json(&flags);
        let all = kernel::programs().expect("listed");
        let names: BTreeMap<u32, String> = all.into_iter().collect();
        let mut seen = Vec::new();
        for id in kernel::programs_of(tracer.child.pid()) {
            let name = &names[&id];
            let listed = listing.programs.get(name);
            let listed = listed.unwrap_or_else(|| panic!("{way}: {name} is not listed"));
            let insns = Program::held(id).and_then(|program| program.xlated());
            let held = xlated::raw(&insns.expect("its instructions"));
            let compared = xlated::compare(listed, &listing.maps, &held, &kernel::map_name);
            compared.unwrap_or_else(|why| panic!("{way}: {name}: {why}"));
            seen.push(name.clone());
        }
        let mut left: Vec<&String> = listing.programs.keys().collect();
        left.retain(|name| !seen.contains(name));
        // Only the kernel knows whether it lets a function's return be traced.
        left.retain(|name| *name != "socket_snoop_ac");
        assert!(left.is_empty(), "{way}: {left:?} is not loaded");
        assert!(seen.len() >= 4, "{way}: {seen:?}");
        tracer.stop().ok();
    }
    Ok(())
}
