//! The harness of ../../fuzz over its seeds, over their beginnings, and over each with a byte changed.
#![cfg(feature = "engine")]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod harness;

fn near_the_seeds(target: &str, harness: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let seeds: Vec<Vec<u8>> =
        fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!seeds.is_empty());
    for seed in seeds {
        for length in 0..=seed.len() {
            harness(&seed[..length]);
        }
        for position in 0..seed.len() {
            for byte in *b"\0\n\"{0\x80" {
                let mut changed = seed.clone();
                changed[position] = byte;
                harness(&changed);
            }
        }
    }
}

#[test]
fn exchange() {
    near_the_seeds("exchange", harness::exchange);
}

#[test]
fn request() {
    near_the_seeds("request", harness::request);
}

#[test]
fn reply() {
    near_the_seeds("reply", harness::reply);
}

#[test]
fn template() {
    near_the_seeds("template", harness::template);
}
