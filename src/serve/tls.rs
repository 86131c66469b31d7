//! TLS for a server: a certificate and its key from two PEM files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls_pki_types::pem::{Error as PemError, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{Error as TlsError, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::error::{Error, Result};

/// What a server shows its clients, and proves. All clones share it.
#[derive(Clone)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls {{ certificate: {:?}, key: {:?} }}", self.certificate, self.key)
    }
}

/// Each handshake starts with a record of this kind, and no request of HTTP does.
const HANDSHAKE: u8 = 0x16;

impl Tls {
    /// Reads a certificate, with those it was signed by behind it, and its key.
    pub fn read(certificate: &Path, key: &Path) -> Result<Tls> {
        let config = Arc::new(Mutex::new(read(certificate, key)?));
        Ok(Tls { certificate: certificate.to_owned(), key: key.to_owned(), config })
    }

    /// Reads both files again. After an error connections are served with what there was.
    pub fn reload(&self) -> Result<()> {
        let config = read(&self.certificate, &self.key)?;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Shakes hands. `None`: the client speaks something else, or nothing that is safe, and was told so.
    pub(super) async fn accept(&self, mut stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] != HANDSHAKE => {
                refuse_plaintext(&mut stream).await;
                return None;
            }
            Ok(1) => {}
            _ => return None,
        }
        let config = Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner));
        let accepted = TlsAcceptor::from(config).accept(stream).await;
        accepted.inspect_err(|error| tracing::debug!(%error, "no TLS handshake")).ok()
    }
}

/// In words that its log will show. What else it sends is read, or else the answer might be lost.
async fn refuse_plaintext(stream: &mut TcpStream) {
    const TEXT: &str = "this port speaks TLS: ask for https://\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{TEXT}",
        TEXT.len()
    );
    if stream.write_all(answer.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        let (mut rest, mut nowhere) = (stream.take(1 << 20), tokio::io::sink());
        // A client that is still sending then has had its time.
        let reading = tokio::io::copy(&mut rest, &mut nowhere);
        let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let certificates = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let certificates: Vec<_> = certificates.map_err(|e| unreadable("certificate", certificate, e))?;
    if certificates.is_empty() {
        return Err(unreadable("certificate", certificate, PemError::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable("private key", key, e))?;
    warn_if_public(key);
    let (shown, key_shown) = (certificate.display(), key.display());
    let wrong = |error: TlsError| match error {
        TlsError::InconsistentKeys(_) => {
            Error::usage(format!("the key `{key_shown}` is not that of the certificate `{shown}`"))
                .hint("the first certificate in the file must be the server's own")
        }
        TlsError::InvalidCertificate(_) => {
            Error::usage(format!("`{shown}` holds no X.509 certificate")).caused_by(error)
        }
        // Nothing of a key is shown, not even by others.
        _ => Error::usage(format!("`{key_shown}` holds no key that TLS can use"))
            .hint("an RSA key of 2048 bits or more, or an ECDSA key on P-256 or P-384, or Ed25519"),
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
    let mut config = builder.with_no_client_auth().with_single_cert(certificates, private).map_err(wrong)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn unreadable(what: &str, path: &Path, error: PemError) -> Error {
    let shown = path.display();
    match error {
        PemError::Io(error) => Error::usage(format!("cannot read the {what} in `{shown}`")).caused_by(error),
        // The others show lines of the file.
        _ => Error::usage(format!("there is no {what} in `{shown}`"))
            .hint("it is a file in PEM: `-----BEGIN …` and base64 behind it"),
    }
}

/// Who can read the key can be the server.
fn warn_if_public(key: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(key).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o007 != 0 {
            tracing::warn!(key = %key.display(), mode = format!("{:o}", mode & 0o777), "every user of this machine can read the key of the server; `chmod 600` it");
        }
    }
    #[cfg(not(unix))]
    let _ = key;
}
