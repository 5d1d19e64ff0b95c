//! Builds the C shim for `long double` and records which source the binary comes from.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/sys/longdouble.c");
    cc::Build::new().file("src/sys/longdouble.c").warnings(true).compile("aikv_longdouble");

    // Only release builds show the commit: a debug build need not be made anew at every commit. A build from
    // a source archive has none.
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = if release { git(&["rev-parse", "--short=8", "HEAD"]) } else { None };
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|_| commit.is_some()) {
        println!("cargo:rerun-if-changed={log}");
    }
    println!("cargo:rustc-env=AIKV_GIT_SHA1={}", commit.as_deref().unwrap_or("00000000"));
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
