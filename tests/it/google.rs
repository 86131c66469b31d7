//! Google's own system tests for its Python client, unmodified, against the embedded server.

use std::path::Path;
use std::process::Command;

use crate::context::TestContext;

/// `API2BQ_GOOGLE=1 cargo test google:: -- --nocapture`: not every day, it installs pandas and a hundred
/// other packages and takes minutes.
#[test]
fn what_passed_of_googles_system_tests_still_passes() {
    if std::env::var_os("API2BQ_GOOGLE").is_none() {
        return;
    }
    let context = TestContext::new();
    let emulator = context.emulator();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/google/run.py");
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("google");
    let status = Command::new("python3").arg(script).arg(work).arg(&emulator.url).status();
    assert!(status.expect("the tests need Python 3").success(), "see what run.py printed");
}
