#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use api2bq_fuzz::config::Pipeline;

/// A folder in memory, where there is one, with the SQL files that a pipeline.toml names by default.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = parent.join(format!("api2bq-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        for name in ["stage.sql", "promote.sql"] {
            std::fs::write(folder.join(name), "SELECT 1").expect("written");
        }
        folder
    })
}

// The first line is a `--set`, the rest the file.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let set: Vec<String> = match std::str::from_utf8(&data[..end]) {
        Ok(pair) if !pair.is_empty() => vec![pair.to_owned()],
        _ => Vec::new(),
    };
    let path = folder().join("pipeline.toml");
    std::fs::write(&path, data.get(end + 1..).unwrap_or_default()).expect("written");
    let Ok(pipeline) = Pipeline::resolve(path.to_str().expect("UTF-8"), &set) else { return };
    let _ = (pipeline.headers(), pipeline.limits.retry());
    for setting in pipeline.settings().iter().filter(|setting| setting.key.ends_with(".url")) {
        let shown: String = serde_json::from_str(&setting.value).unwrap_or_default();
        // Whatever is no path shows where it is and nothing else.
        if api2bq_fuzz::location::is_url(&shown)
            && let Ok(url) = url::Url::parse(&shown)
        {
            let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
            assert!(bare, "{setting:?} shows more than where it is");
        }
    }
});
