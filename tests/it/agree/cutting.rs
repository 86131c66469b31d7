//! A relay before the source that passes its answers on in pieces of random length.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Cutting {
    url: String,
    cuts: Arc<AtomicU64>,
}

impl Cutting {
    pub fn start(origin: &str, mut rng: fastrand::Rng) -> Self {
        let origin = origin.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let cuts = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&cuts);
        std::thread::spawn(move || {
            for inward in listener.incoming() {
                let (Ok(inward), Ok(outward)) = (inward, TcpStream::connect(&origin)) else { return };
                let (rng, counter) = (rng.fork(), Arc::clone(&counter));
                std::thread::spawn(move || relay(inward, outward, rng, &counter));
            }
        });
        Cutting { url, cuts }
    }

    pub fn flows(&self) -> String {
        format!("{}/api/v1/stream/flows", self.url)
    }

    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// Requests go out as they come; answers come back in pieces, each a packet of its own.
fn relay(inward: TcpStream, outward: TcpStream, mut rng: fastrand::Rng, cuts: &AtomicU64) {
    let _ = inward.set_nodelay(true);
    let (Ok(mut requests), Ok(mut origin)) = (inward.try_clone(), outward.try_clone()) else { return };
    std::thread::spawn(move || std::io::copy(&mut requests, &mut origin));
    let (mut inward, mut outward) = (inward, outward);
    let mut buffer = vec![0; 4096];
    loop {
        let length_max = 1 << rng.u32(0..13);
        match outward.read(&mut buffer[..length_max]) {
            Ok(length @ 1..) if inward.write_all(&buffer[..length]).is_ok() => {
                cuts.fetch_add(1, Ordering::SeqCst);
            }
            _ => return,
        }
    }
}
