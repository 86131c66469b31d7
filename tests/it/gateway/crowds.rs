//! Many at once: slow ones who take up room, a stop while all are sending, and those who guess.
//!
//! `API2BQ_SLOW` says how many slow ones, `API2BQ_TRIES` how many guesses, `API2BQ_STOPS` how many stops.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use api2bq::gateway::auth::Ration;

use super::loads::{Site, row};
use super::{Gateway, Settings, ann, authorization, connect};
use crate::kills::setting;

/// Tells the other threads that it is over, also by a panic: the scope waits for them.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// G18: whole headers, and then a byte of the body every ten seconds. Who is cut off comes again.
#[test]
fn thousands_of_slow_senders_do_not_stop_a_good_one() {
    const SENDERS: usize = 16;
    let (slow, room) = match setting("API2BQ_SLOW") {
        Some(slow) => (usize::try_from(slow).expect("a number"), "1024"),
        None => (800, "200"),
    };
    let streams_max = u32::try_from(slow / SENDERS).expect("a number");
    let site = Site::new();
    let mut command = site.command();
    command.args(["--connections-max", room]);
    let _gateway = site.gateway_by(command);
    let address = ("127.0.0.1", site.port);
    let head =
        format!("POST /v1/inventory HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 300\r\n\r\n", ann());
    let (over, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut times = std::thread::scope(|scope| {
        let _over = Over(&over);
        for _ in 0..SENDERS {
            let (head, over, opened) = (&head, &over, &opened);
            scope.spawn(move || {
                let open = || {
                    let mut stream = TcpStream::connect(address).ok()?;
                    stream.write_all(head.as_bytes()).ok()?;
                    stream.set_nonblocking(true).ok()?;
                    opened.fetch_add(1, Ordering::SeqCst);
                    Some(stream)
                };
                let mut streams: Vec<Option<TcpStream>> = (0..slow / SENDERS).map(|_| None).collect();
                for round in 0.. {
                    for stream in &mut streams {
                        if over.load(Ordering::SeqCst) {
                            return;
                        }
                        if stream.as_mut().is_none_or(|stream| stream.write_all(b" ").is_err()) {
                            *stream = open();
                        }
                        if round > 0 {
                            std::thread::sleep(Duration::from_secs(10) / streams_max);
                        }
                    }
                }
            });
        }
        // A good one comes while they do, and when all of them have.
        let (started, mut times) = (Instant::now(), Vec::new());
        while times.len() < 20 || opened.load(Ordering::SeqCst) < slow {
            times.extend((0..20).map(|number| {
                let started = Instant::now();
                let answer = site.post("", &row(&number.to_string())).expect("an answer");
                assert_eq!(answer.status, 200, "{answer:?}");
                let took = started.elapsed();
                std::thread::sleep(Duration::from_millis(100));
                took
            }));
            let opened = opened.load(Ordering::SeqCst);
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "{opened} are there; is `ulimit -n` too low?"
            );
        }
        times
    });
    times.sort_unstable();
    let (tries, opened) = (times.len(), opened.into_inner());
    println!(
        "{opened} connections of {slow} slow senders, room for {room}: of {tries} good ones the median waits {:?}, the last {:?}",
        times[tries / 2],
        times[tries - 1]
    );
    assert!(times[tries - 1] < Duration::from_secs(20), "{times:?}");
}

#[test]
fn a_stop_under_load_ends_well_and_every_answer_it_gave_holds() {
    let site = Site::new();
    let stops = setting("API2BQ_STOPS").unwrap_or(3);
    let acknowledged = Mutex::new(BTreeMap::new());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        for client in 0..8 {
            let (site, acknowledged, over) = (&site, &acknowledged, &over);
            scope.spawn(move || {
                let mut number = 0;
                while !over.load(Ordering::SeqCst) {
                    let id = format!("{client}-{number}");
                    number += 1;
                    match site.post("", &row(&id)) {
                        Some(answer) if answer.status == 200 => {
                            acknowledged.lock().expect("no panic").insert(id, 1);
                        }
                        Some(answer) => panic!("neither an answer nor none: {answer:?}"),
                        None => std::thread::sleep(Duration::from_millis(10)),
                    }
                }
            });
        }
        for stop in 0..stops {
            let gateway = site.gateway();
            std::thread::sleep(Duration::from_millis(fastrand::u64(300..1500)));
            let before = Instant::now();
            gateway.signal("-TERM");
            assert!(gateway.end().success(), "stop {stop}: {}", site.said());
            assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
        }
    });
    let mut acknowledged = acknowledged.into_inner().expect("no panic");
    assert!(acknowledged.len() > 50, "only {} rows", acknowledged.len());
    let _gateway = site.gateway();
    assert_eq!(site.post("", &row("last")).expect("an answer").status, 200);
    acknowledged.insert("last".into(), 1);
    let mut table = site.wait_for(acknowledged.len() as u64);
    let started = Instant::now();
    while !table.contains_key("last") {
        assert!(started.elapsed() < Duration::from_secs(60), "{}", site.said());
        table = site.table();
    }
    // Connections that were cut before their answer may have left a row, once.
    assert!(acknowledged.keys().all(|id| table.contains_key(id)), "lost; {}", site.said());
    assert!(table.values().all(|times| *times == 1), "{table:?}");
}

/// The medians of thousands of tries in a random order: what else the machine does meets all three alike.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_password_a_wrong_one_and_an_unknown_user_take_the_same_time() {
    const KINDS: [(&str, &str); 3] = [("ann:secret", "404"), ("ann:secre7", "401"), ("bob:secret", "401")];
    let tries = usize::try_from(setting("API2BQ_TRIES").unwrap_or(3000)).expect("a number");
    // As many as are asked for: what is rationed is another test's.
    let ration = Ration { burst: 1_000_000, every: Duration::from_micros(1) };
    let gateway = Gateway::start_with(Settings { ration, ..Settings::default() }).await;
    let addr = gateway.addr;
    let ask = move |(credentials, expected): (&str, &str)| {
        let auth = authorization(credentials);
        let head = format!("GET /v1/none/metadata HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n");
        let mut stream = connect(addr);
        let (started, mut answer) = (Instant::now(), [0; 4096]);
        stream.write_all(head.as_bytes()).expect("sent");
        let length = stream.read(&mut answer).expect("an answer");
        let took = started.elapsed();
        let status = String::from_utf8_lossy(&answer[..length])[9..12].to_owned();
        assert_eq!(status, expected, "{credentials}");
        took
    };
    let times = tokio::task::spawn_blocking(move || {
        // Hashed once, which takes long; then remembered, right or wrong.
        for kind in KINDS {
            ask(kind);
        }
        let mut order: Vec<usize> = (0..tries).map(|n| n % 3).collect();
        fastrand::shuffle(&mut order);
        let mut times: [Vec<Duration>; 3] = Default::default();
        order.into_iter().for_each(|kind| times[kind].push(ask(KINDS[kind])));
        times
    });
    let medians = times.await.expect("no panic").map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    println!(
        "{tries} tries, medians: right {:?}, wrong {:?}, unknown {:?}",
        medians[0], medians[1], medians[2]
    );
    let (least, most) = (medians.iter().min().expect("three"), medians.iter().max().expect("three"));
    assert!(most.as_secs_f64() < 1.3 * least.as_secs_f64(), "{medians:?}");
}
