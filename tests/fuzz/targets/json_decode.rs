#![no_main]

use api2bq_fuzz::bodies::{Input, decode};
use api2bq_fuzz::schema::Format;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let lines = decode(Format::Ndjson, &input);
    let sequence = decode(Format::Json, &input);
    // Lines that are all rows are also objects one after the other.
    if let (Ok(lines), Ok(sequence)) = (lines, sequence)
        && lines.counts.rejects == 0
        && lines.counts.records > 0
    {
        assert_eq!(lines.rows, sequence.rows);
    }
});
