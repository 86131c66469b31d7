#![no_main]

use api2bq_fuzz::bodies::{Input, decode};
use api2bq_fuzz::schema::Format;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(input) = Input::new(data) {
        let _ = decode(Format::Xml, &input);
    }
});
