//! Credentials: a service account's key, a user's login, or the machine's own identity.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::error::BQError;
use serde::Deserialize;
use yup_oauth2::authenticator::{ApplicationDefaultCredentialsTypes, DefaultAuthenticator};

use crate::error::{Error, Result};

const SCOPE: &str = "https://www.googleapis.com/auth/bigquery";
const HINT: &str = "set GOOGLE_APPLICATION_CREDENTIALS to a service account's key file, run \
    `gcloud auth application-default login`, or set BIGQUERY_EMULATOR_HOST for `api2bq emulator`";

/// Emulators take any token and check none.
#[derive(Clone)]
struct NoCredentials;

#[async_trait]
impl Authenticator for NoCredentials {
    async fn access_token(&self) -> Result<String, BQError> {
        Ok("emulator".into())
    }
}

#[derive(Clone)]
struct Google {
    oauth: DefaultAuthenticator,
    /// Where nothing answers for the machine, it has no identity; a key's owner may only be away.
    is_known: Arc<AtomicBool>,
}

#[async_trait]
impl Authenticator for Google {
    async fn access_token(&self) -> Result<String, BQError> {
        match self.oauth.token(&[SCOPE]).await {
            Ok(token) => {
                self.is_known.store(true, Ordering::Relaxed);
                token.token().map(str::to_owned).ok_or(BQError::NoToken)
            }
            Err(error) if self.is_known.load(Ordering::Relaxed) => Err(error.into()),
            Err(error) => {
                Err(BQError::InvalidApplicationDefaultCredentialsAuthenticator(io::Error::other(error)))
            }
        }
    }
}

pub(super) fn none() -> Arc<dyn Authenticator> {
    Arc::new(NoCredentials)
}

/// Application default credentials, in Google's own order: the variable, gcloud's file, the machine.
pub(super) async fn application_default() -> Result<Arc<dyn Authenticator>> {
    let named =
        std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").filter(|v| !v.is_empty()).map(PathBuf::from);
    let gcloud = std::env::var_os("HOME")
        .map(|home| PathBuf::from(home).join(".config/gcloud/application_default_credentials.json"))
        .filter(|path| path.exists());
    let (oauth, is_known) = match named.or(gcloud) {
        Some(path) => (from_file(&path).await?, true),
        None => (from_machine().await?, false),
    };
    Ok(Arc::new(Google { oauth, is_known: Arc::new(AtomicBool::new(is_known)) }))
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

async fn from_file(path: &std::path::Path) -> Result<DefaultAuthenticator> {
    let shown = path.display();
    // serde's messages can quote what they read, so the cause of a bad file is not passed on.
    let bad = || Error::usage(format!("credentials file `{shown}` is not one that Google writes")).hint(HINT);
    let text = tokio::fs::read_to_string(path).await.map_err(|e| {
        Error::usage(format!("cannot read credentials file `{shown}`")).caused_by(e).hint(HINT)
    })?;
    let Kind { kind } = serde_json::from_str(&text).map_err(|_| bad())?;
    let built = match kind.as_str() {
        "service_account" => {
            let key = yup_oauth2::parse_service_account_key(text.as_bytes()).map_err(|_| bad())?;
            yup_oauth2::ServiceAccountAuthenticator::builder(key).build().await
        }
        "authorized_user" => {
            let secret = serde_json::from_str(&text).map_err(|_| bad())?;
            yup_oauth2::AuthorizedUserAuthenticator::builder(secret).build().await
        }
        other => {
            return Err(Error::usage(format!("credentials file `{shown}` is of type `{other}`"))
                .hint("use a key of type `service_account`, or a login of type `authorized_user`"));
        }
    };
    built.map_err(|_| bad())
}

async fn from_machine() -> Result<DefaultAuthenticator> {
    let options = yup_oauth2::ApplicationDefaultCredentialsFlowOpts::default();
    let built = match yup_oauth2::ApplicationDefaultCredentialsAuthenticator::builder(options).await {
        ApplicationDefaultCredentialsTypes::InstanceMetadata(machine) => machine.build().await,
        ApplicationDefaultCredentialsTypes::ServiceAccount(account) => account.build().await,
    };
    built.map_err(|e| Error::usage("no Google credentials found").caused_by(e).hint(HINT))
}

/// Why there is no token, where that may pass: nobody was there who gives any. What the credentials' owner
/// says of them is not among it.
pub(super) fn weather(error: &BQError) -> Option<&'static str> {
    use yup_oauth2::Error as Oauth;
    match error {
        BQError::YupAuthError(Oauth::HttpError(_) | Oauth::HttpClientError(_) | Oauth::LowLevelError(_)) => {
            Some("Google's token endpoint cannot be reached")
        }
        // What a proxy on the way answers, and a server in a bad moment.
        BQError::YupAuthError(Oauth::JSONError(_) | Oauth::MissingAccessToken) | BQError::NoToken => {
            Some("what answers for Google's token endpoint gives no token")
        }
        BQError::YupAuthError(Oauth::AuthError(error)) => match error.error.as_str() {
            "internal_failure" | "server_error" | "temporarily_unavailable" => {
                Some("Google's token endpoint fails")
            }
            _ => None,
        },
        _ => None,
    }
}

/// What to say when no token could be had, for good.
pub(super) fn no_token(error: &BQError) -> Error {
    let why = match error {
        BQError::AuthError(_) | BQError::YupAuthError(_) => "the Google credentials were refused",
        _ => "no Google credentials found",
    };
    Error::usage(why).hint(HINT)
}
