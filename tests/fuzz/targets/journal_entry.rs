#![no_main]

use api2bq_fuzz::bigquery::{TableId, load_job_id};
use api2bq_fuzz::emulator::{address, is_job_id};
use api2bq_fuzz::manifest::{Entry, Event, StagedPartition};

// Entries one after the other, as a chain: what is readable must be usable without a panic, whatever it says.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for entry in serde_json::Deserializer::from_slice(data).into_iter::<Entry>() {
        let Ok(entry) = entry else { return };
        let written = serde_json::to_vec_pretty(&entry).expect("what was read can be written");
        let again: Entry = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(again, entry);
        if let Event::Intent(manifest) = &entry.event {
            let _ = (manifest.window.to_string(), manifest.window.key(), manifest.window.covers_whole_days());
            let _ = manifest.counts.add_up();
            manifest.partitions.iter().for_each(check_ids);
        }
    }
});

/// Whatever the journal says, the ids that go out are ids.
fn check_ids(staged: &StagedPartition) {
    let table = TableId::new("api2gbq", "LANL", "my ünï flows");
    let job = load_job_id("flows", &table, staged.partition, 3, &staged.logical_hash);
    assert!(is_job_id(&job), "{job}");
    let partition = table.partition(staged.partition);
    let (name, day) = address("api2gbq", "LANL", &partition.decorated()).expect("a day of the calendar");
    assert_eq!((name.as_str(), day), ("api2gbq.LANL.my ünï flows", Some(staged.partition.to_string())));
}
