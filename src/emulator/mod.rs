//! stand-in
// temporary stand-in until the emulator branch lands
pub struct Options {
    pub listen: std::net::SocketAddr,
    pub data_dir: std::path::PathBuf,
    pub engine: crate::engine::Engine,
}
pub async fn start(_options: Options) -> crate::error::Result<crate::serve::Server> {
    Err(crate::error::Error::failed("x"))
}
