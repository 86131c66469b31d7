//! How fast other JSON readers take lines of flows from memory into typed structs on one core; no columns are
//! built. `cargo run --release --manifest-path benches/peers/json/Cargo.toml FLOWS.ndjson`
//!
//! serde_json is an anchor of `cargo bench --bench decode` too, so that the figures of both can be held together.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use serde::Deserialize;

const ROUNDS: usize = 20;

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the point")]
struct Flow<'a> {
    id: i64,
    time: i64,
    duration: i64,
    src_comp: &'a str,
    src_port: &'a str,
    dst_comp: &'a str,
    dst_port: &'a str,
    protocol: i64,
    packet_count: i64,
    byte_count: i64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: json-readers FLOWS.ndjson")?;
    let body = std::fs::read(path)?;
    let lines: Vec<&[u8]> = body.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    println!("{} records, {:.1} MB, fastest of {ROUNDS}", lines.len(), body.len() as f64 / 1e6);

    let serde_json = |lines: &[&[u8]]| {
        lines.iter().filter(|line| serde_json::from_slice::<Flow<'_>>(line).map(black_box).is_ok()).count()
    };
    let sonic_rs = |lines: &[&[u8]]| {
        lines.iter().filter(|line| sonic_rs::from_slice::<Flow<'_>>(line).map(black_box).is_ok()).count()
    };
    // It writes into the text it reads, so that a copy of each line is part of it.
    let simd_json = |lines: &[&[u8]]| {
        let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::default());
        let read = |line: &&&[u8]| {
            copy.clear();
            copy.extend_from_slice(line);
            simd_json::serde::from_slice_with_buffers::<Flow<'_>>(&mut copy, &mut buffers).map(black_box).is_ok()
        };
        lines.iter().filter(read).count()
    };
    let readers: [(&str, &mut dyn FnMut(&[&[u8]]) -> usize); 3] = [
        ("serde_json", &mut { serde_json }),
        ("sonic-rs", &mut { sonic_rs }),
        ("simd-json", &mut { simd_json }),
    ];
    for (name, read) in readers {
        let mut fastest = f64::MAX;
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let read = read(black_box(&lines));
            fastest = fastest.min(started.elapsed().as_secs_f64());
            assert_eq!(read, lines.len(), "{name} takes every record");
        }
        let (rows, bytes) = (lines.len() as f64 / fastest, body.len() as f64 / fastest);
        println!("{name:<12} {:>6.1} ms {:>12.0} rows/s {:>6.0} MB/s", fastest * 1e3, rows, bytes / 1e6);
    }
    Ok(())
}
