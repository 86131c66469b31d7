//! What BigQuery promises, asked by Google's own clients: `tests/python/contract` against the embedded
//! server, or against the real service where API2BQ_CONTRACT_PROJECT names a project.

use std::path::Path;
use std::process::Command;

use crate::context::{Ended, TestContext, interpreter};

/// One test for each file, so that they run side by side and fail by name.
macro_rules! contract {
    ($($name:ident)*) => {
        const FILES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { holds(stringify!($name)); })*
    };
}

contract! {
    copy
    duckdb
    extract
    history
    iam
    information_schema
    insert_all
    jobs
    load_text
    queries
    rare_types
    round_trip
    service
    statements
    storage
    tables
    uploads
    values
}

#[test]
fn every_file_of_the_contract_is_run() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/contract");
    let entries = std::fs::read_dir(dir).expect("the contract's folder");
    let names = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut found: Vec<String> =
        names.filter_map(|n| Some(n.strip_prefix("test_")?.strip_suffix(".py")?.to_owned())).collect();
    found.sort();
    let mut run = FILES.to_vec();
    run.sort_unstable();
    assert_eq!(found, run);
}

#[track_caller]
fn holds(name: &str) {
    let context = TestContext::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/python/contract/test_{name}.py"));
    let mut pytest = Command::new(interpreter());
    pytest.args(["-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]).arg(file);
    pytest.env("PYTHONDONTWRITEBYTECODE", "1");
    let emulator = std::env::var_os("API2BQ_CONTRACT_PROJECT").is_none().then(|| context.emulator());
    if let Some(emulator) = &emulator {
        // Both services are on one port.
        pytest.env("BIGQUERY_EMULATOR_HOST", &emulator.url).env("STORAGE_EMULATOR_HOST", &emulator.url);
    }
    let ended: Ended = pytest.output().expect("Python starts").into();
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
}
