#![no_main]

use api2bq_fuzz::bodies::{Input, decode, repeated};
use api2bq_fuzz::schema::Format;

// Records that are written alike, which the decoders read by a shortcut, and one among them that is not
// quite: with and without the shortcut the outcome must be the same.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((control, data)) = data.split_at_checked(6) else { return };
    for format in [Format::Xml, Format::Ndjson, Format::Json] {
        let body = repeated(format, data, control[4], control[5]);
        if let Some(input) = Input::new(&[&control[..4], &body].concat()) {
            let _ = decode(format, &input);
        }
    }
});
