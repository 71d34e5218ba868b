//! Builds the C shim against the headers of the server that PGRX_PG_CONFIG_PATH names.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/shim.c");
    println!("cargo::rerun-if-env-changed=PGRX_PG_CONFIG_PATH");
    let pg_config = std::env::var("PGRX_PG_CONFIG_PATH").expect(
        "PGRX_PG_CONFIG_PATH must name the pg_config of the server to build for (`make extension` sets it)",
    );
    let output = Command::new(&pg_config)
        .arg("--includedir-server")
        .output()
        .unwrap_or_else(|error| panic!("cannot run {pg_config}: {error}"));
    let include = String::from_utf8(output.stdout).expect("pg_config prints a path in UTF-8");
    cc::Build::new()
        .file("src/shim.c")
        .include(include.trim())
        .flag("-Wno-unused-parameter")
        .compile("pgml_shim");
}
