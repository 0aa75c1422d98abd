# Shared by the scripts here: sourced, not run. Changes into the project's folder.
# shellcheck shell=sh

cd "$(dirname "$0")/.." || exit 1
# Flags from outside would replace those of .cargo/config.toml.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The least Rust version, from Cargo.toml.
least_rust() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }

# Ends with one line unless cargo, a rustc new enough and a linker for build scripts are there.
need_rust() {
    least=$(least_rust)
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        die "cargo is missing: install Rust $least or newer from https://rustup.rs, or Debian 13's packages rustc and cargo"
    fi
    version=$(rustc --version | cut -d' ' -f2)
    oldest=$(printf '%s\n%s\n' "$least" "$version" | sort -V | head -n 1)
    [ "$oldest" = "$least" ] ||
        die "rustc is $version, $least or newer is needed: run 'rustup update stable', or install Debian 13's packages rustc and cargo"
    command -v cc >/dev/null ||
        die "cc is missing (Rust links its build scripts with it): run 'apt-get install gcc libc6-dev'"
}

# The architecture of this machine, as Rust names it.
host_arch() { rustc -vV | sed -n 's/^host: \([^-]*\)-.*/\1/p'; }

# Whether the standard library of target $1 is installed.
has_target() { ls "$(rustc --print target-libdir --target "$1")"/libstd-*.rlib >/dev/null 2>&1; }

# Adds target $1 where it is missing. False, after one line that says why, where it can't be had.
add_target() {
    has_target "$1" && return
    if ! command -v rustup >/dev/null; then
        say "the Rust target $1 is missing: install Rust from https://rustup.rs and run 'rustup target add $1'"
        return 1
    fi
    said=$(rustup target add "$1" 2>&1 </dev/null) && has_target "$1" && return
    say "the Rust target $1 is missing and 'rustup target add $1' failed: $(printf '%s' "$said" | tail -n 1)"
    return 1
}

# Prints the target that the host's binary and its tests are built for: musl, or glibc without it.
host_target() {
    musl=$(host_arch)-unknown-linux-musl
    if add_target "$musl"; then
        echo "$musl"
    else
        say "going on with a static glibc build for this machine; it is no release"
        echo "$(host_arch)-unknown-linux-gnu"
    fi
}
