//! Compressed answers (RFC 9110, section 8.4.1.3): large ones, to clients that take them.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, header};
use hyper::body::Frame;

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
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::new(Compressed::new(body)))
}

fn accepts(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = quality.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && quality.unwrap_or(1.0) > 0.0
    })
}

/// A compressed body: as much of the other is taken as the client takes of this one.
struct Compressed {
    body: Body,
    /// Nothing once it has come to its end.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Compressed {
    fn new(body: Body) -> Self {
        Self { body, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl HttpBody for Compressed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let mut taken = 0;
        while let Some(encoder) = &mut this.encoder {
            if !encoder.get_ref().is_empty() {
                let piece = std::mem::take(encoder.get_mut());
                return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
            }
            if taken > CHUNK {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let piece = frame.into_data().unwrap_or_default();
                    taken += piece.len();
                    if let Err(error) = encoder.write_all(&piece) {
                        return Poll::Ready(Some(Err(axum::Error::new(error))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let end = this.encoder.take().map_or_else(|| Ok(Vec::new()), GzEncoder::finish);
                    let end = end.map(|end| Frame::data(end.into())).map_err(axum::Error::new);
                    return Poll::Ready(Some(end));
                }
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Read;

    use http_body_util::BodyExt;

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

    #[tokio::test]
    async fn what_comes_out_is_what_went_in() {
        for length in [0, 1, CHUNK, 40 * CHUNK + 7] {
            let text: Vec<u8> = (0..length).map(|n| (n * n / 7 % 251) as u8).collect();
            let pieces: Vec<Result<Bytes, Infallible>> =
                text.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let body = Body::from_stream(futures::stream::iter(pieces));
            let compressed = Compressed::new(body).collect().await.unwrap().to_bytes();
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut read).unwrap();
            assert!(read == text, "{length}");
        }
    }
}
