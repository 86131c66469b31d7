#![no_main]

use api2bq_fuzz::bigquery::{TableId, load_job_id};
use api2bq_fuzz::emulator::{address, is_job_id};
use api2bq_fuzz::manifest::{Entry, Event, Manifest, StagedPartition, WindowState};
use sha2::{Digest, Sha256};

// Entries one after the other, as a chain: what is readable must be usable without a panic, whatever it
// says, and what is taken into a chain must keep the rules of chains.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut chain: Vec<Entry> = Vec::new();
    let mut previous = String::new();
    let mut stream = serde_json::Deserializer::from_slice(data).into_iter::<&serde_json::value::RawValue>();
    while let Some(Ok(raw)) = stream.next() {
        let Ok(entry) = Entry::parse(raw.get().as_bytes()) else { continue };
        let written = entry.to_bytes().expect("what was read can be written");
        assert_eq!(Entry::parse(&written).expect("what was written can be read"), entry);

        let run = chain.first().map_or("a run", |first| &first.run).to_owned();
        let taken = entry.follows(&run, &chain, &previous).is_ok();
        // No fuzzer finds a hash, so the next entry is put into its place; the rest of the rules holds.
        let number = u32::try_from(chain.len() + 1).expect("few");
        let placed = Entry { run: run.clone(), number, previous: previous.clone(), ..entry.clone() };
        assert!(!taken || placed == entry, "{entry:?} is not where it says");
        if placed.follows(&run, &chain, &previous).is_ok() {
            previous = Sha256::digest(placed.to_bytes().expect("it was written before"))
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            chain.push(placed);
        }
    }

    let intents: Vec<&Manifest> = chain
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Intent(manifest) => Some(manifest),
            _ => None,
        })
        .collect();
    assert!(intents.len() <= 1, "a chain has one intent");
    let state = WindowState::of(&chain);
    assert_eq!(state.manifest, intents.first().copied());
    assert!(state.manifest.is_some() || (state.loaded.is_none() && state.failures.is_empty()));
    if let Some(manifest) = state.manifest {
        assert!(manifest.adds_up());
        let _ = (manifest.window.to_string(), manifest.window.key(), manifest.window.covers_whole_days());
        for staged in &manifest.partitions {
            check_ids(staged, state.generation(staged.partition));
        }
    }
});

/// Whatever the journal says, the ids that go out are ids.
fn check_ids(staged: &StagedPartition, generation: u32) {
    let table = TableId::new("api2gbq", "LANL", "my ünï flows");
    let job = load_job_id("flows", &table, staged.partition, None, generation, &staged.logical_hash);
    assert!(is_job_id(&job), "{job}");
    let partition = table.partition(staged.partition);
    let (name, day) = address("api2gbq", "LANL", &partition.decorated()).expect("a day of the calendar");
    assert_eq!((name.as_str(), day), ("api2gbq.LANL.my ünï flows", Some(staged.partition.to_string())));
}
