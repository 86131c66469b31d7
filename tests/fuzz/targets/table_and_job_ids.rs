#![no_main]

use api2bq_fuzz::bigquery::{TableId, load_job_id};
use api2bq_fuzz::emulator::{address, is_job_id};
use api2bq_fuzz::partition::{Bound, Partition, SECONDS_PER_DAY, range};
use chrono::NaiveDate;

// Six words, a line each: project, dataset, table, `--from`, `--to`, logical hash.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut words = text.split('\n');
    let [project, dataset, table, from, to, hash] = std::array::from_fn(|_| words.next().unwrap_or_default());
    let epoch = NaiveDate::from_ymd_opt(2011, 1, 1).expect("a date");

    let named = address(project, dataset, table);
    let _ = is_job_id(hash);

    let (Ok(from), Ok(to)) = (from.parse::<Bound>(), to.parse::<Bound>()) else { return };
    let Ok(window) = range(from, to, epoch) else { return };
    assert!(0 <= window.after && window.after < window.before, "{window:?}");
    let _ = (window.to_string(), window.key());
    let days = window.split(SECONDS_PER_DAY);
    assert!(days.len() <= 10_001, "{}", days.len());
    assert_eq!((days[0].after, days[days.len() - 1].before), (window.after, window.before));
    assert!(days.windows(2).all(|pair| pair[0].before == pair[1].after));

    let (first, last) = window.days();
    for day in [first, last] {
        let partition = Partition::of_day(epoch, day).expect("the range was checked");
        assert_eq!(partition.day(epoch), day);
        let id = TableId::new(project, dataset, table).partition(partition);
        // The client and the embedded server understand the decorator alike.
        if let Some((name, None)) = &named {
            let (decorated, decorator) =
                address(project, dataset, &id.decorated()).expect("a legal partition");
            assert_eq!((&decorated, decorator), (name, Some(partition.to_string())));
            assert!(is_job_id(&load_job_id("flows", &id, partition, None, u32::MAX, hash)));
        }
    }
});
