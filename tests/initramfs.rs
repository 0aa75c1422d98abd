//! The initramfs-tools hook: an initramfs is really built with it, and the
//! binary that comes out of it is the one that went in, and runs.

mod common;

use common::{TempDir, binary, live, skip};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const HOOK: &str = "contrib/initramfs-tools/hooks/socket-snoop";

/// mkinitramfs looks for the kernel's configuration in /boot: it gets one of a
/// kernel that isn't there, in a mount namespace of its own.
const BUILD: &str = "set -e
mount -t tmpfs tmpfs /boot
echo CONFIG_RD_GZIP=y > /boot/config-0-test
mkinitramfs -d conf -o initrd.img 0-test
unmkinitramfs initrd.img unpacked";

fn configuration(dir: &Path) {
    let conf = dir.join("conf");
    for folder in ["hooks", "scripts", "conf.d", "modules.d"] {
        fs::create_dir_all(conf.join(folder)).expect("make a folder");
    }
    let settings = "MODULES=list\nBUSYBOX=n\nCOMPRESS=gzip\n";
    fs::write(conf.join("initramfs.conf"), settings).expect("write the configuration");
    fs::write(conf.join("modules"), "").expect("write the list of modules");
    let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join(HOOK);
    fs::copy(hook, conf.join("hooks/socket-snoop")).expect("copy the hook");
}

fn installed(tool: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .stdout(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

#[test]
fn an_initramfs_built_with_the_hook_holds_a_binary_that_runs() {
    if !live() {
        return;
    }
    if !installed("mkinitramfs") {
        return skip("mkinitramfs is missing (Debian's package initramfs-tools-core)");
    }
    let dir = TempDir::new();
    configuration(dir.path());
    let built = Command::new("unshare")
        .args(["--mount", "sh", "-c", BUILD])
        .env("SOCKET_SNOOP_BIN", binary())
        .current_dir(dir.path())
        .output()
        .expect("run unshare");
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{errors}");
    let inside = [
        "unpacked/usr/sbin/socket-snoop",
        "unpacked/sbin/socket-snoop",
    ]
    .map(|path| dir.join(path))
    .into_iter()
    .find(|path| path.exists())
    .expect("the binary in the initramfs");
    let same = fs::read(&inside).expect("read") == fs::read(binary()).expect("read");
    assert!(same, "another file than the one given");
    let version = Command::new(&inside).arg("--version").output();
    let version = version.expect("run it").stdout;
    assert!(version.starts_with(b"socket-snoop "));
}
