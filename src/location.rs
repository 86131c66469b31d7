//! URLs as people may see them, and where emulators are.

use url::Url;

/// A URL for people: without user, password and query, which may hold secrets.
pub fn redacted(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        // Not a URL: show at most its scheme and say so.
        return url.split_once("://").map_or_else(|| url.to_owned(), |(scheme, _)| format!("{scheme}://…"));
    };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string().replace("%7B", "{").replace("%7D", "}")
}

/// The base URL that an emulator variable names; without a scheme it is http.
pub fn emulator_url(variable: &str) -> Option<String> {
    let host = std::env::var(variable).ok().filter(|host| !host.is_empty())?;
    let url = if host.contains("://") { host } else { format!("http://{host}") };
    Some(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_url_are_not_shown() {
        let shown = redacted("https://user:secret@api.example/v1?token=secret&x={after}");
        assert_eq!(shown, "https://api.example/v1");
        assert!(!redacted("ht!tp://user:secret@x").contains("secret"));
    }
}
