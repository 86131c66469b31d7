//! How much a body may be, and how much more than what was sent for it: a small one may unpack to anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::error::{Error, Result};

/// Limits on one body.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes after unpacking.
    pub bytes_max: u64,
    /// Unpacked bytes by packed bytes, once it is clear that the body is not just small.
    pub ratio_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes_max: 256 << 30, ratio_max: 500 }
    }
}

/// 16 MiB: a body that short cannot fill anything.
const RATIO_FROM_BYTES: u64 = 16 << 20;

/// Packed bytes taken so far; counted where they come in.
pub(super) type Packed = Arc<AtomicU64>;

/// Ends `stream` with an error where it passes a limit. Without `packed` it came as it is.
pub(super) fn limited(
    stream: BoxStream<'static, Result<Bytes>>,
    limits: Limits,
    packed: Option<Packed>,
) -> BoxStream<'static, Result<Bytes>> {
    let state = Some((stream, 0u64));
    let limited = futures::stream::unfold(state, move |state| {
        let packed = packed.clone();
        async move {
            let (mut stream, mut bytes) = state?;
            let next = match stream.next().await? {
                Ok(next) => next,
                Err(error) => return Some((Err(error), None)),
            };
            bytes += next.len() as u64;
            match check(bytes, packed.map(|p| p.load(Ordering::Relaxed)), limits) {
                Ok(()) => Some((Ok(next), Some((stream, bytes)))),
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    limited.boxed()
}

fn check(bytes: u64, packed: Option<u64>, limits: Limits) -> Result<()> {
    if bytes > limits.bytes_max {
        return Err(Error::failed(format!(
            "the body goes beyond a limit: it has more than {} MiB (body_too_large)",
            limits.bytes_max >> 20
        ))
        .hint("`limits.body_mib_max` sets the limit; shorter windows have shorter bodies"));
    }
    let packed = packed.unwrap_or(bytes);
    if bytes > RATIO_FROM_BYTES && bytes / packed.max(1) >= limits.ratio_max {
        return Err(Error::failed(format!(
            "the body goes beyond a limit: it unpacks to over {} times its size (unpack_ratio)",
            limits.ratio_max
        ))
        .hint("`limits.unpack_ratio_max` sets the limit, if the source is right"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_end_a_body_and_small_ones_may_unpack_as_they_like() {
        let limits = Limits { bytes_max: 64 << 20, ratio_max: 100 };
        assert!(check(64 << 20, None, limits).is_ok());
        assert!(check((64 << 20) + 1, None, limits).is_err());
        assert!(check(16 << 20, Some(1), limits).is_ok());
        assert!(check(32 << 20, Some(1 << 20), limits).is_ok());
        assert!(check(32 << 20, Some(200 << 10), limits).is_err());
    }
}
