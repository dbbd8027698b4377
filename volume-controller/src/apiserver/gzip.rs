//! Compressed answers (RFC 9110, section 8.4.1.3): large ones, to clients that take them.

use std::io::Write;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, header};

use super::status::ApiError;

/// Answers below this many bytes go out as they are; upstream's limit.
const AT_LEAST: u64 = 128 * 1024;
/// How many bytes are compressed in one go: others must get their turn in between.
const CHUNK: usize = 64 * 1024;

/// Compresses what `next` answers where that is wanted and pays. Watches have no length and
/// are left alone: their events must not wait for more of them.
pub(crate) async fn compress(request: Request, next: Next) -> Response {
    let is_wanted = request.method() == Method::GET && accepts(request.headers());
    let response = next.run(request).await;
    let length = response.body().size_hint().exact();
    let is_plain = !response.headers().contains_key(header::CONTENT_ENCODING);
    if !is_wanted || !is_plain || length.is_none_or(|length| length < AT_LEAST) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // It is in memory already: that is how its length is known.
    let bytes = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return ApiError::Internal(format!("cannot read the answer: {error}")).into_response(),
    };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from_stream(stream::iter(Compressed::new(bytes))))
}

fn accepts(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = quality.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && quality.unwrap_or(1.0) > 0.0
    })
}

/// The pieces of a compressed body.
struct Compressed {
    rest: Bytes,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Compressed {
    fn new(rest: Bytes) -> Self {
        Self { rest, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl Iterator for Compressed {
    type Item = Result<Bytes, std::io::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut encoder = self.encoder.take()?;
        while encoder.get_ref().is_empty() && !self.rest.is_empty() {
            let piece = self.rest.split_to(self.rest.len().min(CHUNK));
            if let Err(error) = encoder.write_all(&piece) {
                return Some(Err(error));
            }
        }
        if self.rest.is_empty() {
            return Some(encoder.finish().map(Bytes::from));
        }
        let piece = std::mem::take(encoder.get_mut());
        self.encoder = Some(encoder);
        Some(Ok(piece.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn who_takes_it() {
        for (value, expected) in
            [("gzip", true), ("br, GZIP;q=0.5", true), ("gzip;q=0", false), ("deflate", false), ("", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(accepts(&headers), expected, "{value}");
        }
        assert!(!accepts(&HeaderMap::new()));
    }

    #[test]
    fn what_comes_out_is_what_went_in() {
        for length in [0, 1, CHUNK, 40 * CHUNK + 7] {
            let text: Vec<u8> = (0..length).map(|n| (n * n / 7 % 251) as u8).collect();
            let pieces: Vec<Bytes> = Compressed::new(text.clone().into()).map(Result::unwrap).collect();
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(pieces.concat().as_slice()).read_to_end(&mut read).unwrap();
            assert!(read == text, "{length}");
        }
    }
}
