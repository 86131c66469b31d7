//! URLs as people may see them, and where emulators are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

/// True for what is meant as a URL, well written or not, and false for a path.
///
/// `https:/user:secret@host` is a mistake, and no path: treated as one it would be shown in full.
pub fn is_url(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once(':') else { return false };
    let mut chars = scheme.chars();
    // One letter is a drive.
    scheme.len() > 1
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// A URL for people: without user, password and query, which may hold secrets.
pub fn redacted(url: &str) -> String {
    if !is_url(url) && !url.contains("://") {
        return url.to_owned();
    }
    let Some(mut url) = Url::parse(url).ok().filter(|_| url.contains("://")) else {
        // Not a URL: show at most its scheme and say so.
        return url.split_once(':').map_or_else(String::new, |(scheme, _)| format!("{scheme}:…"));
    };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string().replace("%7B", "{").replace("%7D", "}")
}

/// True for this machine itself.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// What a run must not show, to be taken out of texts by others: some servers repeat the request in
/// their errors.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

/// Shorter ones are no secrets, and texts without them would be riddled with holes.
const SECRET_CHARS_MIN: usize = 5;

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets {{ {} }}", self.0.len())
    }
}

impl Secrets {
    /// A value, and each word of it, as in `Bearer …`: as they are, percent-encoded and as in a form.
    pub fn add(&mut self, value: &str) {
        for word in std::iter::once(value).chain(value.split_ascii_whitespace()) {
            let encoded: String = word
                .bytes()
                .map(|b| match b {
                    b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
                    b => format!("%{b:02X}"),
                })
                .collect();
            let form = url::form_urlencoded::byte_serialize(word.as_bytes()).collect();
            for spelling in [word.to_owned(), encoded, form] {
                if spelling.chars().count() >= SECRET_CHARS_MIN && !self.0.contains(&spelling) {
                    self.0.push(spelling);
                }
            }
        }
        // A secret may hold another one; the longer one goes first, so that nothing of it is left.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// A header's value, each word of it, and what is packed in one as in `Basic dXNlcjpwYXNz`.
    pub fn add_header(&mut self, value: &str) {
        self.add(value);
        for word in value.split_ascii_whitespace() {
            let unpacked = STANDARD.decode(word).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            unpacked.iter().flat_map(|pair| pair.split(':')).for_each(|part| self.add(part));
        }
    }

    /// User, password and query values of a URL, and the first two as Basic authentication sends them.
    pub fn add_url(&mut self, url: &Url) {
        let decoded = |text: &str| {
            let pair = format!("={}", text.replace('+', "%2B"));
            let mut pairs = url::form_urlencoded::parse(pair.as_bytes());
            pairs.next().map_or_else(String::new, |(_, value)| value.into_owned())
        };
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        for text in [user, password] {
            self.add(text);
            self.add(&decoded(text));
        }
        if !user.is_empty() || !password.is_empty() {
            self.add(&STANDARD.encode(format!("{}:{}", decoded(user), decoded(password))));
        }
        for pair in url.query().unwrap_or_default().split('&') {
            self.add(pair.split_once('=').map_or(pair, |(_, value)| value));
        }
        url.query_pairs().for_each(|(_, value)| self.add(&value));
    }

    /// `text` with `…` for every secret.
    pub fn taken_out_of(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

/// The base URL that an emulator variable names; without a scheme it is http.
pub fn emulator_url(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|host| !host.is_empty()).map(|host| base_url(&host))
}

fn base_url(host: &str) -> String {
    let url = if host.contains("://") { host.to_owned() } else { format!("http://{host}") };
    // An emulator asks for no user and no password; the HTTP client would write them into its log.
    let url = if url.contains(['@', '?', '#']) { redacted(&url) } else { url };
    url.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_repeats_of_the_request_is_taken_out() {
        let mut secrets = Secrets::default();
        secrets
            .add_url(&Url::parse("https://us%40er1:pass%2Bw%20rd@h/?key=t%2Fok%20en&day=3").expect("a URL"));
        secrets.add("Bearer abcdef");
        let said = "no us@er1 or pass+w rd or us%40er1, t/ok en, t%2Fok+en, Basic dXNAZXIxOnBhc3MrdyByZA== and \
                    abcdef on day 3";
        let shown = secrets.taken_out_of(said);
        assert_eq!(shown, "no … or … or …, …, …, Basic … and … on day 3");
    }

    #[test]
    fn the_base_of_an_emulator_is_a_plain_url() {
        assert_eq!(base_url("localhost:9050"), "http://localhost:9050");
        assert_eq!(base_url("https://localhost:9050/bigquery/v2/"), "https://localhost:9050/bigquery/v2");
        assert_eq!(base_url("http://user:secret@127.0.0.1:1?x=secret"), "http://127.0.0.1:1");
    }

    #[test]
    fn secrets_in_a_url_are_not_shown() {
        let shown = redacted("https://user:secret@api.example/v1?token=secret&x={after}");
        assert_eq!(shown, "https://api.example/v1");
        for wrong in
            ["ht!tp://user:secret@x", "https:/user:secret@x", "https:-/user:secret@x", "http:user:secret"]
        {
            assert!(!redacted(wrong).contains("secret"), "{wrong}");
        }
        for path in ["./a:b", "/tmp/flows-{day}.txt", "flows.xml", "C:\\flows"] {
            assert_eq!(redacted(path), path);
        }
    }
}
